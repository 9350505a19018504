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


class Conversion(StrEnum):
    """How far a voice that no browser plays is on its way to one that it does."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class Media(Row, table=True):
    """One object. `expires_at` is when it goes by itself; None once a message uses it.

    `attempt` names the upload that counts; `name` is for display only. One that was made from
    another says so in `original_id`, and stays as long as that one.
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
    original_id: UUID | None = None
    conversion: str | None = None
    conversion_error: str | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    expires_at: datetime | None = Field(default=None, sa_type=Timestamp)
