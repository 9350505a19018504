"""A bot whose customers write, and a colleague."""

import pytest

from control_plane.access.permissions import Role
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, make_bot


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


@pytest.fixture
async def colleague(bot: Bot, people) -> Person:
    return await people.member(bot.tenant_id, Role.MEMBER)
