"""Two worker processes beside one, when what they wait for is somebody else.

Customers' messages come in through `api`; workers run their turns and deliver the answers to a
stand-in of the agent that takes 50 ms for each. A worker has so few deliveries in hand that this
time bounds it and not its CPU: what is measured is whether two share the work without getting in
each other's way.
"""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any

import msgspec

from benchmarks.ground import FULL, PATIENCE_S, Agent, Ground, Process, figure, free_port, ground
from benchmarks.journey import ANSWER, QUESTION, read, reply, serving
from benchmarks.load import flood, message, signed
from control_plane.db.session import Scope
from control_plane.turns import answers
from control_plane.turns.schemas import AnswerItem
from instance_agent.protocol import MAX_BATCH_EVENTS, PartOutcome, SendRequest, SendResult

NAMES = ("workers_two",)
LATENCY_S = 0.05
# Deliveries that one worker has in hand: some 30 a second, a small part of a core.
AT_ONCE = 2
CONVERSATIONS = 120
ROUNDS = 5 if FULL else 3

_SENT = msgspec.json.encode(SendResult(parts=[PartOutcome(outcome="sent")]))
_LEFT = "SELECT count(*) FROM work WHERE kind IN ('turn', 'lane')"


class StandIn:
    """An agent that has all the time in the world; `heard` counts the answers of each contact."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: Counter[str] = Counter()
        self.last = 0.0

    async def __call__(self, _scope: dict[str, Any], receive: object, send: object) -> None:
        request = msgspec.json.decode(await read(receive), type=SendRequest)
        await asyncio.sleep(LATENCY_S)
        self.heard[request.conversation.id] += 1
        self.last = time.perf_counter()
        await reply(send, _SENT)


async def figures() -> dict[str, dict[str, object]]:
    """Answers a second of two workers, beside one."""
    one, two = [], []
    bound = {"LANES_AT_ONCE": str(AT_ONCE)}
    stand_in = StandIn()
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(ground())
        await stack.enter_async_context(serving(stand_in, stand_in.port))
        agent = await base.tenant(endpoint=f"http://127.0.0.1:{stand_in.port}")
        await _teach(base, agent)
        api = await stack.enter_async_context(base.product("api"))
        await stack.enter_async_context(base.product("worker", **bound))
        await _rate(base, stand_in, agent, api, "warm")
        for turn in range(ROUNDS):
            one.append(await _rate(base, stand_in, agent, api, f"one-{turn}"))
            async with base.product("worker", **bound):
                await _rate(base, stand_in, agent, api, f"warm-{turn}")
                two.append(await _rate(base, stand_in, agent, api, f"two-{turn}"))
    peer = f"one process; each has {AT_ONCE} deliveries in hand, of 50 ms"
    return {"workers_two": figure(two, one, unit="answers/s", peer=peer, goal=">=1.8")}


async def _rate(base: Ground, stand_in: StandIn, agent: Agent, api: Process, name: str) -> float:
    """Answers a second, until every contact has got exactly one."""
    stand_in.heard.clear()
    people = [f"{name}-{n}" for n in range(CONVERSATIONS)]
    events = [message(agent, who, QUESTION) for who in people]
    batches = [
        signed(agent, events[n : n + MAX_BATCH_EVENTS])
        for n in range(0, len(events), MAX_BATCH_EVENTS)
    ]
    connection = await base.connect()
    began = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S):
        await flood(api.port, batches, connections=len(batches))
        while await connection.fetchval(_LEFT):  # noqa: ASYNC110 - other processes' doing
            await asyncio.sleep(0.05)
    await connection.close()
    assert stand_in.heard == Counter(people), "somebody was not answered exactly once"
    return CONVERSATIONS / (stand_in.last - began)


async def _teach(base: Ground, agent: Agent) -> None:
    house = base.parts.house
    async with house.database.session(Scope(tenants=(agent.tenant_id,))) as session:
        await answers.replace(
            session,
            tenant_id=agent.tenant_id,
            items=[AnswerItem(question=QUESTION, answer=ANSWER)],
            actor=None,
            now=house.clock.now(),
        )
