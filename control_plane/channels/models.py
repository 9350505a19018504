"""A tenant's IM accounts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Channel(Row, table=True):
    """One IM account bound to an instance. `secrets` are the sealed secret settings.

    `public_token` is in the address that the platform calls; it says which channel, and proves
    nothing.
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
    checkpoint: str | None = None
    callback_at: datetime | None = Field(default=None, sa_type=Timestamp)
    callback_refused_at: datetime | None = Field(default=None, sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
    deleted_at: datetime | None = Field(default=None, sa_type=Timestamp)
