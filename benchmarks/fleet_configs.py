"""A change in the configuration of a thousand agents, until each has it.

They answer from one process, each at an address of its own.
"""

import asyncio
import sys
import time

import httpx2
import msgspec
import uvicorn

from benchmarks.fleet import FLEET, look_at, reconciler_of
from benchmarks.fleet_ground import Fleet, plant
from benchmarks.ground import PATIENCE_S, ROUNDS, Ground, figure, free_port, ground, spawned
from benchmarks.journey import read, reply
from control_plane.bus.loop import LoopSettings
from control_plane.fleet.view import Digests, load
from instance_agent.protocol import ConfigOutcome

NAMES = ("fleet_config_fanout",)
# Configurations on their way at a time, on both sides: as many as a controller has looks in hand.
PUSHES = LoopSettings().concurrency

_APPLIED = msgspec.json.encode(ConfigOutcome(outcome="applied", revision=0))


async def figures() -> dict[str, dict[str, object]]:
    """Seconds until all agents have a changed configuration, beside bare posts."""
    port = free_port()
    command = ["-m", "benchmarks.fleet_configs", str(port)]
    async with ground() as base, spawned(command, port):
        fleet = await plant(
            base.parts, await base.connect(), [_address(n, port) for n in range(FLEET)]
        )
        return {"fleet_config_fanout": await _fanout(base, fleet)}


def _address(number: int, port: int) -> str:
    """All of them are this machine, and none has another's connections."""
    return f"http://127.1.{number // 250}.{number % 250 + 1}:{port}"


async def _fanout(base: Ground, fleet: Fleet) -> dict[str, object]:
    reconciler = await reconciler_of(base, fleet)
    ours, beside = [], []
    for turn in range(ROUNDS):
        await fleet.rename(f"Site {turn}")
        ours.append(await look_at(fleet, reconciler))
        assert await fleet.behind() == 0, "an agent has not applied what it should"
        beside.append(await _posts(base, fleet))
    peer = f"bare HTTP posts of the same, {PUSHES} at a time"
    return figure(ours, beside, unit=f"s for {FLEET} agents", peer=peer, goal="<=2")


async def _posts(base: Ground, fleet: Fleet) -> float:
    house = base.parts.house
    async with house.database.lone() as session:
        views = await load(session, house.keys, Digests(), fleet.bots, now=house.clock.now())
    ready = [
        (f"{view.agent.endpoint}/astrbot-api/v1/config/update", msgspec.json.encode(view.update))
        for view in views.values()
        if view.agent is not None
    ]
    assert len(ready) == FLEET
    room = asyncio.Semaphore(PUSHES)
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=100)
    async with httpx2.AsyncClient(limits=limits, timeout=PATIENCE_S, trust_env=False) as http:

        async def post(address: str, body: bytes) -> None:
            async with room:
                answer = await http.post(address, content=body)
            assert answer.content == _APPLIED

        began = time.perf_counter()
        await asyncio.gather(*(post(*each) for each in ready))
        return time.perf_counter() - began


async def _answer(_scope: object, receive: object, send: object) -> None:
    await read(receive)
    await reply(send, _APPLIED)


def serve_agents(port: int) -> None:
    """All the agents there are: they apply whatever they get."""
    # Each has an address of its own on the loopback, and one socket hears them all.
    config = {"log_config": None, "access_log": False, "lifespan": "off"}
    uvicorn.run(_answer, host="0.0.0.0", port=port, **config)  # type: ignore[arg-type] # noqa: S104


if __name__ == "__main__":
    serve_agents(int(sys.argv[1]))
