"""The stand-in platform on a socket, with either transport."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.model import RawCallback
from adapters.qq import link
from adapters.qq.adapter import Adapter
from adapters.qq.settings import Settings
from adapters.simulators.qq import QQ
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
async def qq(clock: SetClock) -> AsyncIterator[QQ]:
    async with QQ(clock=clock) as platform:
        yield platform


@pytest.fixture
def settings(qq: QQ) -> Settings:
    return Settings.model_validate(qq.settings)


@pytest.fixture
async def adapter(settings: Settings, host: Host, clock: SetClock) -> AsyncIterator[Adapter]:
    made = Adapter(settings, host, clock=clock)
    yield made
    await made._arrivals.close()


class Calls:
    """A webhook's address: what the platform posts there, the adapter takes."""

    def __init__(self, adapter: Adapter, clock: SetClock) -> None:
        self.adapter = adapter
        self.clock = clock
        self.verified = False

    async def take(self, body: bytes, headers: dict[str, str]):
        raw = RawCallback(
            method="POST",
            path="/",
            query="",
            headers=headers,
            body=body,
            received_at=self.clock(),
        )
        return await self.adapter.callback(raw, verified=self.verified)


@pytest.fixture
def calls(adapter: Adapter, clock: SetClock) -> Calls:
    return Calls(adapter, clock)


@pytest.fixture
async def gate(clock: SetClock, monkeypatch) -> AsyncIterator[QQ]:
    """The platform, whose gateway is used; what lost its connection comes back at once."""
    monkeypatch.setattr(link, "PAUSE_S", 0)
    async with QQ(clock=clock, transport="gateway", heartbeat_ms=60_000) as platform:
        yield platform


class Bot:
    """An adapter at the gateway, as its supervisor runs it."""

    def __init__(self, qq: QQ, host: Host, clock: SetClock) -> None:
        self.qq = qq
        self.host = host
        self.clock = clock
        self.running: asyncio.Task[None] | None = None

    def adapter(self, **changes) -> Adapter:
        settings = Settings.model_validate(self.qq.settings | changes)
        return Adapter(settings, self.host, clock=self.clock)

    async def start(self, **changes) -> None:
        self.host.proven.clear()
        self.running = asyncio.create_task(self.adapter(**changes).run())
        proven = asyncio.create_task(self.host.proven.wait())
        await asyncio.wait({self.running, proven}, return_when=asyncio.FIRST_COMPLETED)
        proven.cancel()
        if self.running.done():
            await self.running

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait({self.running})

    async def ends(self) -> Exception:
        """Why it ended by itself."""
        assert self.running is not None
        async with asyncio.timeout(20):
            await asyncio.wait({self.running})
        error = self.running.exception()
        assert isinstance(error, Exception)
        return error


@pytest.fixture
async def bot(gate: QQ, host: Host, clock: SetClock) -> AsyncIterator[Bot]:
    bot = Bot(gate, host, clock)
    yield bot
    await bot.stop()
