"""The stand-in platform on a socket."""

from collections.abc import AsyncIterator

import pytest

from adapters.simulators.wecom import WeCom
from adapters.wecom.adapter import Adapter
from adapters.wecom.settings import Settings
from tests.adapters.hosting import Host, SetClock


@pytest.fixture
async def wecom(clock: SetClock) -> AsyncIterator[WeCom]:
    async with WeCom(clock=clock) as platform:
        yield platform


@pytest.fixture
def settings(wecom: WeCom) -> Settings:
    return Settings.model_validate(wecom.settings)


@pytest.fixture
async def adapter(settings: Settings, host: Host, clock: SetClock) -> AsyncIterator[Adapter]:
    made = Adapter(settings, host, clock=clock)
    yield made
    await made._arrivals.close()
