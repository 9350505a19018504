"""Whatever deltas are lost, late or repeated and wherever the agent dies: the list comes right."""

import asyncio
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from instance_agent.protocol import BlacklistUpdate
from tests.instance_agent.blacklist_world import CHANNEL, PEOPLE, Died, World

EXAMPLES = 1_000 if os.environ.get("SCALE") == "full" else 60
STEPS = 15
WHERE = ({}, {"kind": "wecom"}, {"kind": "qq"}, {"channel_id": CHANNEL})


class Listed(RuleBasedStateMachine):
    """One tenant's list and one instance's agents."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.world = World()
        self.late: list[BlacklistUpdate] = []
        self.runner.run(self.world.start())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self._run(self.world.repair)
            self.world.check()
            self.runner.run(self.world.close())
            self.runner.close()

    def _run(self, work) -> None:
        try:
            self.runner.run(work())
        except Died:
            self.runner.run(self.world.restart())

    @rule(name=st.sampled_from(PEOPLE), where=st.sampled_from(WHERE), ends=st.integers(-1, 9))
    def add(self, name: str, where: dict, ends: int) -> None:
        self.world.add(name, **where, ends=self.world.now + ends if ends > 0 else None)

    @rule(data=st.data())
    def remove(self, data) -> None:
        if self.world.entries:
            self.world.remove(data.draw(st.sampled_from(sorted(self.world.entries))))

    @rule()
    def forget_removals(self) -> None:
        self.world.forget_removals()

    @rule()
    def push(self) -> None:
        self._run(self.world.push)

    @rule()
    def lose(self) -> None:
        """A delta that comes later, or never."""
        if (update := self.world.delta(self.world.list.version)) is not None:
            self.late.append(update)

    @rule(data=st.data())
    def come_late(self, data) -> None:
        if self.late:
            update = data.draw(st.sampled_from(self.late))
            self._run(lambda: self.world.list.update(update))

    @rule()
    def repair(self) -> None:
        self._run(self.world.repair)

    @rule(away=st.booleans())
    def mood(self, away: bool) -> None:
        self.world.away = away

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    @rule(commits=st.integers(0, 3), behind=st.booleans())
    def doom(self, commits: int, behind: bool) -> None:
        self.world.store.commits_left, self.world.store.behind = commits, behind

    @rule(lose_disk=st.booleans())
    def restart(self, lose_disk: bool) -> None:
        self.runner.run(self.world.restart(lose_disk=lose_disk))

    @invariant()
    def what_has_the_newest_version_is_the_newest(self) -> None:
        if hasattr(self, "world") and self.world.list.version == self.world.version:
            self.world.check()


def test_whatever_happens_in_whatever_order() -> None:
    run_state_machine_as_test(
        Listed,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None),
    )
