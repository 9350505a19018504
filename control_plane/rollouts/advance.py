"""What a rollout does next: pure, from how its members stand.

Invariants (the numbers are those of docs/fleet.md):
R1. Nobody is moved before its wave, nobody while the rollout does not run.
R2. A member that fails goes back at once, whatever state the rollout is in.
R3. More failures than the budget allows, or worse conversations, take everybody back who was moved.
R4. It is done only when every member is good, or failed within the budget.
R5. Any beginning of the steps may be all that was taken: the next look finds the others.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

# Fewer turns or deliveries than this say nothing about a release.
MIN_SAMPLE = 20
# Fewer failures than this may be chance, however few there were in all.
MIN_FAILED = 3
# How much larger the share of failures may be than it was before, for the same reason.
TOLERATED = 0.10


class State(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    DONE = "done"
    ABORTED = "aborted"


class MemberState(StrEnum):
    """Where a member is; failed and rolled-back ones have their former release again."""

    WAITING = "waiting"
    MOVED = "moved"
    GOOD = "good"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many there were, and how many of them failed."""

    of: int = 0
    failed: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(of=self.of + other.of, failed=self.failed + other.failed)

    @property
    def rate(self) -> float:
        return self.failed / self.of if self.of else 0.0


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What became of turns and deliveries before a move and since."""

    turns_before: Share = Share()
    turns_since: Share = Share()
    deliveries_before: Share = Share()
    deliveries_since: Share = Share()

    def __add__(self, other: "Talk") -> "Talk":
        return Talk(
            turns_before=self.turns_before + other.turns_before,
            turns_since=self.turns_since + other.turns_since,
            deliveries_before=self.deliveries_before + other.deliveries_before,
            deliveries_since=self.deliveries_since + other.deliveries_since,
        )

    @property
    def worse(self) -> str | None:
        """What got worse, if anything certainly did."""
        if _worse(self.turns_before, self.turns_since):
            return "answers"
        return "deliveries" if _worse(self.deliveries_before, self.deliveries_since) else None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One instance. `counts`: it ran before, so its failure is the release's.

    `looked`: a controller has seen what is wanted now; before that, what runs is as it was.
    `unwell_since` is None while it runs as well as before.
    """

    id: UUID
    tenant_id: UUID
    wave: int
    state: MemberState
    moved_at: datetime | None = None
    counts: bool = True
    wanted: bool = True
    looked: bool = False
    unwell_since: datetime | None = None
    looping: bool = False
    talk: Talk = field(default=Talk())


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What was decided at the start."""

    waves: int
    budget_percent: int
    ready_within: timedelta
    watch: timedelta
    at_once: int


@dataclass(frozen=True, kw_only=True)
class Move:
    """Give it the new release."""

    member: UUID


@dataclass(frozen=True, kw_only=True)
class Pass:
    """It is good."""

    member: UUID


@dataclass(frozen=True, kw_only=True)
class GoBack:
    """Give it its former release again; `state` says why."""

    member: UUID
    state: MemberState
    reason: str


@dataclass(frozen=True, kw_only=True)
class NextWave:
    """Let the next wave begin."""

    wave: int


@dataclass(frozen=True, kw_only=True)
class RollBack:
    """Everybody goes back from now on."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class End:
    """Nothing is left to do."""

    state: State


Step = Move | Pass | GoBack | NextWave | RollBack | End

_HAS_IT = frozenset({MemberState.MOVED, MemberState.GOOD})


def wave_of(rollout_id: UUID, instance_id: UUID, group: str, shares: Sequence[int]) -> int:
    """The wave of an instance: the first is its group's, the others are by chance.

    The chance is a hash, so everybody computes the same, nobody chooses their place by the moment
    of creation, and it is not always the same ones who go first.
    """
    if group == "canary":
        return 0
    digest = hashlib.sha256(rollout_id.bytes + instance_id.bytes).digest()
    place = int.from_bytes(digest[:8]) % 10_000
    shown = (n for n, share in enumerate(shares) if n and place < share * 100)
    return next(shown, len(shares) - 1)


def advance(
    state: State, wave: int, terms: Terms, members: Sequence[Member], now: datetime
) -> list[Step]:
    """The next steps, in order; none while there is nothing to do but to watch."""
    if state in (State.ROLLED_BACK, State.DONE):
        return []
    if state is State.ROLLING_BACK:
        return [*_all_back(members)] or [End(state=State.ROLLED_BACK)]
    judged = [step for each in members if (step := _judge(each, terms, now)) is not None]
    # Who is in trouble first.
    steps = sorted(judged, key=lambda step: isinstance(step, Pass))
    decided = {step.member for step in steps}
    undecided = [m for m in members if m.state is MemberState.MOVED and m.id not in decided]
    if state is State.ABORTED:
        return [*steps] if steps or undecided else [End(state=State.ABORTED)]
    failing = {step.member for step in steps if isinstance(step, GoBack)}
    if reason := _too_much(members, failing, terms):
        return [*steps, RollBack(reason=reason)]
    if state is State.PAUSED:
        return [*steps]
    return [*steps, *_forward(wave, terms, members, undecided)]


def _forward(
    wave: int, terms: Terms, members: Sequence[Member], undecided: Sequence[Member]
) -> list[Step]:
    waiting = [m.id for m in members if m.state is MemberState.WAITING and m.wave <= wave]
    rising = sum(1 for m in undecided if m.unwell_since is not None or not m.looked)
    if waiting:
        return [Move(member=each) for each in waiting[: max(terms.at_once - rising, 0)]]
    if undecided:
        return []
    if wave + 1 < terms.waves:
        return [NextWave(wave=wave + 1)]
    return [End(state=State.DONE)]


def _all_back(members: Sequence[Member]) -> list[GoBack]:
    having = (each for each in members if each.state in _HAS_IT)
    return [
        GoBack(member=each.id, state=MemberState.ROLLED_BACK, reason="rolled_back")
        for each in sorted(having, key=lambda each: each.unwell_since is None)
    ]


def _judge(member: Member, terms: Terms, now: datetime) -> Pass | GoBack | None:
    """What is known of a member that has the new release; None while it must be watched."""
    if member.state not in _HAS_IT or member.moved_at is None:
        return None
    if member.wanted and member.looked and member.looping:
        return _failed(member, "crash_loop")
    if member.state is MemberState.GOOD:
        return None
    if not member.wanted:
        return Pass(member=member.id)
    since = now - member.moved_at
    if not member.looked:
        # Nobody has touched it yet: it runs as it did.
        return None
    if member.unwell_since is not None:
        unwell = now - max(member.unwell_since, member.moved_at)
        late = unwell > terms.ready_within or since > terms.watch + terms.ready_within
        return _failed(member, "not_ready") if late else None
    if worse := member.talk.worse:
        return _failed(member, worse)
    return Pass(member=member.id) if since >= terms.watch else None


def _failed(member: Member, reason: str) -> GoBack:
    return GoBack(member=member.id, state=MemberState.FAILED, reason=reason)


def _too_much(members: Sequence[Member], failing: set[UUID], terms: Terms) -> str | None:
    """Why everybody must go back, if they must."""
    tried = sum(1 for m in members if m.counts and m.state is not MemberState.WAITING)
    failed = sum(
        1 for m in members if m.counts and (m.id in failing or m.state is MemberState.FAILED)
    )
    if failed > tried * terms.budget_percent // 100:
        return "budget"
    # Each alone may say too little: together they may not.
    return _sum(m.talk for m in members if m.state is MemberState.MOVED).worse


def _sum(talks: Iterable[Talk]) -> Talk:
    return sum(talks, start=Talk())


def _worse(before: Share, since: Share) -> bool:
    if since.of < MIN_SAMPLE or since.failed < MIN_FAILED:
        return False
    return since.rate > before.rate + TOLERATED
