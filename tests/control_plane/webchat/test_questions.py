"""The question how it was, as a visitor's page is told of it."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from control_plane.conversations import service as conversations
from control_plane.db.session import hint
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Bot
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.webchat.conftest import Open

ASK = """
INSERT INTO routing_ratings (id, tenant_id, conversation_id, number, asked_at, expires_at)
SELECT $1, tenant_id, id, last_number, $3, $4 FROM conversations WHERE id = $2
"""


async def ended(bot: Bot, key: str) -> UUID:
    """A conversation that a member had and has closed."""
    conversation = await bot.hears("hello", key=key)
    for action in ("take-over", "close"):
        answer = await bot.owner.post(f"/conversations/{conversation}/{action}")
        assert answer.status_code == 200, answer.text
    return conversation


async def asks(
    bot: Bot, superuser: asyncpg.Connection, conversation: UUID, *, hours: int = 24
) -> str:
    """Ask how it was, as routing does; the question's id."""
    now, question = bot.parts.house.clock.now(), new_id()
    until = now + timedelta(hours=hours)
    asked = now + timedelta(hours=min(0, hours))
    await superuser.execute(ASK, question, conversation, asked, until)
    return str(question)


async def look(bot: Bot, key: str) -> None:
    """Wake the page, as what routing says and does wakes it."""
    async with bot.session() as session:
        hint(session, conversations.topic(bot.channel_id, key))


class TestQuestion:
    async def test_is_told_when_it_is_asked_and_when_it_is_over(
        self, page: Open, agent: StandIn, bot: Bot, visitor_id, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
            key = str(await visitor_id())
            conversation = await ended(bot, key)
            question = await asks(bot, superuser, conversation)
            await look(bot, key)
            asked = await tab.next("question")
            assert asked["id"] == question
            assert asked["until"] is not None

            await superuser.execute("UPDATE routing_ratings SET score = 4")
            await look(bot, key)
            assert await tab.next("question") == {"type": "question", "id": None, "until": None}

    async def test_is_told_to_a_page_that_comes_back(
        self, page: Open, agent: StandIn, bot: Bot, visitor_id, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
        conversation = await ended(bot, str(await visitor_id()))
        question = await asks(bot, superuser, conversation)
        async with page() as tab_again:
            await tab_again.resume(tab.secret)
            assert (await tab_again.next("question"))["id"] == question

    async def test_is_not_told_when_its_time_is_over(
        self, page: Open, agent: StandIn, bot: Bot, visitor_id, superuser: asyncpg.Connection
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1")
        conversation = await ended(bot, str(await visitor_id()))
        await asks(bot, superuser, conversation, hours=-1)
        async with page() as tab_again:
            await tab_again.resume(tab.secret)
            told = await tab_again.next("state", "question")
            await tab_again.send({"type": "message", "id": "m-2", "text": "again"})
            assert [told["type"], (await tab_again.next())["type"]] == ["state", "ack"]
