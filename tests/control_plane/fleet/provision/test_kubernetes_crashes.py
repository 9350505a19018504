"""Whoever calls dies between two writes to a real API server, and another repeats the call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import pytest

from control_plane.fleet.provision.base import (
    ABSENT,
    SMALLEST,
    Allowance,
    InstanceSpec,
    Transient,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import path_of
from control_plane.fleet.provision.kubernetes_compare import covers
from control_plane.fleet.provision.kubernetes_manifests import INSTANCE, PLACE, Wish, documents
from tests.cluster.api import Api, ApiError
from tests.control_plane.fleet.provision.pods import PodBench

PATIENCE_S = 150
GRACE = timedelta(seconds=20)
MANY = 20
"""More writes than any call makes."""

Call = Callable[[KubernetesProvisioner, InstanceSpec], Awaitable[Workload]]


class Mortal:
    """Makes one write after the other and dies behind the nth; nobody hears of that one."""

    def __init__(self, provisioner: KubernetesProvisioner, writes: int) -> None:
        self.left = writes
        self._send = provisioner._cluster._send
        self._died = asyncio.Event()
        self._writing = asyncio.Lock()
        provisioner._cluster._send = self._mortally

    async def _mortally(self, method: str, *asked):
        if method == "GET":
            return await self._send(method, *asked)
        async with self._writing:
            answer = await self._send(method, *asked)
            self.left -= 1
            if self.left == 0:
                answer.close()
                self._died.set()
                await asyncio.Event().wait()
        return answer

    async def calls(self, call: Awaitable[Workload]) -> None:
        """Until it has its answer or is dead."""
        calling = asyncio.ensure_future(call)
        dying = asyncio.create_task(self._died.wait())
        await asyncio.wait({calling, dying}, return_when=asyncio.FIRST_COMPLETED)
        for task in (calling, dying):
            task.cancel()
        await asyncio.gather(calling, dying, return_exceptions=True)
        if not self._died.is_set():
            calling.result()


class Census:
    """Watches all pods of a place: how many of an agent there were at the same time."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}
        self.ever: dict[str, set[str]] = {}
        self._there: dict[str, set[str]] = {}

    async def run(self, api: Api, place: str) -> None:
        """Until cancelled."""
        async for event in api.watch("/api/v1/pods", labelSelector=f"{PLACE}={place}"):
            meta = event["object"]["metadata"]
            agent = meta["labels"][INSTANCE]
            there = self._there.setdefault(agent, set())
            if event["type"] == "DELETED":
                there.discard(meta["uid"])
                continue
            there.add(meta["uid"])
            self.ever.setdefault(agent, set()).add(meta["uid"])
            self.most[agent] = max(self.most.get(agent, 0), len(there))


@asynccontextmanager
async def counted(api: Api, place: str) -> AsyncIterator[Census]:
    census = Census()
    counting = asyncio.create_task(census.run(api, place))
    try:
        yield census
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call, upon what it comes, and what it must lead to."""

    call: Call
    ends: WorkloadState
    pods: int
    """Of one agent, one after the other."""
    writes: int
    """What the call takes at least."""
    at_once: int = 1
    before: bool = True
    """Whether the agent runs already."""
    account_deleted: bool = False
    wish: Callable[[InstanceSpec], InstanceSpec] = lambda spec: spec


def more(spec: InstanceSpec) -> InstanceSpec:
    """What another plan gives, all of its terms."""
    terms = Allowance(cpu=500, memory=2**28, bots=7, egress=("10.3.0.0/16",))
    return replace(spec, allowance=terms)


async def to_the_end(caller: KubernetesProvisioner, spec: InstanceSpec) -> Workload:
    """Destroy it, again and again until nothing is left."""
    while (left := await caller.destroy(spec.instance_id)) != ABSENT:
        assert left.waits_for
        await asyncio.sleep(0.2)
    return left


CASES = {
    "ensure": Case(
        writes=8,
        call=lambda caller, spec: caller.ensure(spec),
        ends=WorkloadState.RUNNING,
        pods=1,
        before=False,
    ),
    "ensure of a newer generation": Case(
        writes=1,
        call=lambda caller, spec: caller.ensure(spec),
        ends=WorkloadState.RUNNING,
        pods=2,
        wish=lambda spec: replace(spec, generation=2),
    ),
    "refit": Case(
        writes=7,
        call=lambda caller, spec: caller.ensure(spec),
        ends=WorkloadState.RUNNING,
        pods=2,
        wish=more,
    ),
    "ensure without its account": Case(
        writes=2,
        call=lambda caller, spec: caller.ensure(spec),
        ends=WorkloadState.RUNNING,
        pods=2,
        # The old one drains while the new one starts, as when somebody deletes a pod.
        at_once=2,
        account_deleted=True,
    ),
    "stop": Case(
        writes=1,
        call=lambda caller, spec: caller.stop(spec.instance_id, grace=GRACE),
        ends=WorkloadState.EXITED,
        pods=1,
    ),
    "destroy": Case(
        writes=3,
        call=to_the_end,
        ends=WorkloadState.ABSENT,
        pods=1,
    ),
}


class World:
    """One tenant's agent and its callers."""

    def __init__(self, pods: PodBench, api: Api, case: Case) -> None:
        self._pods = pods
        self._api = api
        self._case = case
        some = replace(SMALLEST, bots=3)
        first = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1, allowance=some)
        self._first, self.spec = first, case.wish(first)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[KubernetesProvisioner]:
        provisioner = KubernetesProvisioner(await self._pods.way(), self._pods.placement)
        yield provisioner
        await provisioner.close()

    async def dies_after(self, writes: int) -> int:
        """How many writes it had left; another repeats the call, and all is as it should be."""
        if self._case.before:
            async with self.caller() as caller:
                await caller.ensure(self._first)
                await self._pods.settled(caller, self.spec.instance_id)
        if self._case.account_deleted:
            await self._api.delete(path_of(documents(Wish.of(self.spec), self._pods.placement)[-2]))
        async with self.caller() as caller:
            mortal = Mortal(caller, writes)
            await mortal.calls(self._case.call(caller, self.spec))
        async with self.caller() as caller:
            await self._again(caller)
            await self._is_as_it_should_be(caller)
        return mortal.left

    async def _again(self, caller: KubernetesProvisioner) -> None:
        """As the reconcile loop does."""
        while True:
            try:
                await self._case.call(caller, self.spec)
                return
            except Transient:
                await asyncio.sleep(0.2)

    async def _is_as_it_should_be(self, caller: KubernetesProvisioner) -> None:
        ends = await self._pods.settled(caller, self.spec.instance_id)
        assert ends.state is self._case.ends
        wished = documents(Wish.of(self.spec), self._pods.placement)
        if ends == ABSENT:
            assert [owned async for owned in caller.inventory() if self._owns(owned)] == []
            assert [await self._is_there(path_of(each)) for each in wished] == [False] * len(wished)
            return
        assert (ends.generation, ends.allowance) == (self.spec.generation, self.spec.allowance)
        assert ends.aligned
        for document in wished[:-1]:
            assert covers(document, await self._api.get(path_of(document)))

    def _owns(self, owned) -> bool:
        return self.spec.tenant_id == owned.tenant_id

    async def _is_there(self, where: str) -> bool:
        try:
            await self._api.get(where)
        except ApiError:
            return False
        return True


class TestACallerKilledBetweenTwoWrites:
    """F3 and F4."""

    @pytest.mark.parametrize("name", CASES)
    async def test_is_repeated_by_another_to_the_same_end(
        self, pods: PodBench, cluster, name: str
    ) -> None:
        case = CASES[name]
        async with (
            cluster.api() as api,
            counted(api, pods.placement.name) as census,
            asyncio.timeout(PATIENCE_S),
        ):
            count = MANY - await World(pods, api, case).dies_after(MANY)
            worlds = [World(pods, api, case) for _ in range(count)]
            left = await asyncio.gather(
                *(world.dies_after(writes) for writes, world in enumerate(worlds, 1))
            )
        assert count >= case.writes
        assert left[: case.writes] == [0] * case.writes, left
        for world in worlds:
            agent = str(world.spec.instance_id)
            assert census.most[agent] <= case.at_once
            assert len(census.ever[agent]) == case.pods
