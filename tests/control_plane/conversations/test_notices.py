"""What members hear of a bot that does not work at the moment."""

import asyncpg
import pytest

from control_plane.conversations import notices
from control_plane.conversations.notices import sentence
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Bot, make_bot

WELL = {"deleted": False, "phase": "running", "active": True, "connected": True}


class TestSentence:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({}, None),
            ({"connected": False}, notices.NOT_CONNECTED),
            ({"connected": False, "phase": "connecting"}, notices.NOT_CONNECTED),
            ({"connected": False, "active": False}, notices.RESTARTING),
            ({"phase": "starting"}, notices.RESTARTING),
            ({"phase": "crash_loop", "active": False}, notices.FAILING),
            ({"phase": "stopped", "active": False, "connected": False}, notices.STOPPED),
            ({"phase": "hibernated", "active": False, "connected": False}, None),
            ({"deleted": True, "phase": "stopped"}, notices.DELETED),
        ],
    )
    def test_names_what_has_to_be_right_first(self, wrong: dict, said: str | None) -> None:
        assert sentence(**(WELL | wrong)) == said


class TestConversation:
    @pytest.fixture
    async def bot(self, parts, people) -> Bot:
        return await make_bot(parts, await people.owner())

    async def test_says_that_its_bot_is_restarting_until_it_is_back(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        path = f"/conversations/{await bot.hears('你好')}"
        assert (await bot.owner.get(path)).json()["notice"] == notices.RESTARTING

        await bot.attach("http://127.0.0.1:9", new_id())
        await superuser.execute("UPDATE instances SET phase = 'running'")
        await superuser.execute("UPDATE channels SET state = 'connected'")

        assert (await bot.owner.get(path)).json()["notice"] is None
