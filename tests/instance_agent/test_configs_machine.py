"""Whatever happens to configurations, what runs passed its checks, and people hear of the rest."""

import asyncio
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from instance_agent.document import digest
from tests.instance_agent.configs_world import World, kinds, revision

EXAMPLES = 600 if os.environ.get("SCALE") == "full" else 12
STEPS = 14

MOODS = ("up", "down", "refusing", "silent", "slow")
shared = st.sampled_from(["a", "a2", "a3"])
single = st.sampled_from(["b", "b2", "b3"])
accounts = st.one_of(
    st.fixed_dictionaries({"shared": shared, "single": single}),
    st.fixed_dictionaries({"shared": shared}),
    st.fixed_dictionaries({"single": single, "another": single}),
)
names = st.sampled_from(["Lin", "Mei"])
wrong = st.sampled_from(
    [
        {"persona": {"name": ""}},
        {"surprise": 1},
        {"limits": {"spool_max_bytes": 2**60}},
        {"channels": [{"id": "0", "kind": "fax", "name": "", "settings": {}}]},
    ]
)


class Configured(RuleBasedStateMachine):
    """Publish, push late or twice, let the platform have its moods, kill, pass the time."""

    @initialize()
    def begin(self) -> None:
        self.kinds = kinds()
        self.kinds.__enter__()
        self.runner = asyncio.Runner()
        self.world = World()
        self.number = 0
        self.goods = [0]
        self.runner.run(self.world.start())
        self.publish({"shared": "a", "single": "b"}, "Lin")
        self.runner.run(self.world.boot())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.world.close())
            self.runner.close()
            self.kinds.__exit__(None, None, None)

    def publish(self, given, name, *, bad=False, **sections) -> None:
        self.number += 1
        made = revision(self.number, given, **{"persona": {"name": name}, **sections})
        self.world.publish(made, bad=bad)

    @rule(given=accounts, name=names)
    def publishes(self, given, name) -> None:
        self.publish(given, name)

    @rule(given=accounts, sections=wrong)
    def publishes_what_is_wrong(self, given, sections) -> None:
        self.publish(given, "Lin", bad=True, **sections)

    @rule(given=accounts, name=names)
    def needs_a_restart(self, given, name) -> None:
        self.publish(given, name, limits={"spool_max_bytes": (1 + self.number) * 2**20})

    @rule(given=accounts)
    def changes_channels(self, given) -> None:
        """The same number, another digest."""
        sections = dict(self.world.desired.document)
        wrong_channels = any(each["kind"] == "fax" for each in sections.pop("channels"))
        key = (self.world.desired.number, self.world.desired.sha256)
        bad = key in self.world.bad and not wrong_channels
        self.world.publish(revision(self.number, given, **sections), bad=bad)

    @rule()
    def is_pushed(self) -> None:
        world, given = self.world, self.world.desired
        outcome = self.runner.run(world.push())
        key = (given.number, given.sha256)
        assert outcome is not None
        if outcome.outcome == "rejected":
            assert outcome.errors
            assert all(each.code and each.message for each in outcome.errors)
        elif outcome.outcome == "applied":
            assert key not in world.bad
            assert key not in world.lost

    @rule(which=st.sampled_from(["shared", "single"]), again=st.booleans())
    def a_change_does_not_hold(self, which: str, again: bool) -> None:
        """What was good is connected; the change is not, and may be pushed again."""
        world, run = self.world, self.runner.run
        world.platform.moods.clear()
        world.platform.set(None, "up")
        self.publish({"shared": "a", "single": "b"}, "Lin")
        run(world.push())
        run(world.pass_window())
        changed = {"shared": "a", "single": "b", which: "a3" if which == "shared" else "b3"}
        world.platform.set(changed[which], "down")
        self.publish(changed, "Mei")
        run(world.push())
        run(world.pass_window())
        if world.configs.state().last_good == self.number - 1:
            world.platform.set(changed[which], "up")
            if again:
                assert run(world.push()).outcome == "rejected"
            assert world.configs.state().rejected == self.number

    @rule()
    def an_account_moves_while_its_adapter_will_not_end(self) -> None:
        world, run = self.world, self.runner.run
        world.platform.moods.clear()
        world.platform.set(None, "up")
        self.publish({"single": "b"}, "Lin")
        run(world.push())
        world.platform.set("b", "slow")
        self.publish({"another": "b"}, "Lin")
        run(world.push())
        assert world.platform.most["b"] <= 1
        world.platform.set("b", "up")
        run(world.rest())

    @rule(index=st.integers(0, 30))
    def an_older_one_is_pushed_late(self, index: int) -> None:
        known = list(self.world.published.values())
        before = self.world.configs.state()
        given = known[index % len(known)]
        self.runner.run(self.world.push(given))
        state = self.world.configs.state()
        if given.number < (before.applied or 0):
            assert (state.applied, state.rejected) == (before.applied, before.rejected)

    @rule(account=st.one_of(shared, single), mood=st.sampled_from(MOODS))
    def a_platform_has_a_mood(self, account: str, mood: str) -> None:
        self.world.platform.set(account, mood)
        self.runner.run(self.world.rest())

    @rule(mood=st.sampled_from(["down", "up"]))
    def everything_goes_down_or_comes_back(self, mood: str) -> None:
        self.world.platform.set(None, mood)
        self.runner.run(self.world.rest())

    @rule()
    def the_window_passes(self) -> None:
        self.runner.run(self.world.pass_window())
        assert not self.world.configs.state().on_trial

    @rule(effects=st.integers(0, 8))
    def dies_while_pushed_to(self, effects: int) -> None:
        self.world.effects_left = effects
        died = self.runner.run(self.world.unless_dead(self.world.push()))
        if died:
            self.booted()

    @precondition(lambda self: self.world.configs.state().on_trial)
    @rule(effects=st.integers(0, 8))
    def dies_while_a_trial_ends(self, effects: int) -> None:
        self.world.effects_left = effects
        died = self.runner.run(self.world.unless_dead(self.world.pass_window()))
        if died:
            self.booted()

    @rule(clean=st.booleans(), lose_disk=st.booleans())
    def starts_again(self, clean: bool, lose_disk: bool) -> None:
        self.runner.run(self.world.restart(clean=clean, lose_disk=lose_disk))
        if lose_disk:
            self.goods = [0]
        self.booted()

    def booted(self) -> None:
        """The newest, a good one, or waiting; and if not the newest, it says why."""
        state, world = self.world.configs.state(), self.world
        if state.applied == world.desired.number:
            assert state.applied_sha256 == world.desired.sha256 or state.rejected == state.applied
        else:
            assert state.rejected == world.desired.number
            assert state.errors
            if state.applied is not None:
                assert state.applied == state.last_good
            else:
                assert not world.configs.ready

    @invariant()
    def what_runs_passed(self) -> None:
        state, world = self.world.configs.state(), self.world
        if state.applied is None:
            return
        key = (state.applied, state.applied_sha256)
        assert key in world.published
        assert key not in world.bad
        if not state.on_trial:
            assert key not in world.lost or world.good == world.published[key]

    @invariant()
    def nothing_rewrites_what_was_published(self) -> None:
        for (number, sha256), given in self.world.published.items():
            assert (given.number, digest(given.document)) == (number, sha256)

    @invariant()
    def a_rejection_says_where_and_why(self) -> None:
        state = self.world.configs.state()
        assert (state.rejected is not None) == bool(state.errors)

    @invariant()
    def no_exclusive_account_has_two_connections(self) -> None:
        most = self.world.platform.most
        assert all(most[account] <= 1 for account in ("b", "b2", "b3")), most

    @invariant()
    def good_numbers_never_go_back(self) -> None:
        number = self.world.configs.state().last_good or 0
        assert number >= self.goods[-1]
        self.goods.append(number)

    @invariant()
    def a_trial_is_always_over_something_good(self) -> None:
        state = self.world.configs.state()
        if state.on_trial:
            assert state.last_good is not None
            assert state.applied is not None
            assert state.applied >= state.last_good


def test_any_order_of_what_can_happen_to_configurations() -> None:
    run_state_machine_as_test(
        Configured,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, print_blob=True
        ),
    )
