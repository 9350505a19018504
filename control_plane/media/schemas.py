"""What the media routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from control_plane.access.schemas import Body
from instance_agent.protocol import MAX_MEDIA_BYTES


class MediaIn(Body):
    """`name` is for display; what the bytes are is told by themselves."""

    size: Annotated[int, Field(ge=1, le=MAX_MEDIA_BYTES, description="Bytes.")]
    name: Annotated[str, Field(max_length=500)] = ""


class ReservedOut(BaseModel):
    """PUT the bytes to `upload_url`, a path at this address, before `expires_at`."""

    media_id: UUID
    name: str
    upload_url: str
    expires_at: datetime


class MediaOut(BaseModel):
    """A stored object; `sha256` is hexadecimal."""

    media_id: UUID
    name: str
    size: int
    content_type: str
    sha256: str
