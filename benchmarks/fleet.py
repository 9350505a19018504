"""What the fleet costs: looks at what is as it should be, controllers side by side, fan-out."""

import asyncio
import time

from benchmarks.fleet_ground import Fleet, plant
from benchmarks.ground import ROUNDS, figure, ground
from benchmarks.work import bare
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import WorkLoop
from control_plane.db.leases import Lease
from control_plane.fleet.provision.fake import FakeProvisioner
from control_plane.fleet.reconcile import WORK, Reconciler

NAMES = ("fleet_looks",)
FLEET = 1_000


async def figures() -> dict[str, dict[str, object]]:
    """Looks a second at a converged fleet, beside claims and releases alone."""
    async with ground() as base:
        fleet = await plant(base, [f"http://127.0.0.1:9/{n}" for n in range(FLEET)])
        reconciler = Reconciler(
            base.parts.house.database,
            base.parts.house.keys,
            base.parts.house.clock,
            provisioner=FakeProvisioner(fleet.place()),
            agents=base.parts.agents,
        )
        await _looks(fleet, reconciler)
        ours, beside = [], []
        for _ in range(ROUNDS):
            ours.append(await _looks(fleet, reconciler))
            beside.append(await bare(base))
    peer = "bare SQL loop that claims and releases, 16 at a time"
    return {"fleet_looks": figure(ours, beside, unit="looks/s", peer=peer, goal=">=0.5")}


async def _looks(fleet: Fleet, reconciler: Reconciler) -> float:
    left, done = FLEET, asyncio.Event()

    async def look(lease: Lease) -> object:
        nonlocal left
        again = await reconciler.look(lease)
        left -= 1
        if left == 0:
            done.set()
        return again

    await fleet.call()
    loop = WorkLoop(WORK, look, database=fleet.ground.parts.house.database, bus=LocalBus())
    began = time.perf_counter()
    running = asyncio.create_task(loop.run())
    await done.wait()
    took = time.perf_counter() - began
    loop.stop()
    await running
    return FLEET / took
