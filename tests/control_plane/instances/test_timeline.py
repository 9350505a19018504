"""One list of what happened to a bot and to its conversations."""

from dataclasses import replace

import asyncpg
import pytest

from tests.control_plane.conversations.scene import Bot, make_bot


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


async def lines(bot: Bot, person=None, **params) -> list[dict]:
    answer = await (person or bot.owner).get(
        f"/instances/{bot.instance_id}/timeline", params=params
    )
    assert answer.status_code == 200
    return answer.json()["items"]


async def act(bot: Bot, conversation_id, action: str) -> None:
    answer = await bot.owner.post(f"/conversations/{conversation_id}/{action}", {})
    assert answer.status_code == 200, answer.text


class TestTimeline:
    async def test_has_both_sorts_in_the_order_in_which_they_happened(self, bot: Bot) -> None:
        before = [line["type"] for line in await lines(bot)]
        talk = await bot.hears("hello")
        await bot.owner.post(f"/instances/{bot.instance_id}/restart")
        await act(bot, talk, "take-over")
        await act(bot, talk, "hand-back")
        await bot.owner.post(f"/instances/{bot.instance_id}/stop")

        told = await lines(bot)

        assert [line["type"] for line in told] == [
            "instance.stop",
            "conversation.owner",
            "conversation.owner",
            "instance.restart",
            "conversation.begin",
            *before,
        ]
        back, over, begin = (told[each] for each in (1, 2, 4))
        assert {line["conversation"]["id"] for line in (back, over, begin)} == {str(talk)}
        assert begin["conversation"]["channel_kind"] == "webchat"
        assert (over["data"]["before"], over["data"]["owner"]) == ("bot", "human")
        assert over["data"]["member_id"] == str(bot.owner.member_id)
        assert over["member_name"] is not None
        assert (back["data"]["owner"], back["member_name"]) == ("bot", None)
        assert told[0]["conversation"] is None

    async def test_shows_one_sort_alone(self, bot: Bot) -> None:
        talk = await bot.hears("hello")
        await act(bot, talk, "take-over")

        talks = await lines(bot, about="conversations")
        own = await lines(bot, about="instance")

        assert [line["type"] for line in talks] == ["conversation.owner", "conversation.begin"]
        assert own
        assert all(line["conversation"] is None for line in own)

    @pytest.mark.parametrize("about", ["all", "conversations"])
    async def test_pages_join(self, bot: Bot, about: str) -> None:
        for name in ("lin", "wu", "he"):
            await act(bot, await bot.hears("hello", key=name), "take-over")
        whole = [line["id"] for line in await lines(bot, about=about)]

        path, found, params = f"/instances/{bot.instance_id}/timeline", [], {"limit": 2}
        while True:
            page = (await bot.owner.get(path, params=params | {"about": about})).json()
            found += [line["id"] for line in page["items"]]
            if page["next"] is None:
                break
            params = {"limit": 2, "cursor": page["next"]}

        assert found == whole
        assert len(set(whole)) == len(whole)

    async def test_a_message_changes_nothing_of_it(self, bot: Bot) -> None:
        await bot.hears("hello")
        before = await lines(bot, about="conversations")

        await bot.hears("are you there?")

        assert await lines(bot, about="conversations") == before

    async def test_who_may_not_read_conversations_sees_the_bots_own_lines(self, bot: Bot) -> None:
        await bot.hears("hello")
        body = {"name": "Watcher", "scopes": ["instances.read"]}
        key = (await bot.owner.post("/api-keys", body)).json()["key"]
        watcher = replace(bot.owner, token=key)

        seen = await lines(bot, watcher)
        refused = await watcher.get(
            f"/instances/{bot.instance_id}/timeline", params={"about": "conversations"}
        )

        assert seen
        assert all(line["conversation"] is None for line in seen)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")

    async def test_another_instances_conversations_are_not_in_it(
        self, bot: Bot, parts, people
    ) -> None:
        other = await make_bot(parts, await people.owner())
        await other.hears("hello")

        assert await lines(bot, about="conversations") == []

    async def test_ids_made_by_the_database_are_of_now_and_of_version_7(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        talk = await bot.hears("hello")
        await act(bot, talk, "close")

        [made] = await superuser.fetch(
            "SELECT id, id >= uuid7_floor(now() - interval '1 hour')"
            " AND id < uuid7_floor(now() + interval '1 hour') AS of_now"
            " FROM timeline WHERE conversation_id = $1",
            talk,
        )
        assert made["of_now"]
        assert made["id"].version == 7
        assert made["id"].variant == "specified in RFC 4122"
