"""The stand-in platform on a socket, by either transport."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.feishu.adapter import Adapter
from adapters.feishu.settings import Settings
from adapters.model import ConversationKey
from adapters.simulators.feishu import Feishu
from tests.adapters.hosting import Host, SetClock

# A busy machine may take longer than the platform waits; what is tested is the answer.
PATIENCE_S = 20.0


@pytest.fixture
async def feishu(clock: SetClock) -> AsyncIterator[Feishu]:
    async with Feishu(clock=clock, deadline_s=PATIENCE_S) as platform:
        yield platform


@pytest.fixture
async def calling(clock: SetClock) -> AsyncIterator[Feishu]:
    """The same, that calls us."""
    async with Feishu(transport="callback", clock=clock, deadline_s=PATIENCE_S) as platform:
        yield platform


def settings_of(platform: Feishu) -> Settings:
    return Settings.model_validate(platform.settings)


@pytest.fixture
def settings(feishu: Feishu) -> Settings:
    return settings_of(feishu)


@pytest.fixture
async def adapter(settings: Settings, host: Host, clock: SetClock) -> AsyncIterator[Adapter]:
    made = Adapter(settings, host, clock=clock)
    yield made
    await made._arrivals.close()


@pytest.fixture
async def connected(
    adapter: Adapter, feishu: Feishu, host: Host
) -> AsyncIterator["asyncio.Task[None]"]:
    """The adapter at work on its connection."""
    running = asyncio.create_task(adapter.run())
    waiting = asyncio.create_task(host.proven.wait())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        running.result()
    yield running
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture
def made(host, clock, settings):
    """The adapter with some settings changed."""

    def make(**changes):
        return Adapter(settings.model_copy(update=changes), host, clock=clock)

    return make


@pytest.fixture
def talk(feishu):
    """A direct talk that somebody has begun."""
    return ConversationKey(type="direct", id=feishu.chat_of("wang"))
