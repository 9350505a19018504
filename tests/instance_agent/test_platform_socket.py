"""The agent's end of a platform's socket, over its own API."""

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters import registry
from adapters.base import NotAccepted
from adapters.simulators.serving import serving
from adapters.sockets import Closed
from instance_agent.app import create_app
from instance_agent.gate import Gate

TOKEN = "token-of-the-agent"
PATIENCE_S = 15.0


@dataclasses.dataclass(frozen=True)
class FakeKind:
    takes_sockets: bool


class Scope:
    """A channel whose adapter does as it is told."""

    def __init__(self, kind="called"):
        self.spec = SimpleNamespace(id=uuid4(), kind=kind)
        self.ended = asyncio.get_running_loop().create_future()
        self.serve = self.echo

    async def socket(self, connection):
        await self.serve(connection)

    async def echo(self, connection):
        try:
            while True:
                await connection.send(await connection.receive())
        except Closed as closed:
            self.ended.set_result(closed.code)

    async def refuse(self, _connection):
        raise NotAccepted("not now")

    async def close_with_a_word(self, connection):
        await connection.receive()
        await connection.close(4001)
        with pytest.raises(Closed):
            await connection.receive()
        with pytest.raises(Closed):
            await connection.send("too late")

    async def fail(self, connection):
        await connection.receive()
        raise ValueError("a bug")


@pytest.fixture
async def scope(monkeypatch):
    monkeypatch.setitem(registry._KINDS, "called", FakeKind(True))
    monkeypatch.setitem(registry._KINDS, "calling", FakeKind(False))
    return Scope()


@pytest.fixture
def agent(scope):
    """As much of an agent as the route looks at."""
    running = SimpleNamespace(
        secrets=SimpleNamespace(accepts=lambda token: token == TOKEN),
        supervisor=SimpleNamespace(scope={scope.spec.id: scope}.get),
    )
    return SimpleNamespace(running=running, gate=Gate())


@pytest.fixture
async def opened(agent, scope):
    """`async with opened() as socket`: the control plane carries a socket here."""
    async with serving(create_app(agent), sockets=True) as url:

        @asynccontextmanager
        async def opened(channel_id=scope.spec.id, token=TOKEN):
            async with connect(
                f"ws{url.removeprefix('http')}/im/{channel_id}/socket",
                additional_headers={"authorization": f"Bearer {token}"},
                proxy=None,
                close_timeout=1,
            ) as socket:
                yield socket

        yield opened


@pytest.fixture
def refusal(opened):
    """The status with which a socket is refused."""

    async def refusal(*arguments, **options):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(*arguments, **options):
                pass
        return refused.value.response.status_code

    return refusal


class TestServed:
    async def test_frames_go_both_ways_until_the_platform_leaves(self, opened, scope):
        async with opened() as socket:
            for frame in ("你好", b"\x00\x01"):
                await socket.send(frame)
                assert await socket.recv() == frame
            await socket.close(1001)
        async with asyncio.timeout(PATIENCE_S):
            assert await scope.ended == 1001

    @pytest.mark.parametrize(("act", "code"), [("close_with_a_word", 4001), ("fail", 1012)])
    async def test_the_adapters_end_is_the_sockets(self, opened, scope, act, code):
        async def serve(connection):
            # Both sides of a handshake are done before the adapter ends it.
            await connection.send("welcome")
            await getattr(scope, act)(connection)

        scope.serve = serve
        async with opened() as socket:
            assert await socket.recv() == "welcome"
            await socket.send("go")
            async with asyncio.timeout(PATIENCE_S):
                await socket.wait_closed()
            assert socket.close_code == code


class TestRefused:
    async def test_whose_adapter_does_not_take_it_was_never_connected(self, refusal, scope):
        scope.serve = scope.refuse
        assert await refusal() == 403

    async def test_without_the_agents_token(self, refusal):
        assert await refusal(token="another") == 403

    async def test_for_an_unknown_channel(self, refusal):
        assert await refusal(uuid4()) == 403

    async def test_for_a_kind_whose_platform_opens_none(self, refusal, scope):
        scope.spec.kind = "calling"
        assert await refusal() == 403

    async def test_by_an_agent_that_begins_or_ends(self, refusal, agent):
        agent.gate.closed = True
        assert await refusal() == 403
        agent.running = None
        assert await refusal() == 403
