"""A bot whose messages are sent through an agent's stand-in."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, Worker, make_bot
from tests.control_plane.delivery.stand_in import StandIn


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


@pytest.fixture
async def program(bot: Bot) -> Person:
    """The tenant's own program: its key outlives any clock."""
    body = {"name": "k", "scopes": ["conversations.read", "conversations.write"]}
    key = (await bot.owner.post("/api-keys", body)).json()["key"]
    return replace(bot.owner, token=key)


@pytest.fixture
async def agent(bot: Bot) -> AsyncIterator[StandIn]:
    """The bot's agent, running and active."""
    agent = StandIn()
    async with agent.running():
        await bot.attach(agent.url, agent.journal_id)
        yield agent


@pytest.fixture
def make_lanes(parts) -> Callable[[], Lanes]:
    """Another process's lanes each time."""

    def make() -> Lanes:
        house = parts.house
        return Lanes(house.database, house.keys, house.clock, parts.agents)

    return make


@pytest.fixture
def worker(parts, make_lanes) -> Worker:
    return Worker(parts.house.database, lanes.WORK, make_lanes().deliver)
