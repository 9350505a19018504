import asyncio

import httpx2
import pytest

from adapters import registry
from adapters.base import Control
from adapters.outbound import Door
from instance_agent.channel_host import Surroundings
from instance_agent.holds import Holds
from instance_agent.metrics import Metrics
from instance_agent.supervisor import Supervisor
from tests.instance_agent.supervisor_world import (
    Account,
    ExclusiveAccount,
    FakeKind,
    Never,
    NobodyBlocked,
    SocketAccount,
    Statuses,
    Steady,
    granted,
)


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    for kind in (
        FakeKind("shared", Account),
        FakeKind("single", ExclusiveAccount),
        FakeKind("called", SocketAccount, takes_sockets=True),
    ):
        monkeypatch.setitem(registry._KINDS, kind.name, kind)
    monkeypatch.setattr(Account, "life", [])
    monkeypatch.setattr(Account, "hosts", {})
    monkeypatch.setattr(Account, "left", [])
    monkeypatch.setattr(Account, "end", asyncio.Event(), raising=False)
    monkeypatch.setattr(Account, "waiting", asyncio.Event(), raising=False)


@pytest.fixture
def statuses():
    return Statuses()


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
async def supervisor(statuses, steady):
    async with httpx2.AsyncClient() as http:
        around = Surroundings(
            http=http,
            control=Control(url="http://control", http=http),
            media=None,
            blacklist=NobodyBlocked(),
            intake=None,
            late=None,
            metrics=Metrics(),
            clock=lambda: 1000.0,
            random=Never(),
            holds=Holds(granted, every_s=10, clock=lambda: 1000.0),
            door=Door(()),
            steady=steady,
        )
        made = Supervisor(around, statuses.record)
        loops = [
            asyncio.create_task(made.report_states()),
            asyncio.create_task(around.holds.keep()),
        ]
        yield made
        await made.close()
        for loop in loops:
            loop.cancel()
