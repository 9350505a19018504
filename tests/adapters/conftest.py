from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from instance_agent.client import new_client
from tests.adapters.hosting import Host, SetClock

# What an example takes says nothing on a busy machine, nor where it loads a library first.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with new_client() as http:
        yield Host(http)
