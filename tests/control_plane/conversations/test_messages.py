"""What was said: numbers, pages, and how the sending stands."""

import asyncio
from datetime import timedelta

import pytest

from tests.control_plane.conversations.scene import Bot


async def walk(person, path: str, **query: str | int) -> list[dict]:
    """All items, page by page."""
    items, following = [], None
    while True:
        cursor = {"cursor": following} if following else {}
        page = (await person.get(path, params={**query, **cursor})).json()
        items += page["items"]
        following = page["next"]
        if following is None:
            return items


class TestNumbers:
    async def test_are_gapless_however_many_speak_at_once(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await bot.owner.post(f"/conversations/{conversation}/take-over")
        body = {"segments": [{"type": "text", "text": "您好"}]}
        path = f"/conversations/{conversation}/messages"

        await asyncio.gather(
            *(bot.hears("一", "二") for _ in range(5)),
            *(bot.owner.post(path, body) for _ in range(5)),
            *(bot.says(conversation, "答") for _ in range(3)),
        )

        thread = await bot.thread(conversation)
        assert [item["number"] for item in thread] == list(range(1, 20))
        shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
        assert shown["last_number"] == 19

    async def test_count_in_each_conversation(self, bot: Bot) -> None:
        first = await bot.hears("一", "二", key="lin")
        second = await bot.hears("一", key="mei")

        assert [item["number"] for item in await bot.thread(first)] == [1, 2]
        assert [item["number"] for item in await bot.thread(second)] == [1]


class TestThread:
    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("limit", [1, 3, 7, 50])
    async def test_is_read_page_by_page_from_either_end(
        self, bot: Bot, order: str, limit: int
    ) -> None:
        conversation = await bot.hears(*"甲乙丙丁戊己庚")

        items = await walk(
            bot.owner, f"/conversations/{conversation}/messages", order=order, limit=limit
        )

        expected = list("甲乙丙丁戊己庚")
        if order == "desc":
            expected.reverse()
        assert [item["segments"][0]["text"] for item in items] == expected

    @pytest.mark.parametrize(("order", "expected"), [("desc", [3, 2, 1]), ("asc", [1, 2, 3])])
    async def test_can_end_before_a_number(self, bot: Bot, order: str, expected: list[int]) -> None:
        conversation = await bot.hears(*"甲乙丙丁戊")

        items = await walk(
            bot.owner,
            f"/conversations/{conversation}/messages",
            order=order,
            limit=2,
            before_number=4,
        )

        assert [item["number"] for item in items] == expected

    async def test_goes_on_where_it_stopped_when_more_was_said_meanwhile(self, bot: Bot) -> None:
        conversation = await bot.hears("一", "二", "三")
        path = f"/conversations/{conversation}/messages"
        first = (await bot.owner.get(path, params={"order": "desc", "limit": 2})).json()
        await bot.hears("四")

        rest = await bot.owner.get(
            path, params={"order": "desc", "limit": 2, "cursor": first["next"]}
        )

        assert [item["number"] for item in first["items"]] == [3, 2]
        assert [item["number"] for item in rest.json()["items"]] == [1]

    async def test_says_how_each_sending_stands(self, bot: Bot, superuser) -> None:
        conversation = await bot.hears("你好")
        ids = await bot.says(conversation, "一", "二")
        await superuser.execute(
            "UPDATE deliveries SET state = 'failed', error_class = 'content_invalid', attempts = 3"
            " WHERE message_id = $1",
            ids[0],
        )

        shown = [item["delivery"] for item in await bot.thread(conversation)]

        assert shown == [
            None,
            {"state": "failed", "error_class": "content_invalid", "attempts": 3},
            {"state": "queued", "error_class": None, "attempts": 0},
        ]


class TestList:
    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_loses_and_repeats_nothing_at_equal_times(self, bot: Bot, limit: int) -> None:
        made = {str(await bot.hears("你好", key=f"guest-{n}")) for n in range(5)}

        items = await walk(bot.owner, "/conversations", limit=limit)

        assert len({item["last_message_at"] for item in items}) == 1
        assert len(items) == 5
        assert {item["id"] for item in items} == made

    async def test_has_the_newest_message_first(self, bot: Bot, clock) -> None:
        for key in ("lin", "mei", "wang", "lin"):
            clock.advance(timedelta(minutes=1))
            await bot.hears(f"from {key}", key=key)

        items = await walk(bot.owner, "/conversations", limit=2)

        assert [item["contact"]["name"] for item in items] == ["Lin", "Wang", "Mei"]
        assert items[0]["preview"] == "from lin"

    async def test_can_be_only_those_of_one_owner(self, bot: Bot) -> None:
        mine = await bot.hears("你好", key="lin")
        await bot.hears("你好", key="mei")
        await bot.owner.post(f"/conversations/{mine}/take-over")

        items = (await bot.owner.get("/conversations", params={"owner": "human"})).json()["items"]

        assert [item["id"] for item in items] == [str(mine)]

    async def test_refuses_an_owner_that_nobody_is(self, bot: Bot) -> None:
        answer = await bot.owner.get("/conversations", params={"owner": "robot"})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
