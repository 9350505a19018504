from collections.abc import AsyncIterator

import pytest

from instance_agent.client import new_client
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with new_client() as http:
        yield Host(http)
