"""The stand-in platform on a socket, and what it calls: an adapter that runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest

from adapters.model import RawCallback
from adapters.simulators.wecom_kf import WeComKf
from adapters.wecom_kf.adapter import Adapter
from adapters.wecom_kf.settings import Settings
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
async def platform(clock: SetClock) -> AsyncIterator[WeComKf]:
    async with WeComKf(clock=clock) as made:
        yield made


@pytest.fixture
def settings(platform: WeComKf) -> Settings:
    return Settings.model_validate(platform.settings)


@pytest.fixture
def made(host: Host, clock: SetClock, settings: Settings) -> Callable[..., Adapter]:
    """An adapter, with some settings changed, or at another host."""

    def make(at: Host = host, **changes) -> Adapter:
        return Adapter(settings.model_copy(update=changes), at, clock=clock, now=clock)

    return make


@pytest.fixture
def adapter(made) -> Adapter:
    return made()


@asynccontextmanager
async def at_work(adapter: Adapter) -> AsyncIterator[asyncio.Task[None]]:
    """Let it run, and kill it at the end."""
    running = asyncio.create_task(adapter.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture
def ring(platform: WeComKf, clock: SetClock):
    """A call of the platform, taken by an adapter."""

    async def ring(adapter: Adapter, *, verified=False, **changes):
        values = platform.hint() | changes
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
        encrypt = platform.seal.close(f"<xml>{inner}</xml>".encode())
        request = RawCallback(
            method="POST",
            path="/",
            query=urlencode(platform._query(encrypt)),
            headers={},
            body=f"<xml><Encrypt>{encrypt}</Encrypt></xml>".encode(),
            received_at=clock(),
        )
        return await adapter.callback(request, verified=verified)

    return ring
