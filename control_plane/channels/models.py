"""A tenant's IM accounts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Channel(Row, table=True):
    """One IM account bound to an instance. `secrets` are the sealed secret settings.

    `public_token` is in the address that the platform calls; it says which channel, and proves
    nothing. `keep_raw`: whether support may see what came of messages that we cannot carry whole.
    """

    __tablename__ = "channels"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    instance_id: UUID
    kind: str
    name: str
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    secrets: bytes
    public_token: str
    state: str = "connecting"
    state_reason: str | None = None
    proof_at: datetime | None = Field(default=None, sa_type=Timestamp)
    said_by: UUID | None = None
    gaps: list[dict[str, str]] = Field(default_factory=list, sa_type=Json)
    checkpoint: str | None = None
    callback_at: datetime | None = Field(default=None, sa_type=Timestamp)
    callback_refused_at: datetime | None = Field(default=None, sa_type=Timestamp)
    keep_raw: bool = True
    created_at: datetime = Field(sa_type=Timestamp)
    deleted_at: datetime | None = Field(default=None, sa_type=Timestamp)


class BlacklistEntry(Row, table=True):
    """Somebody who is not heard; `kind` is empty for all kinds of channels.

    `version` is the list's at the last change of this entry, `hits` the messages it kept away.
    """

    __tablename__ = "blacklist_entries"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    platform_id: str
    kind: str
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    reason: str | None = None
    author_id: UUID
    author_name: str
    version: int
    hits: int = 0
    hit_at: datetime | None = Field(default=None, sa_type=Timestamp)
    expires_at: datetime | None = Field(default=None, sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)
