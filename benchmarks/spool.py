"""How fast an agent that was cut off brings up what it has spooled."""

import asyncio
import base64
import contextlib
import os
import random
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import httpx2
import msgspec

from adapters import standard_webhooks
from benchmarks.ground import ROUNDS, Process, figure, free_port, spawned
from instance_agent.metrics import Metrics
from instance_agent.protocol import ChannelStatus, Event
from instance_agent.reporter import Reporter, new_event
from instance_agent.spool import Spool
from instance_agent.store import Store

NAMES = ("spool_backlog",)
EVENTS = 10_000
BATCH = 100
_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()

# A control plane that answers for every event and keeps none.
_TAKER = """
import sys
import msgspec, uvicorn
from instance_agent.protocol import (EventBatch, EventResult, EventResults)

async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    batch = msgspec.json.decode(body, type=EventBatch)
    results = [EventResult(id=event.id, status="stored") for event in batch.events]
    answer = msgspec.json.encode(EventResults(results=results))
    length = (b"content-length", str(len(answer)).encode())
    await send({"type": "http.response.start", "status": 202, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})

uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", lifespan="off")
"""


async def figures() -> dict[str, dict[str, object]]:
    """Events a second out of a full spool, beside a loop that has as many events in memory."""
    port = free_port()
    ours, bare = [], []
    async with spawned(["-c", _TAKER, str(port)], port) as taker:
        for _ in range(ROUNDS):
            ours.append(await _spooled(taker))
            bare.append(await _posted(taker))
    peer = "bare httpx2 loop that posts as many events from memory, 100 at a time"
    return {"spool_backlog": figure(ours, bare, unit="events/s", peer=peer, goal=">=0.7")}


def _event() -> bytes:
    status = ChannelStatus(channel_id=uuid4(), state="failed", reason="the platform is away")
    return msgspec.json.encode(new_event("channel.status", status, now=time.time()))


async def _spooled(taker: Process) -> float:
    with tempfile.TemporaryDirectory(prefix="botyard-bench-") as made:
        store = Store(Path(made) / "agent.db")
        spool = Spool(store)
        await spool.load()
        for start in range(0, EVENTS, 200):
            adding = (_add(spool) for _ in range(min(200, EVENTS - start)))
            await asyncio.gather(*adding)
        async with httpx2.AsyncClient(trust_env=False) as http:
            reporter = Reporter(
                http=http,
                url=f"http://127.0.0.1:{taker.port}/",
                session_id=uuid4(),
                secret=lambda: _SECRET,
                spool=spool,
                metrics=Metrics(),
                clock=time.time,
                random=random.Random(os.urandom(8)),  # noqa: S311 - for pauses only
            )
            began = time.perf_counter()
            posting = asyncio.create_task(reporter.post_spool())
            await spool.empty.wait()
            took = time.perf_counter() - began
            posting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await posting
        await store.close()
    return EVENTS / took


async def _add(spool: Spool) -> None:
    body = _event()
    # Under the id that the answer will name.
    await spool.add(msgspec.json.decode(body, type=Event).id, body, at=time.time())


async def _posted(taker: Process) -> float:
    backlog = [msgspec.json.decode(_event()) for _ in range(EVENTS)]
    async with httpx2.AsyncClient(trust_env=False) as http:
        began = time.perf_counter()
        for start in range(0, EVENTS, BATCH):
            batch = {"session_id": uuid4(), "events": backlog[start : start + BATCH]}
            body = msgspec.json.encode(batch)
            headers = standard_webhooks.sign(
                _SECRET, message_id=str(uuid4()), timestamp=int(time.time()), body=body
            )
            answer = await http.post(
                f"http://127.0.0.1:{taker.port}/", content=body, headers=headers
            )
            assert answer.status_code == 202
    return EVENTS / (time.perf_counter() - began)
