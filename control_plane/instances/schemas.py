"""What the instance routes take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, StringConstraints

from control_plane.access.schemas import Body
from control_plane.access.view import Words

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Drift = Literal["any", "generation", "configuration", "objects"]
Phase = Literal[
    "pending",
    "starting",
    "configuring",
    "connecting",
    "running",
    "degraded",
    "crash_loop",
    "stopping",
    "stopped",
    "hibernated",
    "deleting",
]


class InstanceIn(Body):
    name: Name


class ConditionOut(BaseModel):
    """One thing that must hold for the instance to run; `status` is true or false."""

    type: str
    status: bool
    reason: str
    message: str
    at: datetime


class InstanceOut(BaseModel):
    """Desired (`desired`, `generation`) beside observed (`phase`, `observed_generation`).

    `asleep_at`: since when it has been asleep, or is on its way there; the next message wakes it.
    `suspended_at`: since when an operator lets it rest, and why. `drift` is what is not as it
    should be: a `generation` that no look has seen yet, another `configuration` than the agent
    runs, `objects` around the agent (or what it may use) that its place would make differently now.
    """

    id: UUID
    tenant_id: UUID
    tenant: str
    name: str
    desired: str
    generation: int
    observed_generation: int
    phase: str
    release: int | None
    drift: list[str]
    conditions: list[ConditionOut]
    asleep_at: datetime | None
    suspended_at: datetime | None
    suspended_reason: str | None
    created_at: datetime
    updated_at: datetime


class TimelineConversationOut(BaseModel):
    """The conversation that a line is about; `contact_name` is what members call the contact."""

    id: UUID
    channel_kind: str
    contact_name: Words | None


class SuspensionIn(Body):
    """Why; its tenant reads it."""

    reason: Reason


class PhaseCountOut(BaseModel):
    phase: str
    count: int


class ReleaseCountOut(BaseModel):
    """`release` is null for those that are what their place is configured with."""

    release: int | None
    count: int


class FleetOut(BaseModel):
    """All bots that the caller may see, counted, most first."""

    total: int
    drifted: int
    suspended: int
    phases: list[PhaseCountOut]
    releases: list[ReleaseCountOut]


class TimelineOut(BaseModel):
    """`conversation.begin` and `conversation.owner` are about a conversation, all else about the
    bot. `member_name`: who answers there from then on."""

    id: UUID
    at: datetime
    type: str
    message: str
    data: dict[str, Any]
    conversation: TimelineConversationOut | None
    member_name: str | None


class LogsOut(BaseModel):
    """The end of the log, oldest line first."""

    lines: list[str]
