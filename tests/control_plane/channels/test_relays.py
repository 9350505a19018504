"""The way in for platforms' sockets, through the whole application; a stand-in is the agent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from control_plane.access.limits import Rate, Rates
from control_plane.channels import relays
from control_plane.channels.relays import (
    MAX_BYTES_PER_S,
    MAX_FRAME_BYTES,
    MAX_FRAMES_PER_S,
    RESTARTING,
    TRY_LATER,
    Meter,
)
from control_plane.instances.client import MAX_SOCKET_FRAME_BYTES
from tests.control_plane.channels.test_callbacks import Bench
from tests.control_plane.channels.test_wecom import port
from tests.control_plane.conversations.scene import PATIENCE_S

__all__ = ["port"]

SETTINGS = {"self_id": "10001000", "access_token": "token-of-the-tenant"}
HEADERS = {"Authorization": "Bearer token-of-the-tenant", "X-Self-ID": "10001000"}


class Agent:
    """Takes sockets as an agent does."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[tuple[str, str]] = []
        self.sockets: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.refuses = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        async def take(socket: ServerConnection) -> None:
            await self.sockets.put(socket)
            await socket.wait_closed()

        def look(socket: ServerConnection, request: Any) -> Any:
            self.seen.append((request.path, request.headers["authorization"]))
            return socket.respond(self.refuses, "") if self.refuses else None

        async with serve(
            take, "127.0.0.1", 0, process_request=look, max_queue=1, close_timeout=1
        ) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield

    async def socket(self) -> ServerConnection:
        async with asyncio.timeout(PATIENCE_S):
            return await self.sockets.get()


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    agent = Agent()
    async with agent.up():
        yield agent


@pytest.fixture
async def bench(parts, clock, client, people, superuser) -> Bench:
    """A channel whose platform opens sockets."""
    bench = Bench(parts, clock, client, superuser)
    owner = await people.owner()
    bench.owner = owner
    await bench.open(owner)
    channel = await owner.post(
        f"/instances/{bench.instance_id}/channels",
        {"kind": "onebot", "name": "QQ", "settings": SETTINGS},
    )
    bench.webchat_token = bench.token
    bench.token = channel.json()["callback_url"].rpartition("/")[2]
    bench.channel_id = channel.json()["id"]
    return bench


@pytest.fixture
def knock(bench: Bench, port: int):
    """`async with knock() as socket`: a client connects."""

    @asynccontextmanager
    async def knock(
        token: str = "", *, path: str = "", **headers: str
    ) -> AsyncIterator[ClientConnection]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with connect(
            f"ws://127.0.0.1:{port}/im/{token or bench.token}{path}",
            additional_headers=given or HEADERS,
            max_size=None,
            proxy=None,
            close_timeout=1,
        ) as socket:
            yield socket

    return knock


@pytest.fixture
def refusal(knock):
    """(status, code) with which a handshake is refused."""

    async def refusal(*arguments: Any, **options: Any) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as refused:
            async with knock(*arguments, **options):
                pass
        response = refused.value.response
        return response.status_code, json.loads(response.body)["code"]

    return refusal


async def end_of(socket: ClientConnection) -> int:
    """The code with which a socket is closed."""
    async with asyncio.timeout(PATIENCE_S):
        await socket.wait_closed()
    return socket.close_code or 0


class TestCarried:
    async def test_frames_go_both_ways(self, bench, agent, knock) -> None:
        token = await bench.agent_comes(agent.url)

        async with knock() as client:
            inner = await agent.socket()
            for frame in ("你好", b"\x00\xff"):
                await client.send(frame)
                assert await inner.recv() == frame
                await inner.send(frame)
                assert await client.recv() == frame

        assert agent.seen == [(f"/im/{bench.channel_id}/socket", f"Bearer {token}")]

    async def test_the_token_may_be_in_the_address(self, bench, agent, knock) -> None:
        await bench.agent_comes(agent.url)

        path = "/onebot/v11/ws?access_token=token-of-the-tenant"
        async with knock(path=path, x_self_id="10001000"):
            await agent.socket()

    async def test_an_end_on_either_side_ends_both(self, bench, agent, knock) -> None:
        await bench.agent_comes(agent.url)

        async with knock() as client:
            inner = await agent.socket()
            await inner.close(4001)
            assert await end_of(client) == 4001
        async with knock() as client:
            inner = await agent.socket()
            inner.transport.abort()
            assert await end_of(client) == TRY_LATER
        async with knock() as client:
            inner = await agent.socket()
        async with asyncio.timeout(PATIENCE_S):
            await inner.wait_closed()

    async def test_a_frame_has_a_limit_of_its_own_each_way(self, bench, agent, knock) -> None:
        await bench.agent_comes(agent.url)

        async with knock() as client:
            inner = await agent.socket()
            await client.send("x" * MAX_FRAME_BYTES)
            assert len(await inner.recv()) == MAX_FRAME_BYTES
            large = "x" * MAX_SOCKET_FRAME_BYTES
            await inner.send(large)
            assert await client.recv() == large
            await client.send("x" * (MAX_FRAME_BYTES + 1))
            assert await end_of(client) == 1009

    async def test_who_is_not_read_is_not_read_ahead(self, bench, agent, knock) -> None:
        await bench.agent_comes(agent.url)
        frame = "x" * MAX_FRAME_BYTES
        sent = 0

        async def flood(client: ClientConnection) -> None:
            nonlocal sent
            while True:
                await client.send(frame)
                sent += 1

        async with knock() as client:
            inner = await agent.socket()
            flooding = asyncio.create_task(flood(client))
            # Until the sender itself stands still.
            before = -1
            while before != sent:
                before = sent
                done, _ = await asyncio.wait({flooding}, timeout=0.5)
                assert not done
            assert sent < 40
            for _ in range(sent):
                assert await inner.recv() == frame
            flooding.cancel()

    async def test_no_database_session_is_held(self, bench, agent, knock, superuser) -> None:
        await bench.agent_comes(agent.url)

        async with knock():
            await agent.socket()
            busy = await superuser.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
                "AND datname = current_database()"
            )
            assert busy == 0

    async def test_a_process_that_stops_asks_to_come_back(self, bench, agent, knock) -> None:
        await bench.agent_comes(agent.url)
        running = asyncio.create_task(bench.parts.relays.run())

        async with knock() as client:
            await agent.socket()
            bench.parts.relays.stop()
            assert await end_of(client) == RESTARTING
            assert client.close_reason.startswith("restarting")

        async with asyncio.timeout(PATIENCE_S):
            await running


class TestMeter:
    def test_slows_down_who_says_too_much_in_a_second(self) -> None:
        meter = Meter()
        pauses = [meter.pause_s(1, now=100.25) for _ in range(MAX_FRAMES_PER_S)]
        assert (set(pauses[:-1]), pauses[-1]) == ({0.0}, 1.0)
        assert meter.pause_s(1, now=101.25) == 0.0
        assert meter.pause_s(MAX_BYTES_PER_S, now=101.5) == 0.75
        assert meter.pause_s(1, now=102.5) == 0.0


class TestSentAway:
    @pytest.mark.parametrize(
        ("headers", "answer"),
        [
            ({"x_self_id": "10001000"}, (401, "callback_rejected")),
            ({"authorization": "Bearer "}, (401, "callback_rejected")),
            ({"authorization": "Bearer wrong"}, (403, "callback_rejected")),
            (
                {"authorization": "Bearer token-of-the-tenant", "x_self_id": "7"},
                (403, "callback_rejected"),
            ),
            (
                {
                    "authorization": "Bearer token-of-the-tenant",
                    "x_self_id": "10001000",
                    "x_client_role": "API",
                },
                (403, "callback_rejected"),
            ),
        ],
    )
    async def test_who_cannot_prove_it(self, bench, agent, refusal, headers, answer) -> None:
        await bench.agent_comes(agent.url)

        assert await refusal(**headers) == answer
        assert agent.seen == []

    async def test_who_has_no_address_of_ours(self, bench, refusal) -> None:
        assert await refusal("nobodys-token") == (404, "channel_not_found")
        assert await refusal(bench.webchat_token) == (404, "channel_not_found")

    async def test_from_a_deleted_channel(self, bench, refusal, superuser) -> None:
        await superuser.execute("UPDATE channels SET deleted_at = now()")

        assert await refusal() == (404, "channel_not_found")

    async def test_while_there_is_no_agent(self, bench, agent, refusal) -> None:
        assert await refusal() == (503, "no_agent")

    async def test_while_the_agent_takes_nobody(self, bench, agent, refusal) -> None:
        await bench.agent_comes(agent.url)
        agent.refuses = 403

        assert await refusal() == (503, "try_later")

    async def test_while_the_agent_cannot_be_reached(self, bench, refusal) -> None:
        await bench.agent_comes("http://127.0.0.1:1")

        assert await refusal() == (503, "try_later")

    async def test_when_there_are_too_many(
        self, bench, agent, knock, refusal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await bench.agent_comes(agent.url)
        monkeypatch.setattr(relays, "MAX_PER_CHANNEL", 1)
        async with knock():
            assert await refusal() == (429, "too_many_sockets")
            monkeypatch.setattr(relays, "MAX_SOCKETS", 1)
            assert await refusal() == (503, "try_later")

    async def test_once_the_process_stops(self, bench, agent, refusal) -> None:
        await bench.agent_comes(agent.url)
        bench.parts.relays.stop()

        assert await refusal() == (503, "try_later")


class TestRate:
    @pytest.fixture
    def rates(self) -> Rates:
        return Rates(relays=Rate(2, 60))

    async def test_guessing_a_token_is_slow(self, bench, agent, refusal) -> None:
        answers = [await refusal(authorization="Bearer guess") for _ in range(3)]

        assert [status for status, _ in answers] == [403, 403, 429]


class TestPlain:
    async def test_a_call_that_opens_no_socket_is_a_callback(self, bench, client) -> None:
        answer = await client.get(f"/im/{bench.token}")

        assert (answer.status_code, answer.json()["code"]) == (403, "callback_rejected")
