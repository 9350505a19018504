"""The writers of events, and the owner of a bot."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.parts import Parts
from tests.conftest import People, Person


@pytest.fixture
async def owner(people: People) -> Person:
    return await people.owner()


@pytest.fixture
async def writing(parts: Parts) -> AsyncIterator[None]:
    """The writers run, as in every process that serves."""
    running = asyncio.create_task(parts.commits.run())
    yield
    parts.commits.stop()
    await running
