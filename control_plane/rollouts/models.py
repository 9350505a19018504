"""Releases and rollouts: the platform's, with ids and numbers of tenants and nothing of theirs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Release(Row, table=True):
    """What agents are made of; `newcomers` marks the one that new instances get."""

    __tablename__ = "releases"

    id: UUID = Field(primary_key=True)
    number: int
    image: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    note: str = ""
    newcomers: bool = False
    created_at: datetime = Field(sa_type=Timestamp)


class Rollout(Row, table=True):
    """One release on its way to everybody."""

    __tablename__ = "rollouts"

    id: UUID = Field(primary_key=True)
    number: int
    release_id: UUID
    state: str = "running"
    reason: str | None = None
    waves: list[int] = Field(sa_type=Json)
    wave: int = 0
    began: list[str] = Field(default_factory=list, sa_type=Json)
    budget_percent: int
    ready_within_s: int
    watch_s: int
    at_once: int
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)
    ended_at: datetime | None = Field(default=None, sa_type=Timestamp)


class Member(Row, table=True):
    """One instance in a rollout."""

    __tablename__ = "rollout_members"

    rollout_id: UUID = Field(primary_key=True)
    instance_id: UUID = Field(primary_key=True)
    tenant_id: UUID
    wave: int
    state: str = "waiting"
    reason: str | None = None
    before_id: UUID | None = None
    before_phase: str | None = None
    mark: UUID | None = None
    moved_at: datetime | None = Field(default=None, sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)
