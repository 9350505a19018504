"""Nothing is acknowledged that is not safe, wherever the agent dies and whatever comes again."""

import asyncio
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.instance_agent.intake_world import STYLES, World

EXAMPLES = 1_000 if os.environ.get("SCALE") == "full" else 40
STEPS = 12
# More effects than the scene below has; each is a place to die at.
MANY = 200


async def scene(world: World) -> None:
    """Messages while all is well, while the control plane is away, and after it is back."""
    world.say(3)
    await world.bring(2)
    world.mode = "away"
    world.say(3)
    await world.bring(4)
    world.mode = "up"
    await world.post_spool()
    await world.beat()
    world.say(2)
    await world.bring()


class TestEachEffect:
    """The crash matrix: the same scene, cut at every place there is."""

    @pytest.mark.parametrize("lose_disk", [False, True])
    @pytest.mark.parametrize("style", STYLES)
    async def test_whatever_the_agent_dies_between_is_repeated_or_safe(self, style, lose_disk):
        cuts = 0
        for effects in range(MANY):
            world = World(style)
            await world.start()
            try:
                world.effects_left = effects
                died = await world.unless_dead(scene(world))
                world.effects_left = None
                if died and lose_disk:
                    await world.restart(lose_disk=True)
                await world.check()
                await world.heal()
            finally:
                await world.close()
            if not died:
                break
            cuts += 1
        assert 10 < cuts < MANY - 1


class Intaken(RuleBasedStateMachine):
    """Any order of messages, kills, lost disks and moods of the control plane."""

    style = ""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.world = World(self.style)
        self.runner.run(self.world.start())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.world.effects_left = None
            try:
                self.runner.run(self.world.heal())
            finally:
                self.runner.run(self.world.close())
                self.runner.close()

    @rule(count=st.integers(1, 5), most=st.integers(1, 6))
    def messages(self, count: int, most: int) -> None:
        self.world.say(count)
        self.runner.run(self.world.unless_dead(self.world.bring(most)))

    @rule(mode=st.sampled_from(["up", "up", "away", "mute"]))
    def mood(self, mode: str) -> None:
        self.world.mode = mode

    @rule()
    def post(self) -> None:
        self.runner.run(self.world.unless_dead(self.world.post_spool()))

    @rule()
    def beat(self) -> None:
        self.runner.run(self.world.unless_dead(self.world.beat()))

    @rule(effects=st.integers(0, 25))
    def doom(self, effects: int) -> None:
        self.world.effects_left = effects

    @rule(lose_disk=st.booleans())
    def restart(self, lose_disk: bool) -> None:
        self.runner.run(self.world.restart(lose_disk=lose_disk))

    @invariant()
    def safe(self) -> None:
        if hasattr(self, "world"):
            self.runner.run(self.world.check())


@pytest.mark.parametrize("style", STYLES)
def test_whatever_happens_in_whatever_order(style: str) -> None:
    machine = type("Styled", (Intaken,), {"style": style})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None),
    )
