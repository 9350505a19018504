"""The stand-in system on a socket."""

from collections.abc import AsyncIterator, Callable

import pytest

from adapters.http.adapter import Adapter
from adapters.http.settings import Settings
from adapters.simulators.http import System
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
async def system(clock: SetClock) -> AsyncIterator[System]:
    async with System(clock=clock) as made:
        yield made


@pytest.fixture
async def made(
    system: System, host: Host, clock: SetClock
) -> AsyncIterator[Callable[..., Adapter]]:
    """Adapters with some settings changed."""
    all_of_them = []

    def make(**changes: object) -> Adapter:
        settings = Settings.model_validate(system.settings | changes)
        all_of_them.append(Adapter(settings, host, now=clock))
        return all_of_them[-1]

    yield make
    for adapter in all_of_them:
        await adapter._arrivals.close()


@pytest.fixture
def adapter(made: Callable[..., Adapter]) -> Adapter:
    return made()
