"""What the routes of routing take and give, and the document of a tenant's settings."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StringConstraints

from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.routing.choosing import MAX_LEVEL
from control_plane.routing.hours import Hours

# Skills that a tenant tells apart, and channels that ask for one.
MAX_SKILLS = 100
MAX_NEEDS = 200
# Conversations that one member has at once; nobody reads more.
MAX_CAPACITY = 200
# Characters of what customers are told, and of a note to a colleague.
MAX_TEXT = 1000
# Minutes: a day, and a week.
DAY = 1440
WEEK = 7 * DAY
# Below this a reload of the page would look like leaving.
MIN_AWAY = 2
# A question is answered within a week, or it was not read.
MAX_RATING_HOURS = 168


State = Literal["online", "busy", "away", "offline"]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_TEXT)]


def _number(given: Any) -> Any:
    """A word or a truth is no number, though the library would take one for it."""
    if isinstance(given, str | bool):
        raise ValueError("this is no number")
    return given


# Behind the bounds, which the document would lose otherwise.
WHOLE = BeforeValidator(_number)
Weight = Annotated[int, Field(ge=0, le=100), WHOLE]
Capacity = Annotated[int, Field(ge=1, le=MAX_CAPACITY), WHOLE]
Level = Annotated[int, Field(ge=1, le=MAX_LEVEL), WHOLE]


class Skill(Body):
    """`key` is what members and channels name; `name` is what people read."""

    key: Key
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


class Need(Body):
    """What comes in on a channel asks for a skill."""

    channel_id: UUID
    skill: Key


class Weights(Body):
    """How much each counts: the skill's level, room, working hours, online, known to them."""

    skill: Weight = 3
    load: Weight = 3
    hours: Weight = 1
    state: Weight = 2
    known: Weight = 2


class Closing(Body):
    """After so many minutes in which the customer does not answer; 0 is never.

    `warning` is said `warn_before_min` earlier; an empty one is not said.
    """

    after_min: Annotated[int, Field(ge=0, le=WEEK), WHOLE] = 0
    warning: Text = ""
    warn_before_min: Annotated[int, Field(ge=1, le=DAY), WHOLE] = 5


class Rating(Body):
    """Asked behind a close; an empty `question` is not asked. The answer is a number, 1 to 5."""

    question: Text = ""
    thanks: Text = ""
    within_h: Annotated[int, Field(ge=1, le=MAX_RATING_HOURS), WHOLE] = 24


class Routing(Body):
    """Everything that a tenant says of routing; what is left out is as shown here.

    While it is not `enabled`, nobody is given anything. A skill, or the member to whom something
    was handed, is insisted on for `patience_min`. An empty text is not said. `place_text` has
    `{place}` in it.
    """

    enabled: StrictBool = False
    capacity: Capacity = 5
    away_after_min: Annotated[int, Field(ge=MIN_AWAY, le=DAY), WHOLE] = 10
    patience_min: Annotated[int, Field(ge=0, le=DAY), WHOLE] = 5
    busy_takes: StrictBool = False
    weights: Weights = Weights()
    skills: list[Skill] = Field(default_factory=list, max_length=MAX_SKILLS)
    needs: list[Need] = Field(default_factory=list, max_length=MAX_NEEDS)
    hours: Hours | None = None
    closed_text: Text = ""
    place_text: Text = ""
    place_every_min: Annotated[int, Field(ge=1, le=DAY), WHOLE] = 5
    closing: Closing = Closing()
    rating: Rating = Rating()


class RoutingIn(Routing):
    """The whole document; with `version` only if it is still the one that was read."""

    version: Annotated[int, Field(ge=0), WHOLE] | None = None


class RoutingOut(Routing):
    """`open`: whether it is within the working hours now."""

    version: int
    updated_at: datetime | None
    open: bool


class StateIn(Body):
    """Who does not show themselves on a socket is `away` after a while, whatever they said."""

    state: State


class AbilityIn(Body):
    """What a member may be given; `shift` are hours of their own, null the tenant's."""

    capacity: Capacity | None = None
    skills: dict[str, Level] = Field(default_factory=dict, max_length=MAX_SKILLS)
    shift: Hours | None = None


class RoutingMemberOut(BaseModel):
    """`state` is how they are now, `said` what they said; `capacity` is what counts for them."""

    member_id: UUID
    name: str
    state: State
    said: State
    state_at: datetime | None
    load: int
    capacity: int
    skills: dict[str, int]
    shift: Hours | None


class WaitOut(BaseModel):
    """`member_id` is whom it was handed to, if that is why it waits."""

    conversation_id: UUID
    channel_id: UUID
    since: datetime
    priority: int
    skill: str | None
    member_id: UUID | None


class QueueOut(BaseModel):
    """The oldest that wait, in the order in which they are given out; `more` if there are."""

    items: list[WaitOut]
    more: bool


class TransferIn(Body):
    """To a member or to whoever has a skill, one of both; with the version that was seen."""

    member_id: UUID | None = None
    skill: Key | None = None
    note: Text = ""
    owner_version: Annotated[int, Field(ge=1), WHOLE] | None = None


class TransferOut(BaseModel):
    """A hand-over between people; it stands behind message `number` of the thread."""

    id: UUID
    conversation_id: UUID
    number: int
    from_member_id: UUID | None
    by_member_id: UUID
    to_member_id: UUID | None
    skill: str | None
    note: Words
    created_at: datetime


class RatingOut(BaseModel):
    """What a customer said of how it was; `member_id` is who answered last."""

    id: UUID
    conversation_id: UUID
    member_id: UUID | None
    asked_at: datetime
    score: int | None
    scored_at: datetime | None


class RatingAverageOut(BaseModel):
    """Of the questions asked in a period: how many, how many answered, and the average of those."""

    member_id: UUID | None
    asked: int
    answered: int
    average: float | None
