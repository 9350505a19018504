"""What the instance routes take and give."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, StringConstraints

from control_plane.access.schemas import Body
from control_plane.access.view import Words

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


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
    """

    id: UUID
    tenant_id: UUID
    name: str
    desired: str
    generation: int
    observed_generation: int
    phase: str
    conditions: list[ConditionOut]
    asleep_at: datetime | None
    created_at: datetime
    updated_at: datetime


class TimelineConversationOut(BaseModel):
    """The conversation that a line is about; `contact_name` is what members call the contact."""

    id: UUID
    channel_kind: str
    contact_name: Words | None


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
