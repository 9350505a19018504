"""What the routes of releases and rollouts take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from control_plane.access.schemas import Body

# A wave after which somebody looks is worth it; more are none.
MAX_WAVES = 8
DAY_S = 24 * 3600

Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]
Image = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9._/:-]{0,190}(@sha256:[0-9a-f]{64})?$"),
]
Group = Literal["canary", ""]


def _rising(shares: list[int]) -> list[int]:
    if shares[0] != 0 or shares[-1] != 100 or sorted(set(shares)) != shares:
        raise ValueError("they rise from 0, the canaries, to 100")
    return shares


Waves = Annotated[
    list[Annotated[int, Field(ge=0, le=100)]],
    Field(
        min_length=2,
        max_length=MAX_WAVES,
        description="Shares of all bots in percent up to which each wave goes; 0: the canaries.",
    ),
    AfterValidator(_rising),
]


class ReleaseSettings(Body):
    """Options of all agents; what is not said is the agent's own default."""

    log_level: Literal["debug", "info", "warning", "error"] | None = None
    max_connections: Annotated[int, Field(ge=16, le=65_536)] | None = None


class ReleaseIn(Body):
    image: Image | None = Field(
        default=None, description="None: the image that the place is configured with."
    )
    settings: ReleaseSettings = Field(default_factory=ReleaseSettings)
    note: Note = ""


class ReleaseOut(BaseModel):
    """`newcomers`: new bots get it."""

    id: UUID
    number: int
    image: str | None
    settings: dict[str, str]
    note: str
    newcomers: bool
    created_at: datetime


class RolloutIn(Body):
    """A release to bring out, by number, and how carefully."""

    release: Annotated[int, Field(ge=1, le=2**31 - 1)]
    waves: Waves = Field(default_factory=lambda: [0, 5, 25, 100])
    budget_percent: Annotated[
        int,
        Field(ge=0, le=50, description="Share of those moved that may fail before all go back."),
    ] = 2
    ready_within_s: Annotated[
        int, Field(ge=10, le=DAY_S, description="How long a bot may be unwell after its move.")
    ] = 300
    watch_s: Annotated[
        int, Field(ge=0, le=DAY_S, description="How long a bot is watched before it is good.")
    ] = 600
    at_once: Annotated[
        int, Field(ge=1, le=1000, description="Bots that may be on their way up at a time.")
    ] = 20


class AbortIn(Body):
    roll_back: bool = Field(
        default=False, description="Take back those that are good; otherwise they stay."
    )


class RolloutOut(BaseModel):
    """`members` counts them by state, `members_by_wave` those of each wave; `began` says when each
    wave began.
    """

    id: UUID
    number: int
    release: int
    state: str
    reason: str | None
    waves: list[int]
    wave: int
    began: list[datetime]
    members: dict[str, int]
    members_by_wave: list[dict[str, int]]
    budget_percent: int
    ready_within_s: int
    watch_s: int
    at_once: int
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class RolloutMemberOut(BaseModel):
    """One bot in a rollout; `reason` says why it went back."""

    instance_id: UUID
    tenant_id: UUID
    wave: int
    state: str
    reason: str | None
    moved_at: datetime | None
    updated_at: datetime


class GroupIn(Body):
    group: Group


class GroupOut(BaseModel):
    tenant_id: UUID
    group: Group
