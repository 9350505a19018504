"""Who gets what: true for any queue and any people."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from control_plane.routing.choosing import (
    Candidate,
    Rules,
    Waiting,
    choose,
    distribute,
    in_order,
)

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
SKILLS = ("billing", "tea")
MEMBERS = [UUID(int=n) for n in range(1, 6)]

moments = st.integers(0, 60).map(lambda minutes: NOW - timedelta(minutes=minutes))
weights = st.integers(0, 5)
rules = st.builds(
    Rules,
    skill=weights,
    load=weights,
    hours=weights,
    state=weights,
    known=weights,
    patience=st.integers(0, 30).map(lambda minutes: timedelta(minutes=minutes)),
    busy_takes=st.booleans(),
)
waitings = st.builds(
    Waiting,
    conversation_id=st.uuids(),
    since=moments,
    priority=st.integers(0, 1),
    skill=st.none() | st.sampled_from(SKILLS),
    member_id=st.none() | st.sampled_from(MEMBERS),
    known_member_id=st.none() | st.sampled_from(MEMBERS),
)
candidates = st.builds(
    Candidate,
    member_id=st.sampled_from(MEMBERS),
    state=st.sampled_from(["online", "busy", "away", "offline"]),
    capacity=st.integers(1, 4),
    load=st.integers(0, 5),
    skills=st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5)),
    on_shift=st.booleans(),
    assigned_at=st.none() | moments,
)
queues = st.lists(waitings, max_size=12, unique_by=lambda one: one.conversation_id)
teams = st.lists(candidates, max_size=5, unique_by=lambda one: one.member_id)


def somebody(number: int = 1, **more: object) -> Candidate:
    made = Candidate(member_id=MEMBERS[number - 1], state="online", capacity=5, load=0)
    return replace(made, **more)


def waits(number: int = 1, minutes: int = 0, **more: object) -> Waiting:
    made = Waiting(conversation_id=UUID(int=number), since=NOW - timedelta(minutes=minutes))
    return replace(made, **more)


class TestAnyQueue:
    @given(queues, teams, rules)
    def test_nobody_gets_more_than_they_take(self, queue, team, rules) -> None:
        given = [member for _, member in distribute(queue, team, rules, NOW)]

        for one in team:
            assert given.count(one.member_id) <= max(0, one.capacity - one.load)

    @given(queues, teams, rules)
    def test_nobody_who_is_absent_gets_anything(self, queue, team, rules) -> None:
        there = {one.member_id for one in team if one.state == "online"}
        there |= {one.member_id for one in team if one.state == "busy" and rules.busy_takes}

        assert {member for _, member in distribute(queue, team, rules, NOW)} <= there

    @given(queues, teams, rules)
    def test_each_is_given_once_and_the_longest_waiting_first(self, queue, team, rules) -> None:
        given = [one for one, _ in distribute(queue, team, rules, NOW)]

        assert len({one.conversation_id for one in given}) == len(given)
        assert given == in_order(given)

    @given(queues, teams, rules)
    def test_an_older_one_is_only_passed_by_when_nobody_can_take_it(
        self, queue, team, rules
    ) -> None:
        given = distribute(queue, team, rules, NOW)
        taken = {one.conversation_id for one, _ in given}

        left = {one.member_id: one for one in team}
        chosen = {one.conversation_id: member for one, member in given}
        for one in in_order(queue):
            if one.conversation_id not in taken:
                assert choose(one, list(left.values()), rules, NOW) is None
                continue
            member = left[chosen[one.conversation_id]]
            left[member.member_id] = replace(member, load=member.load + 1, assigned_at=NOW)

    @given(queues, teams, rules, st.randoms())
    def test_the_order_in_which_things_are_read_decides_nothing(
        self, queue, team, rules, random
    ) -> None:
        before = distribute(queue, team, rules, NOW)
        queue, team = [*queue], [*team]
        random.shuffle(queue)
        random.shuffle(team)

        assert distribute(queue, team, rules, NOW) == before

    @given(queues, teams, rules)
    def test_what_is_asked_for_is_insisted_on_during_the_patience(self, queue, team, rules) -> None:
        skills = {one.member_id: one.skills for one in team}
        for one, member in distribute(queue, team, rules, NOW):
            if one.since + rules.patience > NOW:
                assert one.member_id in (None, member)
                assert one.member_id or one.skill in (None, *skills[member])

    @given(queues, teams, rules)
    def test_while_anybody_has_room_nothing_waits_beyond_the_patience(
        self, queue, team, rules
    ) -> None:
        given = distribute(queue, team, rules, NOW)
        taken = {one.conversation_id for one, _ in given}
        room = sum(max(0, one.capacity - one.load) for one in team if one.state == "online")

        patient = [one for one in queue if one.since + rules.patience <= NOW]
        left = [one for one in patient if one.conversation_id not in taken]
        assert not left or len(given) >= room


class TestScore:
    def test_the_better_skill_wins(self) -> None:
        team = [somebody(1, skills={"tea": 2}), somebody(2, skills={"tea": 4})]

        assert choose(waits(skill="tea"), team, Rules(), NOW) == MEMBERS[1]

    def test_whoever_has_more_room_wins(self) -> None:
        team = [somebody(1, load=2), somebody(2, load=1)]

        assert choose(waits(), team, Rules(), NOW) == MEMBERS[1]

    def test_whoever_talked_to_them_last_wins(self) -> None:
        team = [somebody(1), somebody(2, load=2)]

        assert choose(waits(known_member_id=MEMBERS[1]), team, Rules(), NOW) == MEMBERS[1]

    def test_whoever_works_now_wins(self) -> None:
        team = [somebody(1, on_shift=False), somebody(2)]

        assert choose(waits(), team, Rules(), NOW) == MEMBERS[1]

    def test_a_busy_one_comes_after_the_others(self) -> None:
        team = [somebody(1, state="busy"), somebody(2, load=1)]

        assert choose(waits(), team, Rules(busy_takes=True), NOW) == MEMBERS[1]
        assert choose(waits(), team[:1], Rules(busy_takes=True), NOW) == MEMBERS[0]

    def test_of_equals_the_longest_idle_wins(self) -> None:
        team = [
            somebody(1, assigned_at=NOW - timedelta(minutes=5)),
            somebody(2, assigned_at=NOW - timedelta(minutes=9)),
        ]

        assert choose(waits(), team, Rules(), NOW) == MEMBERS[1]
        assert choose(waits(), [*team, somebody(3)], Rules(), NOW) == MEMBERS[2]

    def test_beyond_the_patience_anybody_will_do(self) -> None:
        asked = waits(minutes=5, skill="tea")

        assert choose(asked, [somebody()], Rules(), NOW) == MEMBERS[0]
        assert choose(replace(asked, since=NOW), [somebody()], Rules(), NOW) is None
