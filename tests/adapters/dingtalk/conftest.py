"""The stand-in platform on a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from adapters.dingtalk.adapter import Adapter
from adapters.dingtalk.settings import Settings
from adapters.simulators.dingtalk import DingTalk
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
async def dingtalk(clock: SetClock) -> AsyncIterator[DingTalk]:
    async with DingTalk(clock=clock) as platform:
        yield platform


@pytest.fixture
def settings(dingtalk: DingTalk) -> Settings:
    return Settings.model_validate(dingtalk.settings)


@pytest.fixture
async def made(
    settings: Settings, host: Host, clock: SetClock
) -> AsyncIterator[Callable[..., Adapter]]:
    """Adapters with some settings changed."""
    all_of_them = []

    def make(**changes: object) -> Adapter:
        changed = settings.model_copy(update=changes)
        all_of_them.append(Adapter(changed, host, clock=clock, now=clock))
        return all_of_them[-1]

    yield make
    for adapter in all_of_them:
        await adapter._arrivals.close()


@pytest.fixture
def adapter(made: Callable[..., Adapter]) -> Adapter:
    return made()


@pytest.fixture
async def running(adapter: Adapter, dingtalk: DingTalk) -> AsyncIterator["asyncio.Task[None]"]:
    """The adapter, connected."""
    task = asyncio.create_task(adapter.run())
    await dingtalk.until(lambda: dingtalk.connections == 1)
    yield task
    task.cancel()
    await asyncio.wait({task})
