"""The stand-in platform on a socket, in both of its transports."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from adapters.simulators.wecom_aibot import AiBot
from adapters.wecom_aibot.adapter import Adapter
from adapters.wecom_aibot.settings import Settings
from tests.adapters.hosting import Host
from tests.adapters.wecom_aibot.front import Front


class Steady:
    """A clock that goes on by itself, and that a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
async def bot(steady: Steady) -> AsyncIterator[AiBot]:
    async with AiBot(clock=lambda: time.time() + steady.ahead) as platform:
        yield platform


@pytest.fixture
async def asking() -> AsyncIterator[AiBot]:
    """The same with callbacks."""
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with AiBot(transport="callback", deadline_s=20, check_deadline_s=20) as platform:
        yield platform


@pytest.fixture
def settings(bot: AiBot) -> Settings:
    return Settings.model_validate(bot.settings)


@pytest.fixture
def made(host: Host, settings: Settings, steady: Steady) -> Callable[..., Adapter]:
    """The adapter of the long connection, with some settings changed."""

    def make(**changes: object) -> Adapter:
        return Adapter(settings.model_copy(update=changes), host, clock=steady)

    return make


@asynccontextmanager
async def run(adapter: Adapter, host: Host) -> AsyncIterator[asyncio.Task[None]]:
    """Connected while inside, or ended."""
    host.proven.clear()
    running = asyncio.create_task(adapter.run())
    connecting = asyncio.create_task(host.proven.wait())
    await asyncio.wait({running, connecting}, return_when=asyncio.FIRST_COMPLETED)
    connecting.cancel()
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture
async def adapter(made: Callable[..., Adapter], host: Host) -> AsyncIterator[Adapter]:
    """Connected."""
    adapter = made()
    async with run(adapter, host):
        yield adapter


@pytest.fixture
async def front(asking: AiBot, host: Host, steady: Steady) -> AsyncIterator[Front]:
    """A bot with callbacks, and its way in."""
    settings = Settings.model_validate(asking.settings)
    adapter = Adapter(settings, host, clock=steady)
    front = Front(settings, adapter)
    async with front.served() as asking.callback_url:
        yield front
        await adapter._way._arrivals.close()
