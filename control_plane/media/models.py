"""Stored objects."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class MediaState(StrEnum):
    """Reserved, there, or to be removed."""

    PENDING = "pending"
    STORED = "stored"
    GONE = "gone"


class Media(Row, table=True):
    """One object. `expires_at` is when it goes by itself; None once a message uses it.

    `attempt` names the upload that counts; `name` is for display only.
    """

    __tablename__ = "media"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    state: str = MediaState.PENDING
    size: int
    name: str
    source: str
    source_id: UUID
    request_id: str | None = None
    attempt: UUID | None = None
    sha256: bytes | None = None
    content_type: str | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime | None = Field(default=None, sa_type=Timestamp)
