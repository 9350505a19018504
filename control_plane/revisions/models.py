"""Immutable configuration documents, and where an instance stands with them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Revision(Row, table=True):
    """What people wrote: every section but the channels, which have rows of their own."""

    __tablename__ = "revisions"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    instance_id: UUID
    number: int
    document: dict[str, Any] = Field(sa_type=Json)
    state: str = "draft"
    note: str = ""
    reverts: int | None = None
    created_by: UUID | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    published_at: datetime | None = Field(default=None, sa_type=Timestamp)


class ConfigState(Row, table=True):
    """Five states as revision numbers: desired, delivered, applied, last good, rejected.

    0 is the built-in default. The digests name what was compiled from a revision and the
    channels of that moment.
    """

    __tablename__ = "config_states"

    instance_id: UUID = Field(primary_key=True)
    tenant_id: UUID
    desired: int = 0
    delivered: int | None = None
    delivered_sha256: str | None = None
    applied: int | None = None
    applied_sha256: str | None = None
    last_good: int | None = None
    rejected: int | None = None
    rejected_sha256: str | None = None
    errors: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    pending_restart: bool = False
