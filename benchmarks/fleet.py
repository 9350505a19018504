"""What looks at a fleet cost where all is as it should be, and controllers side by side."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import UUID

import uvloop

from benchmarks.fleet_ground import Fleet, place_of, plant, specs_of
from benchmarks.ground import (
    KEY,
    ROUNDS,
    Ground,
    Process,
    figure,
    free_port,
    ground,
    spawned,
)
from benchmarks.work import bare
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.fleet.provision.base import Workload
from control_plane.fleet.provision.fake import FakeProvisioner
from control_plane.fleet.reconcile import WORK, Reconciler
from control_plane.instances.client import AgentClient
from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring

NAMES = ("fleet_looks", "fleet_controllers_two")
FLEET = 1_000
# Seconds for all of them: what does not end is broken, what takes long is a busy machine.
PATIENCE_S = 600.0
# What a place of agents takes to answer; looks that one controller has in hand, so few that this
# time bounds it and not its CPU; and looks of one half of a round.
LATENCY_S = 0.05
AT_ONCE = 2
SOME = 200
_URL = "BENCH_DATABASE_URL"


async def figures() -> dict[str, dict[str, object]]:
    """Looks, and controllers side by side, over one planted fleet."""
    async with ground() as base:
        fleet = await plant(base.parts, await base.connect(), ["http://127.0.0.1:9"] * FLEET)
        return {
            "fleet_looks": await _looks(base, fleet),
            "fleet_controllers_two": await _controllers(base, fleet),
        }


async def reconciler_of(base: Ground, fleet: Fleet) -> Reconciler:
    """One in this process, over a place where all of them run."""
    house = base.parts.house
    specs = await specs_of(house.database, house.keys, house.clock, fleet.bots)
    return Reconciler(
        house.database,
        house.keys,
        house.clock,
        provisioner=FakeProvisioner(place_of(specs, house.clock)),
        agents=base.parts.agents,
    )


# --- looks -----------------------------------------------------------------------------------


async def _looks(base: Ground, fleet: Fleet) -> dict[str, object]:
    reconciler = await reconciler_of(base, fleet)
    await look_at(fleet, reconciler)
    ours, beside = [], []
    for _ in range(ROUNDS):
        ours.append(FLEET / await look_at(fleet, reconciler))
        beside.append(await bare(base))
    peer = "bare SQL loop that claims and releases, 16 at a time"
    return figure(ours, beside, unit="looks/s", peer=peer, goal=">=0.5")


async def look_at(fleet: Fleet, reconciler: Reconciler) -> float:
    """Seconds until each was looked at."""
    left, done = FLEET, asyncio.Event()

    async def look(lease: Lease) -> timedelta | None:
        nonlocal left
        again = await reconciler.look(lease)
        left -= 1
        if left == 0:
            done.set()
        return again

    await fleet.call(FLEET)
    loop = WorkLoop(WORK, look, database=fleet.parts.house.database, bus=LocalBus())
    began = time.perf_counter()
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()
    took = time.perf_counter() - began
    loop.stop()
    await running
    return took


# --- controllers side by side ----------------------------------------------------------------


async def _controllers(base: Ground, fleet: Fleet) -> dict[str, object]:
    one, two = [], []
    async with _controller(base) as first:
        await _rate(fleet, first)
        for _ in range(ROUNDS):
            one.append(await _rate(fleet, first))
            async with _controller(base) as second:
                await _rate(fleet, first, second)
                two.append(await _rate(fleet, first, second))
    peer = f"one; each has {AT_ONCE} looks in hand, at a place that answers in 50 ms"
    return figure(two, one, unit="looks/s", peer=peer, goal=">=1.8")


def _controller(base: Ground) -> AbstractAsyncContextManager[Process]:
    port = free_port()
    command = ["-m", "benchmarks.fleet", str(port)]
    return spawned(command, port, {_URL: base.app_url})


async def _rate(fleet: Fleet, *controllers: Process) -> float:
    """Looks a second, from the hint on."""
    await fleet.call(SOME)
    began = time.perf_counter()
    for process in controllers:
        _, writer = await asyncio.open_connection("127.0.0.1", process.port)
        writer.close()
    async with asyncio.timeout(PATIENCE_S):
        while await fleet.left():  # noqa: ASYNC110 - other processes' doing
            await asyncio.sleep(0.01)
    return SOME / (time.perf_counter() - began)


class _Slow(FakeProvisioner):
    """A place that is as far away as a cluster's API."""

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        await asyncio.sleep(LATENCY_S)
        return await super().observe(ids)


async def control(port: int) -> None:
    """A controller of its own; whoever connects to the port hints that there is work."""
    database, clock = Database(os.environ[_URL]), SystemClock()
    keys = Keyring([KEY])
    async with database.plain(Scope(operator=True)) as session:
        rows = await (await driver(session)).fetch("SELECT tenant_id, id FROM instances")
    specs = await specs_of(database, keys, clock, [tuple(row) for row in rows])
    reconciler = Reconciler(
        database,
        keys,
        clock,
        provisioner=_Slow(place_of(specs, clock)),
        agents=AgentClient(),
    )
    bus = LocalBus()
    settings = LoopSettings(concurrency=AT_ONCE)
    loop = WorkLoop(WORK, reconciler.look, database=database, bus=bus, settings=settings)

    def hinted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bus.wake_all()
        writer.close()

    await asyncio.start_server(hinted, "127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, loop.stop)
    await loop.run()
    await database.close()


if __name__ == "__main__":
    uvloop.run(control(int(sys.argv[1])))
