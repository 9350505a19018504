"""Our own chat platform on a real port, an agent's stand-in behind it, and visitors' pages."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from control_plane.channels.settings import unseal
from control_plane.serve import HttpServer, listen
from tests.control_plane.conversations.scene import PATIENCE_S, Bot, make_bot
from tests.control_plane.delivery.stand_in import StandIn

TITLE, GREETING = "示例花店", "您好！"


class Tab:
    """One page of a visitor. `secret` is what a page keeps in its browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.secret = ""

    async def send(self, frame: Any) -> None:
        data = frame if isinstance(frame, str | bytes) else json.dumps(frame)
        await self._socket.send(data)

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next frame of these kinds; by default of any but `state`."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame: dict[str, Any] = json.loads(await self._socket.recv())
                if frame["type"] in kinds or (not kinds and frame["type"] != "state"):
                    return frame

    async def resume(self, secret: str | None = None, last_id: str | None = None) -> dict[str, Any]:
        """Say who this is; the welcome."""
        await self.send({"type": "resume", "visitor": secret, "last_id": last_id})
        welcome = await self.next()
        assert welcome["type"] == "welcome"
        self.secret = welcome["visitor"]
        return welcome

    async def write(self, client_id: str, text: str = "你好") -> dict[str, Any]:
        """Write; the answer to exactly this."""
        await self.send({"type": "message", "id": client_id, "text": text})
        return await self.next("ack", "error")

    async def hears(self, count: int) -> list[str]:
        """The texts of the next messages."""
        return [words(await self.next("message")) for _ in range(count)]

    async def end(self) -> int:
        """The code with which the server closes this socket."""
        async with asyncio.timeout(PATIENCE_S):
            async for _frame in self._frames():
                pass
            await self._socket.wait_closed()
        code = self._socket.close_code
        assert code is not None
        return code

    async def _frames(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self._socket.recv()


def words(message: dict[str, Any]) -> str:
    text: str = message["segments"][0]["text"]
    return text


class Platform:
    """The calls that the adapter makes, under one channel's secret."""

    def __init__(self, client: httpx2.AsyncClient, secret: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {secret}"}

    async def account(self) -> httpx2.Response:
        return await self._client.get("/webchat-platform/account", headers=self._headers)

    async def post(
        self, to: UUID | str, key: str, text: str = "您好", segments: Any = None
    ) -> httpx2.Response:
        body = {
            "to": str(to),
            "key": key,
            "segments": segments or [{"type": "text", "text": text}],
            "sender": {"kind": "bot", "name": "小花"},
        }
        return await self._client.post(
            "/webchat-platform/messages", json=body, headers=self._headers
        )


Open = Callable[..., AbstractAsyncContextManager[Tab]]


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner(), title=TITLE, greeting=GREETING)


@pytest.fixture
async def agent(bot: Bot) -> AsyncIterator[StandIn]:
    """The bot's agent, running and active."""
    agent = StandIn()
    async with agent.running():
        await bot.attach(agent.url, agent.journal_id)
        yield agent


@pytest.fixture
async def port(app, parts) -> AsyncIterator[int]:
    """The application, served on a port as in production."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(app, listener, parts.sockets)
    task = asyncio.create_task(server.run())
    yield listener.getsockname()[1]
    server.stop()
    await task


@pytest.fixture
def page(bot: Bot, port: int) -> Open:
    """Opens the channel's page: `async with page() as tab`."""

    @asynccontextmanager
    async def open_page(token: str = bot.token) -> AsyncIterator[Tab]:
        url = f"ws://127.0.0.1:{port}/webchat/{token}/ws"
        async with connect(url, proxy=None, open_timeout=PATIENCE_S) as socket:
            yield Tab(socket)

    return open_page


@pytest.fixture
def platform_of(client, parts, superuser) -> Callable:
    """The platform's API as a bot's adapter calls it."""

    async def platform_of(bot: Bot) -> Platform:
        sealed = await superuser.fetchval(
            "SELECT secrets FROM channels WHERE id = $1", bot.channel_id
        )
        return Platform(client, unseal(parts.house.keys, sealed)["secret"])

    return platform_of


@pytest.fixture
async def platform(platform_of, bot: Bot) -> Platform:
    made: Platform = await platform_of(bot)
    return made


@pytest.fixture
def visitor_id(superuser) -> Callable:
    """The one visitor that there is."""

    async def visitor_id() -> UUID:
        found: UUID = await superuser.fetchval("SELECT id FROM webchat_visitors")
        return found

    return visitor_id
