"""The application on real ports, one or several processes' worth, and people's sockets to it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from control_plane.access import tokens
from control_plane.app import create_app
from control_plane.db.session import Scope
from control_plane.parts import Parts, build
from control_plane.realtime.limits import SocketLimits
from control_plane.serve import HttpServer, listen
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from tests.conftest import PUBLIC_URL
from tests.control_plane.conversations.scene import PATIENCE_S

FEW = SocketLimits(total=40, per_tenant=8, per_member=3, per_address=30)


class Desk:
    """Somebody's socket."""

    def __init__(self, opened: ClientConnection) -> None:
        self.socket = opened
        self.ready: dict[str, Any] = {}

    async def send(self, frame: Any) -> None:
        data = frame if isinstance(frame, str | bytes) else json.dumps(frame)
        await self.socket.send(data)

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next frame of these kinds, or of any."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if not kinds or frame["type"] in kinds:
                    return frame

    async def enter(self, token: str, resume: dict[str, int] | None = None) -> dict[str, Any]:
        """Say who this is; the `ready` frame."""
        await self.send({"type": "auth", "token": token, "resume": resume})
        frame = await self.next()
        assert frame["type"] == "ready", frame
        return frame

    async def hears(self, count: int) -> list[int]:
        """The numbers in the next events."""
        return [(await self.next("event"))["event"]["data"]["n"] for _ in range(count)]

    async def asks(self, kind: str, id: str = "1", **data: Any) -> dict[str, Any]:  # noqa: A002
        """Send a command; its answer."""
        await self.send({"id": id, "type": kind, "data": data})
        return await self.next("ack", "error")

    async def end(self) -> tuple[int | None, str | None]:
        """Code and reason with which the server closes this."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code, self.socket.close_reason


@dataclass(kw_only=True)
class Replica:
    """One process's worth, on a port."""

    parts: Parts
    port: int

    @asynccontextmanager
    async def open(self, *, narrow: bool = False) -> AsyncIterator[Desk]:
        """A socket that has said nothing; a narrow one takes little before it is read."""
        raw = socket.create_connection(("127.0.0.1", self.port))
        if narrow:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        url = f"ws://127.0.0.1:{self.port}/api/v1/ws"
        more: dict[str, Any] = {"max_queue": 1} if narrow else {}
        async with connect(url, sock=raw, open_timeout=PATIENCE_S, **more) as opened:
            yield Desk(opened)

    @asynccontextmanager
    async def desk(
        self, person: Any, resume: dict[str, int] | None = None, *, narrow: bool = False
    ) -> AsyncIterator[Desk]:
        """The socket of somebody who is in."""
        async with self.open(narrow=narrow) as desk:
            desk.ready = await desk.enter(person.token, resume)
            yield desk

    async def empty(self) -> bool:
        return not self.parts.realtime._open

    async def sees(self, person: Any, permission: str) -> bool:
        """Whether this person's connection shows what needs the permission, and no other does."""
        [one] = [
            one
            for one in self.parts.realtime._open
            if one.who.actor.identity_id == person.identity_id
        ]
        return permission in one.listener.sight.sees and (
            permission != "answers.read" or len(one.listener.sight.sees) == 1
        )


@asynccontextmanager
async def running(parts: Parts, web_pages: Path) -> AsyncIterator[Replica]:
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=web_pages), listener, parts.sockets)
    tasks = [asyncio.create_task(part.run()) for part in (server, parts.realtime)]
    try:
        yield Replica(parts=parts, port=listener.getsockname()[1])
    finally:
        server.stop()
        parts.realtime.stop()
        await asyncio.gather(*tasks)


@pytest.fixture
def parts_of(app_url, keys, clock, rates, storage) -> Callable[[], Parts]:
    """Parts as another process would have them, over the same database."""

    def make() -> Parts:
        return build(
            database_url=app_url,
            keys=keys,
            clock=clock,
            public_url=PUBLIC_URL,
            rates=rates,
            sockets=FEW,
            media=storage,
        )

    return make


@pytest.fixture
async def parts(parts_of) -> AsyncIterator[Parts]:
    parts = parts_of()
    yield parts
    await parts.close()


@pytest.fixture
async def replica(parts: Parts, tmp_path: Path) -> AsyncIterator[Replica]:
    async with running(parts, tmp_path) as replica:
        yield replica


@pytest.fixture
async def deaf_replica(parts_of, tmp_path: Path) -> AsyncIterator[Replica]:
    """Another process whose hints reach nobody and that hears none."""
    parts: Parts = parts_of()
    try:
        async with running(parts, tmp_path) as replica:
            yield replica
    finally:
        await parts.close()


@pytest.fixture
def append(database) -> Callable:
    """Adds entries to a tenant's stream, as a process elsewhere whose hints do not arrive."""

    async def append(
        tenant_id: Any, *numbers: int, kind: str = "message.created", filler: str = ""
    ) -> None:
        more = {"filler": filler} if filler else {}
        async with database.session(Scope(tenants=(tenant_id,))) as session:
            await stream.append(
                session, tenant_id, [Entry(type=kind, data={"n": n, **more}) for n in numbers]
            )

    return append


@pytest.fixture
def fresh_token(keys, clock) -> Callable[[Any], str]:
    """Another access token of the same sign-in."""

    def fresh_token(person: Any) -> str:
        return tokens.make_access(
            keys,
            identity_id=person.identity_id,
            tenant_id=person.tenant_id,
            family_id=person.family_id,
            now=clock.now(),
        )

    return fresh_token
