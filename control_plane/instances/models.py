"""The instance, its agents' sessions, its timeline."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text
from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Instance(Row, table=True):
    """One tenant's bot: desired and observed.

    `generation` rises when what should run changes; `phase` is computed from the conditions,
    never set by hand; `starts` remembers recent starts and ends, for back-off. Without a release
    the agent is what its place is configured with. One that sleeps has no agent until somebody
    needs one; one that operators suspended has none, whatever its tenant wants. `drift` is what
    the last look found to differ.
    """

    __tablename__ = "instances"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    name: str
    cell: str = ""
    desired: str = "running"
    release_id: UUID | None = None
    generation: int = 1
    observed_generation: int = 0
    phase: str = "pending"
    phase_at: datetime = Field(sa_type=Timestamp)
    conditions: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    starts: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    drift: list[str] = Field(default_factory=list, sa_type=ARRAY(Text))
    session_epoch: int = 0
    secrets_before: datetime | None = Field(default=None, sa_type=Timestamp)
    asleep_at: datetime | None = Field(default=None, sa_type=Timestamp)
    awake_at: datetime = Field(sa_type=Timestamp)
    suspended_at: datetime | None = Field(default=None, sa_type=Timestamp)
    suspended_reason: str | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)

    @property
    def drifts(self) -> list[str]:
        """All that is not as it should be, also what no look has seen yet."""
        unseen = self.observed_generation < self.generation
        return [*(["generation"] if unseen else []), *self.drift]


class AgentSession(Row, table=True):
    """One agent process, from its bootstrap to its end. Tokens are sealed.

    `place` is where at most one process of the instance can be alive; "" where nobody vouches for
    that. `gone_at`: since when its process has surely ended, not only its right to act.
    """

    __tablename__ = "agent_sessions"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    instance_id: UUID
    generation: int
    state: str
    epoch: int | None = None
    endpoint: str
    api_token: bytes
    next_token: bytes | None = None
    token_at: datetime = Field(sa_type=Timestamp)
    journal_id: UUID
    version: str
    schema_version: int
    health: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    place: str = ""
    gone_at: datetime | None = Field(default=None, sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
    seen_at: datetime = Field(sa_type=Timestamp)


class TimelineEntry(Row, table=True):
    """Something that happened to an instance, or to one of its conversations, for people."""

    __tablename__ = "timeline"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    instance_id: UUID
    at: datetime = Field(sa_type=Timestamp)
    type: str
    message: str
    data: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    conversation_id: UUID | None = None
