"""What the workbench's sockets cost: one tenant's entries told to a thousand who listen.

The feed, outlets and sockets are the real ones over uvicorn; only the stream is read from memory.
Beside them a plain asyncio server writes ready frames of the same size, one at a time. What counts
is the server's own CPU, because clients and other programs share the machine.
"""

import asyncio
import json
import os
import resource
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import uvicorn
import uvloop

from control_plane.access.permissions import ROLE_PERMISSIONS, Role
from control_plane.realtime import frames
from control_plane.realtime.feed import Feed, Listener, Page, seeing
from control_plane.realtime.frames import Position
from control_plane.realtime.outlet import Outlet
from control_plane.realtime.wire import EXTENSION, SocketProtocol
from control_plane.stream.log import Placed

NAMES = ("socket_fanout_1000_one_at_a_time", "socket_fanout_1000_bursts_of_8")
LISTENERS = 1_000
# Entries told to each listener in one round; below what an outlet lets wait.
ENTRIES = 160
# Modes take turns; the medians of this many rounds count.
ROUNDS = 5
PATIENCE_S = 60.0

_ROOT = Path(__file__).parents[1]
_DATA = {"conversation_id": "0" * 36, "message_id": "0" * 36, "number": 1, "sender": "x" * 40}
_MODES = ("plain", "one", "burst")
_BURST = 8
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _entry(seq: int) -> Placed:
    return Placed(epoch=1, seq=seq, type="message.created", data=_DATA)


def _frame(seq: int) -> bytes:
    at = Position(1, seq)
    return frames.websocket(frames.event(at, "message.created", _DATA), at)


TOTAL = sum(len(_frame(seq)) for seq in range(1, ENTRIES + 1))
"""Bytes that each listener gets."""


# --- the servers ---


class _Told:
    """The real fan-out over a stream in memory."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._end = 0
        self.feed = Feed(self._read, standing_changed=self._nothing)

    async def _read(self, after: Position | None) -> Page:
        first = after.seq + 1 if after else 1
        entries = [_entry(seq) for seq in range(first, self._end + 1)] if after else []
        return Page(head=Position(1, self._end), entries=entries)

    async def _nothing(self) -> None:
        """Nobody's standing changes here."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        listener = Listener(
            outlet=Outlet(scope["extensions"][EXTENSION]),
            sight=seeing(frames.websocket, ROLE_PERMISSIONS[Role.VIEWER], masked=False),
        )
        await self.feed.join(listener, None)
        await receive()

    async def tell(self) -> None:
        for _ in range(ENTRIES // self._step):
            self._end += self._step
            await self.feed.look()
            await asyncio.sleep(0)


class _Plain(asyncio.Protocol):
    """Answers any handshake, then only writes what it is given."""

    transports: ClassVar[list[asyncio.Transport]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, _data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 101 OK\r\n\r\n")
        self.transports.append(self._transport)


async def _tell_plainly() -> None:
    ready = [_frame(seq) for seq in range(1, ENTRIES + 1)]
    for frame in ready:
        for transport in _Plain.transports:
            transport.write(frame)
        await asyncio.sleep(0)


async def serve(mode: str) -> None:
    """Listen, wait for the word on stdin, tell everybody, and say what it took."""
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(LISTENERS)
    tell: Callable[[], Awaitable[None]] = _tell_plainly
    if mode == "plain":
        await loop.create_server(_Plain, sock=listener)
    else:
        told = _Told(_BURST if mode == "burst" else 1)
        tell = told.tell
        await told.feed.start()
        config = uvicorn.Config(
            told.app,
            interface="asgi3",
            # Pings would be counted as deliveries.
            ws_ping_interval=None,
            ws=SocketProtocol,
            ws_per_message_deflate=False,
            log_config=None,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        serving.add_done_callback(lambda _task: None)
    print(listener.getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    began = time.process_time()
    await tell()
    # What the loop still has to write is written when it is asked next.
    await loop.run_in_executor(None, sys.stdin.readline)
    print(time.process_time() - began, flush=True)
    os._exit(0)


# --- the clients ---


def _connect(port: int) -> list[socket.socket]:
    opened = []
    for _ in range(LISTENERS):
        one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        one.sendall(_UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += one.recv(1)
        one.setblocking(False)
        opened.append(one)
    return opened


def _drain(opened: list[socket.socket]) -> None:
    """Read until everybody has everything."""
    left = dict.fromkeys(opened, TOTAL)
    deadline = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as ready:
        for one in opened:
            ready.register(one, selectors.EVENT_READ)
        while left:
            assert time.monotonic() < deadline, "not everything arrived"
            for key, _ in ready.select(1):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                left[one] -= len(one.recv(1 << 16))
                if left[one] <= 0:
                    assert left.pop(one) == 0, "more came than was sent"
                    ready.unregister(one)


async def _measure(mode: str) -> float:
    """Deliveries for each second of the server's CPU."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.fanout", mode),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        opened = await asyncio.to_thread(_connect, port)
        process.stdin.write(b"go\n")
        await asyncio.to_thread(_drain, opened)
        process.stdin.write(b"done\n")
        took = float(await process.stdout.readline())
        for one in opened:
            one.close()
        return LISTENERS * ENTRIES / took
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def figures() -> dict[str, dict[str, object]]:
    """Fan-out one entry at a time and in bursts, beside plain writing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * LISTENERS)), hard))
    rounds = [{mode: await _measure(mode) for mode in _MODES} for _ in range(ROUNDS)]
    plain, one, burst = (statistics.median(each[mode] for each in rounds) for mode in _MODES)
    return {
        "socket_fanout_1000_one_at_a_time": _figure(one, plain, ">=0.6"),
        "socket_fanout_1000_bursts_of_8": _figure(burst, plain, ">=3"),
    }


def _figure(value: float, beside: float, goal: str) -> dict[str, object]:
    return {
        "value": round(value),
        "unit": "deliveries per CPU second",
        "beside": "plain asyncio writing ready frames one at a time",
        "beside_value": round(beside),
        "ratio": round(value / beside, 3),
        "goal": goal,
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(serve(sys.argv[1]))
    else:
        print(json.dumps(asyncio.run(figures()), indent=1))
