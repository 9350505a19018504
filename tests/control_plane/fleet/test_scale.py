"""Many tenants at a place that takes its time: on a clock that moves when all others wait."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from random import Random
from uuid import UUID

import asyncpg
import pytest

from benchmarks.fleet_ground import place_of, plant, specs_of
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.db import leases
from control_plane.db.session import Database, Transaction
from control_plane.fleet.provision.base import InstanceSpec, Workload
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.reconcile import WORK, Reconciler
from control_plane.kit.ids import new_id
from control_plane.parts import Parts

LATENCY_S = 0.05
CONCURRENCY = LoopSettings().concurrency
TENANTS = 1_000
PATIENCE_S = 300.0
"""Longest wait for something that must happen, on a machine that is busy."""

_TENANTS = """
INSERT INTO tenants (id, name, state, created_at, updated_at)
SELECT DISTINCT id, 'Tea House', 'active', now(), now() FROM unnest($1::uuid[]) AS t (id)
"""
_HEADS = "INSERT INTO stream_heads (tenant_id) SELECT DISTINCT unnest($1::uuid[])"
_INSTANCES = """
INSERT INTO instances (id, tenant_id, name, created_at, updated_at)
SELECT id, tenant_id, 'Bot', now(), now() FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""
_STATES = """
INSERT INTO config_states (instance_id, tenant_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[])
"""
_WORK = """
INSERT INTO work (kind, key, tenant_id, due_at)
SELECT $3, id, tenant_id, now() FROM unnest($1::uuid[], $2::uuid[]) AS i (id, tenant_id)
"""


class Far:
    """Time between here and a place. It passes only while nobody has anything else to do.

    Whoever speaks to the database is waited for, and so is every callback of the loop: what is
    left waits for the place or for a timer, and timers do not count.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._busy = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._looks = False

    async def passes(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.now + seconds, next(self._order), future))
        self._look()
        await future

    def during(self, database: Database, patch: pytest.MonkeyPatch) -> None:
        """No time passes during this database's transactions."""
        for name in ("session", "plain", "lone"):
            patch.setattr(database, name, self._counted(getattr(database, name)))

    def _counted(
        self, make: Callable[..., AbstractAsyncContextManager[Transaction]]
    ) -> Callable[..., AbstractAsyncContextManager[Transaction]]:
        @asynccontextmanager
        async def counted(*arguments: object, **more: object) -> AsyncIterator[Transaction]:
            self._busy += 1
            try:
                async with make(*arguments, **more) as transaction:
                    yield transaction
            finally:
                self._busy -= 1
                self._look()

        return counted

    def _look(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._move)

    def _move(self) -> None:
        self._looks = False
        if self._busy or not self._waiting:
            return
        if asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]
            self._look()
            return
        self.now, _, future = heapq.heappop(self._waiting)
        if not future.done():
            future.set_result(None)
        self._look()


class FarProvisioner(FakeProvisioner):
    """Each call takes half of the latency to one and a half."""

    def __init__(self, place: FakePlace, far: Far) -> None:
        super().__init__(place)
        self._far = far
        self._random = Random(4)
        self.started: list[InstanceSpec] = []

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        await self._passes()
        return await super().observe(ids)

    async def ensure(self, spec: InstanceSpec) -> Workload:
        await self._passes()
        self.started.append(spec)
        return await super().ensure(spec)

    async def _passes(self) -> None:
        await self._far.passes(LATENCY_S * self._random.uniform(0.5, 1.5))


class Scene:
    """Controllers in one process, over one far place."""

    def __init__(
        self, parts: Parts, superuser: asyncpg.Connection, patch: pytest.MonkeyPatch
    ) -> None:
        self.far = Far()
        self.place = FakePlace(parts.house.clock)
        self.provisioner = FarProvisioner(self.place, self.far)
        self._house = parts.house
        self._agents = parts.agents
        self._superuser = superuser
        self.far.during(parts.house.database, patch)

    @property
    def calls(self) -> int:
        return self.place.calls.total()

    async def plant(self, tenants: list[UUID]) -> list[UUID]:
        """A bot for each, that does not run yet; a tenant may be there more than once."""
        instances = [new_id() for _ in tenants]
        for statement in (_TENANTS, _HEADS):
            await self._superuser.execute(statement, tenants)
        for statement in (_INSTANCES, _STATES):
            await self._superuser.execute(statement, instances, tenants)
        await self._superuser.execute(_WORK, instances, tenants, WORK)
        return instances

    async def start_all(self, many: int, *, controllers: int = 1) -> float:
        """The time until all are started, as the place sees it."""
        done = asyncio.Event()

        def look_of(look: Callable[[leases.Lease], Awaitable]) -> Callable:
            async def counted(lease: leases.Lease):
                again = await look(lease)
                if len(self.provisioner.started) == many:
                    done.set()
                return again

            return counted

        async with AsyncExitStack() as stack:
            for _ in range(controllers):
                await stack.enter_async_context(self._running(look_of))
            async with asyncio.timeout(PATIENCE_S):
                await done.wait()
            return self.far.now

    @asynccontextmanager
    async def _running(self, look_of: Callable) -> AsyncIterator[None]:
        house = self._house
        reconciler = Reconciler(
            house.database,
            house.keys,
            house.clock,
            provisioner=self.provisioner,
            agents=self._agents,
        )
        handler = look_of(reconciler.look)
        loop = WorkLoop(WORK, handler, database=house.database, bus=LocalBus())
        running = asyncio.create_task(loop.run())
        yield
        loop.stop()
        await running


@pytest.fixture
def scene(parts: Parts, superuser, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(parts, superuser, monkeypatch)


class TestManyTenants:
    async def test_that_start_at_once_wait_for_nothing_but_the_place(self, scene: Scene) -> None:
        await scene.plant([new_id() for _ in range(TENANTS)])

        took = await scene.start_all(TENANTS)

        ideal = scene.calls * LATENCY_S / CONCURRENCY
        assert took <= 1.25 * ideal
        assert scene.place.calls["ensure"] == TENANTS

    async def test_are_shared_by_two_controllers(self, scene: Scene) -> None:
        await scene.plant([new_id() for _ in range(200)])

        took = await scene.start_all(200, controllers=2)

        assert took <= 1.25 * scene.calls * LATENCY_S / (2 * CONCURRENCY)
        assert len(scene.provisioner.started) == 200

    async def test_do_not_wait_for_one_that_has_many_bots(self, scene: Scene) -> None:
        noisy, quiet = UUID(int=1), [new_id() for _ in range(30)]
        await scene.plant([*[noisy] * 200, *quiet])

        await scene.start_all(230)

        order = [spec.tenant_id for spec in scene.provisioner.started]
        last = max(order.index(tenant) for tenant in quiet)
        assert order[:last].count(noisy) <= CONCURRENCY


class TestAConvergedFleet:
    async def test_costs_no_write_however_often_it_is_looked_at(
        self, fleet, parts: Parts, superuser: asyncpg.Connection
    ) -> None:
        planted = await plant(parts, superuser, ["http://127.0.0.1:9"] * 100)
        house = parts.house
        specs = await specs_of(house.database, house.keys, house.clock, planted.bots)
        fleet.place = place_of(specs, house.clock)
        reconciler = fleet.reconciler_over(FakeProvisioner(fleet.place))
        looks, done = 0, asyncio.Event()

        async def look(lease: leases.Lease):
            nonlocal looks
            again = await reconciler.look(lease)
            looks += 1
            if looks % 100 == 0:
                done.set()
            return again

        async def look_at_all() -> None:
            done.clear()
            await planted.call(100)
            loop = WorkLoop(WORK, look, database=parts.house.database, bus=LocalBus())
            running = asyncio.create_task(loop.run())
            async with asyncio.timeout(PATIENCE_S):
                await done.wait()
            loop.stop()
            await running

        await look_at_all()
        before, calls = await fleet.versions(), dict(fleet.place.calls)
        for _ in range(10):
            await look_at_all()

        assert await fleet.versions() == before
        assert dict(fleet.place.calls) == calls | {"observe": calls["observe"] + 1_000}
