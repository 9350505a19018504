"""What the routes of webhooks take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from control_plane.access.schemas import Body
from control_plane.kit.given import Moment
from control_plane.webhooks.events import EVENTS
from control_plane.webhooks.models import MessageState, Reason, WebhookState

# Characters of an address; what is longer is refused by servers on the way.
MAX_URL = 2000

Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_URL)]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
EventName = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(EVENTS)})]
EventNames = Annotated[list[EventName], Field(min_length=1, max_length=len(EVENTS))]


def _known(names: list[str] | None) -> list[str] | None:
    unknown = sorted(set(names or ()) - EVENTS.keys())
    if unknown:
        raise ValueError(f"unknown events: {', '.join(name[:80] for name in unknown)}")
    return sorted(set(names)) if names is not None else None


class WebhookIn(Body):
    """A new endpoint; `GET /webhook-events` lists what `events` can name."""

    url: Url
    description: Description = ""
    events: EventNames

    _check_events = field_validator("events")(_known)


class WebhookPatch(Body):
    """What is left out stays; `enabled` switches an endpoint on or off."""

    url: Url | None = None
    description: Description | None = None
    events: EventNames | None = None
    enabled: StrictBool | None = None

    _check_events = field_validator("events")(_known)


class WebhookOut(BaseModel):
    """An endpoint; `failing_since` is when its receiver began to take nothing."""

    id: UUID
    url: str
    description: str
    events: list[str]
    state: WebhookState
    reason: Reason | None
    old_secret_until: datetime | None
    failing_since: datetime | None
    rest_until: datetime | None
    created_at: datetime
    updated_at: datetime


class WebhookMade(WebhookOut):
    """An endpoint with its new signing secret, which is shown this once."""

    secret: str


class EventOut(BaseModel):
    """What can be subscribed to, by whom, and what its `data` has."""

    name: str
    description: str
    fields: list[str]
    permission: str


class TestOut(BaseModel):
    """How one attempt went, made just now."""

    ok: bool
    status: int | None
    error: str | None
    latency_ms: int


class WebhookMessageOut(BaseModel):
    """One message to an endpoint; `id` is its `webhook-id` header in every attempt."""

    id: UUID
    type: str
    body: str
    state: MessageState
    attempts: int
    due_at: datetime
    ended_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


class ReplayIn(Body):
    """Messages that are dead and were made at or after this moment."""

    since: Moment


class ReplayOut(BaseModel):
    """How many are tried again; call again while `more`."""

    replayed: int
    more: bool
