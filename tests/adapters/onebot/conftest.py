"""The stand-in client, and an adapter where it connects or posts to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from adapters.base import NotAccepted
from adapters.model import RawCallback
from adapters.onebot.adapter import Adapter
from adapters.onebot.settings import Settings
from adapters.simulators.onebot import OneBot
from adapters.simulators.serving import serving
from adapters.sockets import Closed
from tests.adapters.hosting import Host

PATIENCE_S = 20.0


class Taken:
    """A socket that somebody opened to us (see `adapters.sockets.Socket`)."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def send(self, frame):
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise Closed(closed.rcvd.code if closed.rcvd else 1006) from None

    async def receive(self):
        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise Closed(closed.rcvd.code if closed.rcvd else 1006) from None

    async def close(self, code=1000):
        await self._connection.close(code)


class Bench:
    """A running adapter, and the address where its client finds it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.adapter: Adapter
        self.url = ""
        self.running: asyncio.Task[None]
        self.sockets = 0

    async def take(self, connection: ServerConnection) -> None:
        self.sockets += 1
        try:
            await self.adapter.socket(Taken(connection))
        except NotAccepted:
            await connection.close(1013)

    async def post(self, request: Request) -> Response:
        raw = RawCallback(
            method=request.method,
            path="/",
            query=request.url.query,
            headers=dict(request.headers),
            body=await request.body(),
            received_at=0,
        )
        try:
            answer = await self.adapter.callback(raw, verified=False)
        except NotAccepted:
            return Response("", 503)
        return Response(answer.body, answer.status)

    def start(self, settings: dict) -> None:
        self.adapter = Adapter(Settings.model_validate(settings), self.host)
        self.running = asyncio.create_task(self.adapter.run())

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait({self.running})


@pytest.fixture
async def bench(host: Host) -> AsyncIterator[Bench]:
    """Where sockets are opened and events posted to; nothing runs yet."""
    bench = Bench(host)
    async with serve(bench.take, "127.0.0.1", 0, close_timeout=1) as sockets:
        bench.url = f"http://127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
        yield bench


@pytest.fixture
def open_client(bench: Bench):
    """`async with open_client(...) as client`: a client whose account the adapter serves."""

    @asynccontextmanager
    async def open_client(**options) -> AsyncIterator[OneBot]:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(OneBot(**options))
            bench.start(client.settings)
            stack.push_async_callback(bench.stop)
            if client.transport == "http":
                routes = [Route("/", bench.post, methods=["POST"])]
                posts = await stack.enter_async_context(serving(Starlette(routes=routes)))
                client.callback_url = f"{posts}/"
            else:
                client.callback_url = bench.url
            await bench.host.proven.wait()
            yield client

    return open_client


@pytest.fixture
async def client(open_client) -> AsyncIterator[OneBot]:
    async with open_client() as made:
        yield made
