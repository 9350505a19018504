"""A change is good when it held: what is connected stays so, or all is put back."""

import pytest

from instance_agent.trial import Fault, Sign, judge
from tests.instance_agent.configs_world import CHANNELS, World, kinds, revision

BOTH = {"shared": "a", "single": "b"}
CHANGED = {"shared": "a2", "single": "b2"}


@pytest.fixture
async def world():
    with kinds():
        made = World()
        await made.start()
        made.publish(revision(1, BOTH))
        await made.boot()
        yield made
        await made.close()


def last(world, kind):
    return next(data for each, data in reversed(world.events) if each == kind)


async def changed(world, accounts=CHANGED, number=2, **sections):
    return await world.push(world.publish(revision(number, accounts, **sections)))


class TestHealthWindow:
    async def test_a_change_is_the_last_good_one_only_when_it_held(self, world):
        outcome = await changed(world)
        assert (outcome.outcome, outcome.on_trial) == ("applied", True)
        between = world.configs.state()
        assert (between.applied, between.last_good, between.on_trial) == (2, 1, True)
        assert world.good.number == 1

        await world.pass_window()
        after = world.configs.state()
        assert (after.applied, after.last_good, after.on_trial) == (2, 2, False)
        assert world.good.number == 2
        assert world.platform.connected == {"a": 0, "b": 0, "a2": 1, "b2": 1}

    @pytest.mark.parametrize("name", ["shared", "single"])
    async def test_a_channel_that_was_connected_and_is_not_any_more_puts_all_back(
        self, world, name
    ):
        account = CHANGED[name]
        world.platform.set(account, "down")
        await changed(world, persona={"name": "new"})
        await world.pass_window()
        state = world.configs.state()
        assert (state.applied, state.last_good, state.rejected) == (1, 1, 2)
        [error] = state.errors
        assert (error.path, error.code) == (
            f"/channels/{list(BOTH).index(name)}",
            "did_not_connect",
        )
        assert error.message == "the adapter raised ConnectionError"
        assert (last(world, "config.rejected").revision, world.good.number) == (2, 1)
        assert world.states() == {"shared": "connected", "single": "connected"}
        assert world.platform.connected["a"] == world.platform.connected["b"] == 1

    async def test_one_that_connects_and_falls_within_the_window_counts_too(self, world):
        await changed(world)
        world.platform.set("b2", "down")
        await world.rest()
        await world.pass_window()
        assert world.configs.state().rejected == 2

    async def test_one_that_comes_back_in_time_is_forgiven(self, world):
        world.platform.set("b2", "down")
        await changed(world)
        world.platform.set("b2", "up")
        await world.rest()
        await world.pass_window()
        assert world.configs.state().last_good == 2

    async def test_a_refusal_of_the_platform_itself_needs_no_window(self, world):
        await changed(world)
        world.platform.set("a2", "refusing")
        await world.rest()
        state = world.configs.state()
        assert (state.applied, state.rejected) == (1, 2)

    @pytest.mark.parametrize(("name", "good"), [("shared", 2), ("single", 1)])
    async def test_one_that_says_nothing_fails_where_it_had_to_stop_its_predecessor(
        self, world, name, good
    ):
        world.platform.set(CHANGED[name], "silent")
        await changed(world)
        await world.pass_window()
        assert world.configs.state().last_good == good

    async def test_what_goes_on_beside_it_is_never_away_while_a_shared_one_fails(self, world):
        world.platform.set("a2", "down")
        await changed(world)
        assert world.platform.connected["a"] == 1
        await world.pass_window()
        assert world.platform.connected["a"] == 1


class TestNotAtFault:
    async def test_a_channel_that_failed_before_does_not_count(self, world):
        world.platform.set("a", "down")
        await world.rest()
        world.platform.set("a2", "down")
        await changed(world, {"shared": "a2", "single": "b"})
        await world.pass_window()
        assert world.configs.state().last_good == 2

    async def test_nor_does_one_while_the_platform_is_down_for_everybody(self, world):
        world.publish(revision(2, BOTH | {"another": "c"}))
        await world.push()
        await world.pass_window()
        world.platform.set(None, "down")
        await changed(world, {"shared": "a2", "single": "b2", "another": "c"}, number=3)
        await world.pass_window()
        assert world.configs.state().last_good == 3

    async def test_nor_does_one_that_was_added(self, world):
        world.platform.set("c", "down")
        await changed(world, BOTH | {"another": "c"})
        await world.pass_window()
        assert world.configs.state().last_good == 2


class TestMeanwhile:
    async def test_a_newer_one_is_held_against_what_was_good(self, world):
        world.platform.set("b2", "down")
        world.platform.set("b3", "down")
        await changed(world)
        await changed(world, {"shared": "a", "single": "b3"}, number=3)
        await world.pass_window()
        state = world.configs.state()
        assert (state.applied, state.rejected) == (1, 3)
        assert world.states() == {"shared": "connected", "single": "connected"}

    async def test_one_that_takes_it_back_ends_the_trial(self, world):
        world.platform.set("b2", "down")
        await changed(world)
        outcome = await changed(world, BOTH, number=3)
        assert (outcome.on_trial, world.configs.state().last_good) == (False, 3)
        assert world.platform.connected["a"] == world.platform.connected["b"] == 1

    async def test_a_bad_one_does_not_end_the_trial(self, world):
        await changed(world)
        outcome = await changed(world, BOTH, number=3, persona={"name": ""})
        assert outcome.outcome == "rejected"
        await world.pass_window()
        state = world.configs.state()
        assert (state.last_good, state.rejected) == (2, 3)

    async def test_what_lost_is_not_tried_again(self, world):
        world.platform.set("b2", "down")
        await changed(world)
        await world.pass_window()
        world.platform.set("b2", "up")
        again = await world.push()
        assert again.outcome == "rejected"
        await world.restart()
        assert world.configs.state().applied == 1
        await world.restart(lose_disk=True)
        assert world.configs.state().applied == 1


class TestDeath:
    async def test_a_trial_goes_on_at_the_next_start(self, world):
        world.platform.set("b2", "down")
        await changed(world)
        await world.restart()
        assert world.configs.state().applied == 2
        await world.pass_window()
        assert (world.configs.state().applied, world.good.number) == (1, 1)

    async def test_a_configuration_under_which_it_keeps_dying_is_given_up(self, world):
        await changed(world)
        await world.restart()
        assert world.configs.state().applied == 2
        await world.restart()
        state = world.configs.state()
        assert (state.applied, state.rejected) == (1, 2)
        assert [error.code for error in state.errors] == ["agent_ended"]

    async def test_an_end_that_was_asked_for_does_not_count(self, world):
        await changed(world)
        for _ in range(3):
            await world.restart(clean=True)
        assert world.configs.state().applied == 2
        await world.pass_window()
        assert world.good.number == 2


def sign(**how):
    given = {
        "channel_id": CHANNELS["shared"],
        "connected": False,
        "refused": False,
        "failure": None,
        "exclusive": False,
        "away": False,
    }
    return Sign(**given | how)


@pytest.mark.parametrize(
    ("seen", "early", "late"),
    [
        (sign(connected=True, failure="x"), None, None),
        (sign(refused=True, failure="x"), "x", "x"),
        (sign(refused=True, failure="x", away=True), None, None),
        (sign(failure="x"), None, "x"),
        (sign(failure="x", away=True), None, None),
        (sign(), None, None),
        (sign(exclusive=True), None, "it did not connect in time"),
        (sign(exclusive=True, away=True), None, None),
    ],
)
def test_judging(seen, early, late):
    def fault(reason):
        return reason and Fault(channel_id=CHANNELS["shared"], reason=reason)

    assert judge([sign(connected=True), seen], at_end=False) == fault(early)
    assert judge([sign(connected=True), seen], at_end=True) == fault(late)
