"""A bot whose customers write."""

import pytest

from tests.control_plane.conversations.scene import Bot, make_bot


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())
