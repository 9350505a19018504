"""What one more tenant costs: memory of an idle agent, and how soon its channel is connected.

Each figure stands beside a bare process of the same libraries (starlette, uvicorn, httpx2) that
was measured in the same rounds, so that the machine's mood cancels out.
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instance_agent.document import digest
from instance_agent.protocol import Bootstrap, EventBatch, EventResult, EventResults, Revision

NAMES = ("agent_idle_memory", "agent_spawn_to_connected")
# Agent and bare process take turns; the medians of this many rounds count.
ROUNDS = 5
# A start that takes longer is broken, not slow.
PATIENCE_S = 30.0
# Between "connected" and reading the memory: until the process has slept this long.
QUIET_S = 0.5

_ROOT = Path(__file__).parents[1]
_SECRET = "a-channel-secret-of-at-least-32-characters"

# The process to stand beside: it serves, has made one request with its client, and rests.
_BARE = """
import sys
import httpx2, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def answer(request):
    await client.get(sys.argv[1])
    return JSONResponse({})

client = httpx2.AsyncClient()
app = Starlette(routes=[Route("/", answer)])
uvicorn.run(app, fd=int(sys.argv[2]), log_level="critical")
"""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _StandIn:
    """As much of a control plane as an agent needs to get its channel connected."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        document = {
            "channels": [
                {
                    "id": str(uuid4()),
                    "kind": "webchat",
                    "name": "web",
                    "settings": {"secret": _SECRET},
                }
            ]
        }
        self._revision = Revision(number=1, sha256=digest(document), document=document)
        self.app = Starlette(
            routes=[
                Route("/api/v1/instances/{id}/bootstrap", self._bootstrap, methods=["POST"]),
                Route("/api/v1/instances/{id}/events", self._events, methods=["POST"]),
                Route("/webchat-platform/account", self._account),
            ]
        )

    async def _bootstrap(self, _: Request) -> Response:
        answer = Bootstrap(
            session_id=uuid4(),
            session_token="-",
            api_token="-",
            webhook_secrets=["whsec_" + "A" * 32],
            heartbeat_s=15,
            newest=self._revision,
            last_good=None,
        )
        return Response(msgspec.json.encode(answer))

    async def _events(self, request: Request) -> Response:
        batch = msgspec.json.decode(await request.body(), type=EventBatch)
        if any(event.data.get("state") == "connected" for event in batch.events):
            self.connected.set()
        results = [EventResult(id=event.id, status="stored") for event in batch.events]
        return Response(msgspec.json.encode(EventResults(results=results)), 202)

    async def _account(self, _: Request) -> Response:
        return JSONResponse({})


async def figures() -> dict[str, dict[str, object]]:
    """Measure memory and start of an agent beside the bare process."""
    agents: list[tuple[float, float]] = []
    bares: list[tuple[float, float]] = []
    stand_in = _StandIn()
    async with _serving(stand_in.app) as url:
        for _ in range(ROUNDS):
            agents.append(await _agent(stand_in, url))
            bares.append(await _bare(url))
    memory, start = (statistics.median(column) for column in zip(*agents, strict=True))
    bare_memory, bare_start = (statistics.median(column) for column in zip(*bares, strict=True))
    return {
        "agent_idle_memory": _figure(memory, "MiB", bare_memory, "<=1.5"),
        "agent_spawn_to_connected": _figure(start, "s", bare_start, "<=2.0"),
    }


def _figure(value: float, unit: str, beside_value: float, goal: str) -> dict[str, object]:
    return {
        "value": round(value, 3),
        "unit": unit,
        "beside": "bare starlette + uvicorn + httpx2 process",
        "beside_value": round(beside_value, 3),
        "ratio": round(value / beside_value, 3),
        "goal": goal,
    }


async def _agent(stand_in: _StandIn, url: str) -> tuple[float, float]:
    stand_in.connected.clear()
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "bootstrap"
        token.write_text("token")
        command = [
            *("-m", "instance_agent", "--instance-id", str(uuid4()), "--generation", "1"),
            *("--control-url", url, "--data-dir", f"{folder}/data"),
            *("--bootstrap-file", str(token), "--listen", "127.0.0.1:0"),
        ]
        return await _measure(command, stand_in.connected.wait())


async def _bare(url: str) -> tuple[float, float]:
    listener = _listener()
    port = listener.getsockname()[1]
    command = ["-c", _BARE, f"{url}/webchat-platform/account", str(listener.fileno())]
    with listener:
        return await _measure(command, _answers(port), keep=(listener.fileno(),))


async def _answers(port: int) -> None:
    # The socket listens already, so the request waits in it until the process serves.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\nHost: bare\r\n\r\n")
    await reader.readuntil(b"200 OK")
    writer.close()
    await writer.wait_closed()


async def _measure(
    command: list[str], there: Awaitable[object], keep: tuple[int, ...] = ()
) -> tuple[float, float]:
    """Resident MiB when quiet, and seconds from the spawn until `there`."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=keep,
    )
    try:
        await asyncio.wait_for(there, PATIENCE_S)
        took = time.perf_counter() - began
        await asyncio.sleep(QUIET_S)
        return psutil.Process(process.pid).memory_info().rss / 2**20, took
    finally:
        process.kill()
        await process.wait()


def _listener() -> socket.socket:
    # The protocol is named, or asyncio would leave Nagle's algorithm on (40 ms per answer).
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@contextlib.asynccontextmanager
async def _serving(app: Starlette) -> AsyncIterator[str]:
    listener = _listener()
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    print(json.dumps(asyncio.run(figures()), indent=1))
