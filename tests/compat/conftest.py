"""Who owns the bot."""

import pytest

from tests.conftest import People, Person


@pytest.fixture
async def owner(people: People) -> Person:
    return await people.owner()
