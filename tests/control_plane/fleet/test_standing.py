"""Where an instance stands, whatever order reports come in: late, twice, mixed, from ghosts."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from instance_agent.document import DocumentError
from instance_agent.protocol import (
    ConfigApplied,
    ConfigOutcome,
    ConfigRejected,
    ConfigState,
    ConfigUpdate,
    Heartbeat,
)

STEPS = 40
SEEDS = range(6)
SHUT = [DocumentError(path="/channels/0", code="did_not_connect", message="shut")]
WRONG = [DocumentError(path="/persona", code="refused", message="not so")]
Key = tuple[int, str]


@dataclass
class Model:
    """An agent by the protocol, with a spool that the test delivers as it likes."""

    random: Random
    session_id: UUID
    runs: Key
    good: Key
    rejected: Key | None = None
    errors: list[DocumentError] = field(default_factory=list)
    trial: bool = False
    lost: set[Key] = field(default_factory=set)
    spool: list[tuple[str, Any]] = field(default_factory=list)

    def update(self, update: ConfigUpdate) -> ConfigOutcome:
        key = (update.revision, update.sha256)
        if key == self.runs:
            return ConfigOutcome(outcome="applied", revision=key[0], on_trial=self.trial)
        if key in self.lost or self.random.random() < 0.2:
            self.reject(key, SHUT if key in self.lost else WRONG)
            return ConfigOutcome(outcome="rejected", revision=self.runs[0], errors=self.errors)
        self.runs, self.trial = key, self.random.random() < 0.6
        self.rejected, self.errors = None, []
        if not self.trial:
            self.applied()
        return ConfigOutcome(outcome="applied", revision=key[0], on_trial=self.trial)

    def reject(self, key: Key, errors: list[DocumentError]) -> None:
        self.rejected, self.errors = key, errors
        told = ConfigRejected(revision=key[0], running=self.runs[0], errors=errors, sha256=key[1])
        self.spool.append(("config.rejected", told))

    def applied(self) -> None:
        self.good, self.trial = self.runs, False
        told = ConfigApplied(revision=self.runs[0], sha256=self.runs[1])
        self.spool.append(("config.applied", told))

    def end_trial(self) -> None:
        if not self.trial:
            return
        if self.random.random() < 0.5:
            self.applied()
            return
        lost, self.runs = self.runs, self.good
        self.lost.add(lost)
        self.reject(lost, SHUT)
        self.applied()

    def beat(self) -> Heartbeat:
        config = ConfigState(
            applied=self.runs[0],
            applied_sha256=self.runs[1],
            last_good=self.good[0],
            rejected=self.rejected[0] if self.rejected else None,
            rejected_sha256=self.rejected[1] if self.rejected else None,
            errors=self.errors,
            on_trial=self.trial,
        )
        return Heartbeat(config=config, channels=[], spool_depth=0, spool_bytes=0)


class Story:
    """One instance's, step by step."""

    def __init__(self, fleet, stand_in, seed: int) -> None:
        self.fleet, self.stand_in = fleet, stand_in
        self.random = Random(seed)
        self.ghosts: list[tuple[UUID, tuple[str, Any]]] = []
        self.desired, self.last_good = 0, -1
        self.delivered: set[str] = set()

    async def begin(self) -> None:
        self.instance_id, given = await self.fleet.run()
        self.take(given)

    def take(self, given) -> None:
        key = (given.newest.number, given.newest.sha256)
        refused = bool(given.refused) or self.random.random() < 0.2
        if refused and given.last_good is not None:
            good = (given.last_good.number, given.last_good.sha256)
            self.model = Model(self.random, given.session_id, good, good)
            self.model.applied()
            self.model.reject(key, list(given.refused) or WRONG)
        else:
            self.model = Model(self.random, given.session_id, key, key)
            self.model.applied()
        self.delivered |= {key[1], self.model.runs[1]}
        self.stand_in.decide = self.decide

    def decide(self, update: ConfigUpdate) -> ConfigOutcome:
        self.delivered.add(update.sha256)
        return self.model.update(update)

    async def step(self) -> None:
        steps = [
            self.publish,
            self.rename,
            self.look,
            self.look,
            self.tell,
            self.tell,
            self.tell_late,
            self.ghost,
            self.end_trial,
            self.beat,
            self.restart,
        ]
        await self.random.choice(steps)()

    async def publish(self) -> None:
        number = self.random.randint(0, self.desired)
        answer = await self.fleet.owner.post(
            f"/instances/{self.instance_id}/rollback", {"number": number}
        )
        assert answer.status_code < 300, answer.text
        self.desired += 1

    async def rename(self) -> None:
        path = f"/instances/{self.instance_id}/channels"
        [channel] = (await self.fleet.owner.get(path)).json()["items"]
        name = f"Site {self.random.random()}"
        await self.fleet.owner.patch(f"/channels/{channel['id']}", {"name": name})

    async def look(self) -> None:
        await self.fleet.look(self.instance_id)

    async def tell(self) -> None:
        if self.model.spool:
            await self.report(self.model.session_id, self.model.spool.pop(0))

    async def tell_late(self) -> None:
        """One of them, in no order, and it stays in the spool: it comes again."""
        if self.model.spool:
            await self.report(self.model.session_id, self.random.choice(self.model.spool))

    async def ghost(self) -> None:
        if self.ghosts:
            await self.report(*self.ghosts.pop())

    async def end_trial(self) -> None:
        self.model.end_trial()

    async def beat(self) -> None:
        await self.report(self.model.session_id, ("instance.heartbeat", self.model.beat()))

    async def restart(self) -> None:
        await self.fleet.owner.post(f"/instances/{self.instance_id}/restart")
        await self.fleet.look(self.instance_id)
        former = self.model
        self.ghosts += [(former.session_id, event) for event in former.spool]
        self.ghosts.append((former.session_id, ("config.applied", ghostly(former))))
        given = await self.fleet.bootstrap(self.instance_id)
        self.take(given)
        await self.fleet.look(self.instance_id)

    async def report(self, session_id: UUID, event: tuple[str, Any]) -> None:
        self.fleet.clock.advance(timedelta(milliseconds=1))
        await self.fleet.report(self.instance_id, session_id, event)

    async def check(self) -> None:
        state = await self.fleet.config(self.instance_id)
        assert state["desired"] == self.desired
        assert (state["last_good"] if state["last_good"] is not None else -1) >= self.last_good
        self.last_good = state["last_good"] if state["last_good"] is not None else -1
        assert self.last_good <= self.desired
        assert state["applied_sha256"] in self.delivered | {None}
        assert (state["rejected"] is None) == (json.loads(state["errors"]) == [])

    async def settle(self) -> None:
        """Everything arrives, nothing new happens."""
        self.model.end_trial()
        for _ in range(3):
            while self.model.spool:
                await self.tell()
            await self.beat()
            await self.look()
            self.model.end_trial()
        await self.beat()
        state = await self.fleet.config(self.instance_id)
        runs = (state["applied"], state["applied_sha256"])
        wanted = (state["delivered"], state["delivered_sha256"])
        assert runs == self.model.runs
        assert state["delivered"] == self.desired
        if runs != wanted:
            assert (state["rejected"], state["rejected_sha256"]) == wanted
            assert json.loads(state["errors"])


def ghostly(former: Model) -> ConfigApplied:
    """Of another time altogether."""
    return ConfigApplied(revision=former.runs[0] + 1, sha256="e" * 64)


@pytest.mark.parametrize("seed", SEEDS)
async def test_reports_in_any_order_leave_it_where_it_is(fleet, stand_in, seed: int) -> None:
    story = Story(fleet, stand_in, seed)
    await story.begin()
    for _ in range(STEPS):
        await story.step()
        await story.check()
    await story.settle()
    await story.check()
