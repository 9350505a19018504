"""The platform's side that the adapter calls."""

import asyncio

import asyncpg
import pytest

from control_plane.kit.ids import new_id, new_token
from tests.control_plane.conversations.scene import Bot, make_bot
from tests.control_plane.webchat.conftest import Open, Platform


@pytest.fixture
async def visitor(page: Open, visitor_id):
    """Somebody who has written once."""
    async with page() as tab:
        await tab.resume()
        await tab.write("m-1")
    return await visitor_id()


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def sent(superuser: asyncpg.Connection) -> list[str]:
    rows = await superuser.fetch(
        "SELECT segments->0->>'text' FROM webchat_messages WHERE sender_kind = 'bot' ORDER BY seq"
    )
    return [row[0] for row in rows]


class TestMessages:
    async def test_are_taken_once_per_key(
        self, platform: Platform, visitor, superuser: asyncpg.Connection
    ) -> None:
        first = await platform.post(visitor, "1", "一")
        repeats = [await platform.post(visitor, "1", text) for text in ("一", "改过")]
        other = await platform.post(visitor, "2", "二")

        assert [answer.json() for answer in repeats] == [first.json()] * 2
        assert other.json() != first.json()
        assert await sent(superuser) == ["一", "二"]

    async def test_that_come_at_the_same_moment_are_taken_once_per_key(
        self, platform: Platform, visitor, superuser: asyncpg.Connection
    ) -> None:
        answers = await asyncio.gather(*(platform.post(visitor, "1") for _ in range(8)))

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert await sent(superuser) == ["您好"]

    async def test_under_a_key_that_a_visitor_used_are_not_taken_for_theirs(
        self, platform: Platform, visitor, superuser: asyncpg.Connection
    ) -> None:
        assert (await platform.post(visitor, "m-1", "答")).status_code == 200
        assert await sent(superuser) == ["答"]

    async def test_to_nobody_are_refused(
        self, platform: Platform, visitor, superuser: asyncpg.Connection
    ) -> None:
        answers = [await platform.post(to, "1") for to in (new_id(), "lin", "")]

        assert {code(answer) for answer in answers} == {(404, "recipient_not_found")}
        assert await sent(superuser) == []

    async def test_to_another_channels_visitor_are_refused(
        self, platform_of, bot: Bot, parts, people, visitor, superuser: asyncpg.Connection
    ) -> None:
        beside = await make_bot(parts, bot.owner)
        stranger = await make_bot(parts, await people.owner("Other House"))

        for other in (beside, stranger):
            answer = await (await platform_of(other)).post(visitor, "1")
            assert code(answer) == (404, "recipient_not_found")
        assert await sent(superuser) == []

    @pytest.mark.parametrize("text", ["", "  ", "a\0b", "x" * 20_001])
    async def test_of_nothing_that_can_be_shown_are_refused(
        self, platform: Platform, visitor, text: str
    ) -> None:
        assert code(await platform.post(visitor, "1", text)) == (422, "invalid_request")


class TestAccount:
    async def test_is_known_by_its_secret(self, platform: Platform, bot: Bot) -> None:
        answer = await platform.account()

        assert answer.json() == {"channel_id": str(bot.channel_id)}

    async def test_of_no_secret_is_unknown(self, client, bot: Bot) -> None:
        for secret in (new_token(), bot.token, "x"):
            answer = await Platform(client, secret).account()
            assert code(answer) == (401, "unknown_account")
            answer = await Platform(client, secret).post(new_id(), "1")
            assert code(answer) == (401, "unknown_account")
        assert code(await client.get("/webchat-platform/account")) == (401, "unknown_account")

    async def test_ends_with_its_channel(self, platform: Platform, bot: Bot, visitor) -> None:
        await bot.owner.delete(f"/channels/{bot.channel_id}")

        assert code(await platform.account()) == (401, "unknown_account")
        assert code(await platform.post(visitor, "1")) == (401, "unknown_account")
