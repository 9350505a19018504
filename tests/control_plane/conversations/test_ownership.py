"""Who may answer: the rules, without a database."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from control_plane.conversations.models import Owner
from control_plane.conversations.ownership import Action, Ownership, change
from control_plane.kit.errors import Conflict
from control_plane.kit.ids import new_id

ME, OTHER = new_id(), new_id()
VERSION = 5


def owned(owner: Owner, member=None, version: int = VERSION) -> Ownership:
    return Ownership(owner=owner, member_id=member, version=version)


BOT, WAITING, CLOSED = owned(Owner.BOT), owned(Owner.WAITING), owned(Owner.CLOSED)
MINE, THEIRS = owned(Owner.HUMAN, ME), owned(Owner.HUMAN, OTHER)
NEXT = VERSION + 1


class TestChange:
    @pytest.mark.parametrize(
        ("now", "action", "expected", "after"),
        [
            pytest.param(BOT, "take-over", None, owned(Owner.HUMAN, ME, NEXT), id="from the bot"),
            pytest.param(WAITING, "take-over", None, owned(Owner.HUMAN, ME, NEXT), id="waiting"),
            pytest.param(CLOSED, "take-over", None, owned(Owner.HUMAN, ME, NEXT), id="reopened"),
            pytest.param(
                THEIRS, "take-over", VERSION, owned(Owner.HUMAN, ME, NEXT), id="from a colleague"
            ),
            pytest.param(MINE, "hand-back", None, owned(Owner.BOT, None, NEXT), id="given back"),
            pytest.param(WAITING, "hand-back", None, owned(Owner.BOT, None, NEXT), id="not needed"),
            pytest.param(
                THEIRS, "hand-back", VERSION, owned(Owner.BOT, None, NEXT), id="theirs given back"
            ),
            pytest.param(MINE, "close", VERSION, owned(Owner.CLOSED, None, NEXT), id="closed"),
            pytest.param(BOT, "close", None, owned(Owner.CLOSED, None, NEXT), id="bot's closed"),
            pytest.param(
                THEIRS, "close", VERSION, owned(Owner.CLOSED, None, NEXT), id="theirs closed"
            ),
        ],
    )
    def test_gives_it_to_another_owner_under_the_next_version(
        self, now: Ownership, action: Action, expected: int | None, after: Ownership
    ) -> None:
        assert change(now, action, member_id=ME, expected_version=expected) == after

    @pytest.mark.parametrize(
        ("now", "action"), [(MINE, "take-over"), (BOT, "hand-back"), (CLOSED, "close")]
    )
    @pytest.mark.parametrize("expected", [None, VERSION])
    def test_of_what_is_so_already_changes_nothing(
        self, now: Ownership, action: Action, expected: int | None
    ) -> None:
        assert change(now, action, member_id=ME, expected_version=expected) is now

    @pytest.mark.parametrize(
        ("now", "action", "expected", "code"),
        [
            (THEIRS, "take-over", None, "owned_by_other"),
            (THEIRS, "hand-back", None, "owned_by_other"),
            (THEIRS, "close", None, "owned_by_other"),
            (CLOSED, "hand-back", None, "conversation_closed"),
            (CLOSED, "hand-back", VERSION, "conversation_closed"),
            (BOT, "take-over", VERSION - 1, "owner_changed"),
            (MINE, "take-over", VERSION - 1, "owner_changed"),
            (THEIRS, "close", VERSION + 1, "owner_changed"),
        ],
    )
    def test_is_refused_by_name(
        self, now: Ownership, action: Action, expected: int | None, code: str
    ) -> None:
        with pytest.raises(Conflict) as refused:
            change(now, action, member_id=ME, expected_version=expected)

        assert refused.value.code == code


class Colleagues(RuleBasedStateMachine):
    """Two members do what they like, having seen the newest version, an older one, or none."""

    @initialize(owner=st.sampled_from([Owner.BOT, Owner.WAITING]))
    def begin(self, owner: Owner) -> None:
        self.now = owned(owner, None, 1)

    @rule(
        member=st.sampled_from([ME, OTHER]),
        action=st.sampled_from(["take-over", "hand-back", "close"]),
        seen=st.sampled_from([None, 0, 1, 2]),
    )
    def act(self, member, action: Action, seen: int | None) -> None:
        before = self.now
        expected = None if seen is None else before.version - seen
        after, code = before, None
        try:
            after = change(before, action, member_id=member, expected_version=expected)
        except Conflict as refused:
            code = refused.code
        assert (code == "owner_changed") == (expected not in (None, before.version))
        if after is not before:
            assert after.version == before.version + 1
            robbed = before.owner == Owner.HUMAN and before.member_id != member
            assert not robbed or expected == before.version
        self.now = after

    @invariant()
    def a_member_is_named_exactly_while_a_human_answers(self) -> None:
        assert (self.now.owner == Owner.HUMAN) == (self.now.member_id is not None)


TestColleagues = Colleagues.TestCase
