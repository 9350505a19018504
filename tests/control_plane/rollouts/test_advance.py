"""What a rollout does next: by cases, and over any course that a fleet may take."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.kit.ids import new_id
from control_plane.rollouts.advance import (
    End,
    GoBack,
    Member,
    MemberState,
    Move,
    NextWave,
    Pass,
    RollBack,
    Share,
    State,
    Step,
    Talk,
    Terms,
    advance,
    wave_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TERMS = Terms(waves=3, budget_percent=10, ready_within=30 * SECOND, watch=60 * SECOND, at_once=5)
SHARES = [0, 5, 25, 100]
OVER = {State.DONE, State.ROLLED_BACK, State.ABORTED}
HAVE_IT = (MemberState.MOVED, MemberState.GOOD)


def member(**what) -> Member:
    return Member(**({"id": new_id(), "tenant_id": UUID(int=1), "wave": 0} | what))


def waiting(**what) -> Member:
    return member(state=MemberState.WAITING, **what)


def moved(ago: timedelta = SECOND, **what) -> Member:
    how = {"state": MemberState.MOVED, "moved_at": NOW - ago, "looked": True}
    return member(**(how | what))


def steps(*members: Member, state: State = State.RUNNING, wave: int = 0, **terms) -> list[Step]:
    return advance(state, wave, replace(TERMS, **terms), members, NOW)


class TestWaves:
    """R1."""

    def test_the_canaries_are_first_whoever_they_are(self) -> None:
        ids = [new_id() for _ in range(200)]

        assert {wave_of(new_id(), each, "canary", SHARES) for each in ids} == {0}
        assert 0 not in {wave_of(new_id(), each, "", SHARES) for each in ids}

    def test_the_others_are_spread_by_share(self) -> None:
        rollout = new_id()
        counts = Counter(wave_of(rollout, new_id(), "", SHARES) for _ in range(4000))

        assert counts[1] == pytest.approx(200, rel=0.4)
        assert counts[2] == pytest.approx(800, rel=0.2)
        assert counts[3] == pytest.approx(3000, rel=0.1)

    def test_everybody_computes_the_same_and_each_rollout_another_order(self) -> None:
        ids, first, second = [new_id() for _ in range(300)], new_id(), new_id()

        def waves(rollout: UUID) -> list[int]:
            return [wave_of(rollout, each, "", SHARES) for each in ids]

        assert waves(first) == waves(first)
        assert waves(first) != waves(second)

    def test_nobody_of_a_later_one_is_moved(self) -> None:
        now, later = waiting(wave=0), waiting(wave=1)

        assert steps(now, later) == [Move(member=now.id)]

    def test_the_next_one_begins_when_everybody_is_decided(self) -> None:
        good = replace(moved(), state=MemberState.GOOD)
        later = waiting(wave=1)

        assert steps(good, moved(), later) == []
        assert steps(good, later) == [NextWave(wave=1)]
        assert steps(good, later, wave=1) == [Move(member=later.id)]

    def test_no_more_are_on_their_way_up_than_may_be(self) -> None:
        rising = [moved(unwell_since=NOW), moved(looked=False)]
        up = [moved(), moved()]

        assert len(steps(*rising, *up, *(waiting() for _ in range(9)))) == TERMS.at_once - 2


class TestAMember:
    def test_is_good_when_it_was_well_for_long_enough(self) -> None:
        young, old = moved(59 * SECOND), moved(60 * SECOND)

        assert steps(young) == []
        assert steps(young, old) == [Pass(member=old.id)]

    def test_that_does_not_get_ready_goes_back(self) -> None:
        """R2."""
        since = NOW - 30 * SECOND
        in_time, late = moved(30 * SECOND), moved(31 * SECOND)

        assert steps(replace(in_time, unwell_since=since)) == []
        failing = steps(replace(late, unwell_since=since - SECOND), budget_percent=100)
        assert failing[0] == GoBack(member=late.id, state=MemberState.FAILED, reason="not_ready")

    def test_that_is_up_and_down_all_the_time_goes_back(self) -> None:
        """R2: each time it was well for a moment does not begin a new wait for ever."""
        flapping = moved(91 * SECOND, unwell_since=NOW - SECOND)

        assert isinstance(steps(flapping)[0], GoBack)

    def test_that_nobody_has_looked_at_runs_as_it_did(self) -> None:
        assert steps(moved(timedelta(hours=1), looked=False, unwell_since=NOW)) == []

    @pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.ABORTED])
    @pytest.mark.parametrize("member_state", HAVE_IT)
    def test_in_a_crash_loop_goes_back_whatever_the_rollout_does(
        self, state: State, member_state: MemberState
    ) -> None:
        """R2."""
        looping = moved(unwell_since=NOW, looping=True, state=member_state)

        first, *_ = steps(looping, state=state)
        assert first == GoBack(member=looping.id, state=MemberState.FAILED, reason="crash_loop")

    def test_that_is_not_wanted_cannot_fail(self) -> None:
        stopped = moved(wanted=False, unwell_since=NOW, looping=True)

        assert steps(stopped)[0] == Pass(member=stopped.id)


class TestConversations:
    BEFORE = Share(of=100, failed=5)

    @pytest.mark.parametrize(
        ("since", "bad"),
        [
            (Share(of=100, failed=14), False),
            (Share(of=100, failed=16), True),
            (Share(of=19, failed=19), False),
            (Share(of=20, failed=2), False),
            (Share(of=20, failed=4), True),
        ],
    )
    @pytest.mark.parametrize("kind", ["turns", "deliveries"])
    def test_that_got_worse_than_they_were_are_a_failure(
        self, since: Share, bad: bool, kind: str
    ) -> None:
        talk = Talk(**{f"{kind}_before": self.BEFORE, f"{kind}_since": since})

        assert any(isinstance(step, GoBack) for step in steps(moved(talk=talk))) is bad

    def test_as_bad_as_before_are_none(self) -> None:
        talk = Talk(turns_before=Share(of=50, failed=25), turns_since=Share(of=50, failed=28))

        assert steps(moved(talk=talk)) == []

    def test_that_are_few_everywhere_count_together(self) -> None:
        """R3."""
        few = Talk(deliveries_since=Share(of=5, failed=1))
        members = [moved(talk=few) for _ in range(4)]

        assert steps(*members[:3]) == []
        assert steps(*members) == [RollBack(reason="deliveries")]


class TestTheBudget:
    """R3."""

    def test_is_a_share_of_those_who_were_moved(self) -> None:
        gone = [member(state=MemberState.FAILED) for _ in range(2)]
        good = [replace(moved(), state=MemberState.GOOD) for _ in range(18)]
        unmoved = [waiting(wave=1) for _ in range(100)]

        assert steps(*gone, *good, *unmoved) == [NextWave(wave=1)]
        assert steps(*gone, *good[1:], *unmoved) == [RollBack(reason="budget")]

    def test_is_not_spent_by_who_was_in_trouble_before(self) -> None:
        ill = member(state=MemberState.FAILED, counts=False)

        assert steps(ill, waiting(wave=1), budget_percent=0) == [NextWave(wave=1)]

    def test_when_it_is_spent_everybody_goes_back_and_then_it_is_over(self) -> None:
        good, up = replace(moved(), state=MemberState.GOOD), moved()
        others = [waiting(), member(state=MemberState.FAILED)]

        back = steps(good, up, *others, state=State.ROLLING_BACK)

        assert {step.member for step in back} == {good.id, up.id}
        assert steps(*others, state=State.ROLLING_BACK) == [End(state=State.ROLLED_BACK)]


class TestTheEnd:
    def test_comes_when_the_last_wave_is_decided(self) -> None:
        """R4."""
        good = replace(moved(), state=MemberState.GOOD)

        assert steps(good, wave=2) == [End(state=State.DONE)]
        assert steps(good, moved(), wave=2) == []
        assert steps() == [NextWave(wave=1)]

    def test_of_an_aborted_one_waits_for_who_is_undecided(self) -> None:
        assert steps(moved(), waiting(), state=State.ABORTED) == []
        assert steps(waiting(), state=State.ABORTED) == [End(state=State.ABORTED)]

    @pytest.mark.parametrize("state", [State.DONE, State.ROLLED_BACK])
    def test_is_the_end(self, state: State) -> None:
        assert steps(moved(unwell_since=NOW, looping=True), waiting(), state=state) == []


# --- any course ------------------------------------------------------------------------------

FATES = ("well", "slow", "never", "loops", "loops late", "rude", "unwanted", "unseen a while")


class Course:
    """A rollout over simulated members; every beginning of the steps may be all that is taken."""

    def __init__(self, fates: list[tuple[str, int]], terms: Terms) -> None:
        self.terms = terms
        self.state, self.wave, self.now = State.RUNNING, 0, NOW
        self.over = False
        self.fate = {}
        self.members: dict[UUID, Member] = {}
        for n, (fate, wave) in enumerate(fates):
            each = waiting(id=UUID(int=n), wave=wave)
            self.fate[each.id], self.members[each.id] = fate, each

    def seen(self) -> list[Member]:
        return [self._as_seen(each) for each in self.members.values()]

    def _as_seen(self, each: Member) -> Member:
        if each.state not in HAVE_IT or each.moved_at is None:
            return each
        fate, age = self.fate[each.id], self.now - each.moved_at
        unwell = {
            "slow": age < 20 * SECOND,
            "never": True,
            "loops": True,
            "loops late": age > 70 * SECOND,
        }.get(fate, False)
        rude = Talk(turns_since=Share(of=40, failed=30))
        return replace(
            each,
            looked=fate != "unseen a while" or age > 50 * SECOND,
            wanted=fate != "unwanted",
            unwell_since=each.moved_at if unwell else None,
            looping=fate.startswith("loops") and unwell,
            talk=rude if fate == "rude" else Talk(),
        )

    def look(self, taken: int) -> list[Step]:
        found = advance(self.state, self.wave, self.terms, self.seen(), self.now)
        for step in found[:taken]:
            self._take(step)
        return found

    def _take(self, step: Step) -> None:
        match step:
            case Move(member=who):
                self._set(who, MemberState.MOVED, moved_at=self.now)
            case Pass(member=who):
                self._set(who, MemberState.GOOD)
            case GoBack(member=who, state=state):
                self._set(who, state)
            case NextWave(wave=wave):
                assert wave == self.wave + 1
                self.wave = wave
            case RollBack():
                self.state = State.ROLLING_BACK
            case End(state=state):
                self.state, self.over = state, True

    def _set(self, who: UUID, state: MemberState, **more) -> None:
        self.members[who] = replace(self.members[who], state=state, **more)

    def with_it(self) -> list[UUID]:
        return [each.id for each in self.members.values() if each.state in HAVE_IT]


fleets = st.lists(st.tuples(st.sampled_from(FATES), st.integers(0, 2)), min_size=1, max_size=12)
orders = st.lists(
    st.tuples(
        st.integers(0, 12), st.integers(1, 40), st.sampled_from(("", "", "", "pause", "resume"))
    ),
    max_size=25,
)


@given(
    fleets, orders, st.integers(0, 50), st.integers(1, 5), st.sampled_from(("", "abort", "back"))
)
@settings(max_examples=300, deadline=None)
def test_any_course_keeps_the_rules_and_comes_to_an_end(
    fates: list[tuple[str, int]],
    course_orders: list[tuple[int, int, str]],
    budget: int,
    at_once: int,
    last_word: str,
) -> None:
    course = Course(fates, replace(TERMS, budget_percent=budget, at_once=at_once))
    for taken, seconds, order in course_orders:
        if order == "pause" and course.state is State.RUNNING:
            course.state = State.PAUSED
        if order == "resume" and course.state is State.PAUSED:
            course.state = State.RUNNING
        look_and_check(course, taken)
        course.now += seconds * SECOND
    if not course.over and course.state in (State.RUNNING, State.PAUSED):
        course.state = {"": State.RUNNING, "abort": State.ABORTED, "back": State.ROLLING_BACK}[
            last_word
        ]
    for _ in range(400):
        if course.over:
            break
        look_and_check(course, 50)
        course.now += 5 * SECOND

    assert course.over
    check_end(course)


def look_and_check(course: Course, taken: int) -> None:
    if course.over:
        return
    before, state = course.seen(), course.state
    found = course.look(taken)
    moves = [step for step in found if isinstance(step, Move)]
    # R1.
    assert state is State.RUNNING or not moves
    assert all(course.members[step.member].wave <= course.wave for step in moves)
    # R2.
    gone = {step.member for step in found if isinstance(step, GoBack)}
    assert {m.id for m in before if m.state in HAVE_IT and m.looping and m.wanted} <= gone
    # R5: whoever looks again over what was taken comes to the same.
    if taken >= len(found):
        again = course.look(0)
        assert course.over or not [step for step in again if step in found]


def check_end(course: Course) -> None:
    states = Counter(each.state for each in course.members.values())
    failed = states[MemberState.FAILED]
    if course.state is State.DONE:
        # R3, R4.
        assert set(states) <= {MemberState.GOOD, MemberState.FAILED}
        assert failed <= len(course.members) * course.terms.budget_percent // 100
    if course.state is State.ROLLED_BACK:
        assert course.with_it() == []
    if course.state is State.ABORTED:
        assert MemberState.MOVED not in states
    for who in course.with_it():
        # "loops late" begins after it was good, perhaps after the end.
        assert course.fate[who] not in ("never", "loops", "rude")
