"""Who gets what waits: a score of each member for each conversation. Pure.

Never somebody who is not there, never more than a member takes. What a conversation asks for, a
member or a skill, is insisted on for the tenant's patience, and only preferred after that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

# A skill's levels, from 1.
MAX_LEVEL = 5

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One conversation that nobody answers.

    `member_id` is whom it was handed to, `known_member_id` who answered there last.
    """

    conversation_id: UUID
    since: datetime
    priority: int = 0
    skill: str | None = None
    member_id: UUID | None = None
    known_member_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A member as they are now: `state` with their absence seen, `load` of `capacity` taken."""

    member_id: UUID
    state: str
    capacity: int
    load: int
    skills: Mapping[str, int] = field(default_factory=dict)
    on_shift: bool = True
    assigned_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The weights of a tenant, and what it insists on."""

    skill: int = 3
    load: int = 3
    hours: int = 1
    state: int = 2
    known: int = 2
    patience: timedelta = timedelta(minutes=5)
    busy_takes: bool = False


def choose(
    waiting: Waiting, members: Sequence[Candidate], rules: Rules, now: datetime
) -> UUID | None:
    """The member with the best score; of equals the one who was given nothing for the longest."""
    insists = now < waiting.since + rules.patience
    able = [one for one in members if _can(one, waiting, rules, insists=insists)]
    if not able:
        return None
    return min(able, key=lambda one: _rank(one, waiting, rules)).member_id


def distribute(
    queue: Sequence[Waiting], members: Sequence[Candidate], rules: Rules, now: datetime
) -> list[tuple[Waiting, UUID]]:
    """Who gets which, in the order of the queue; one that nobody can take holds up no other."""
    left = {one.member_id: one for one in members}
    given = []
    for waiting in in_order(queue):
        chosen = choose(waiting, list(left.values()), rules, now)
        if chosen is not None:
            given.append((waiting, chosen))
            one = left[chosen]
            left[chosen] = replace(one, load=one.load + 1, assigned_at=now)
    return given


def in_order(queue: Sequence[Waiting]) -> list[Waiting]:
    """The higher priority first, and within one who waits longest."""
    return sorted(queue, key=lambda one: (-one.priority, one.since, one.conversation_id))


def _can(one: Candidate, waiting: Waiting, rules: Rules, *, insists: bool) -> bool:
    present = one.state == "online" or (one.state == "busy" and rules.busy_takes)
    if not present or one.load >= one.capacity:
        return False
    if not insists:
        return True
    if waiting.member_id is not None:
        return one.member_id == waiting.member_id
    return waiting.skill is None or waiting.skill in one.skills


def _rank(one: Candidate, waiting: Waiting, rules: Rules) -> tuple[float, datetime, UUID]:
    level = one.skills.get(waiting.skill, 0) if waiting.skill is not None else 0
    wanted = one.member_id in (waiting.member_id, waiting.known_member_id)
    score = (
        rules.skill * level / MAX_LEVEL
        + rules.load * (1 - one.load / one.capacity)
        + rules.hours * one.on_shift
        + rules.state * (one.state == "online")
        + rules.known * wanted
    )
    # Sums of the same parts are the same; what rounding could part is not a difference.
    return -round(score, 9), one.assigned_at or _NEVER, one.member_id
