"""Turns on a real database: one at a time, each message in exactly one, no answer twice."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.db.leases import Lease, LeaseLost
from control_plane.turns.worker import Turns
from instance_agent.document import Persona
from tests.control_plane.conversations.scene import Bot, Worker

HAND_OVER = Persona().hand_over_text


async def turns(superuser: asyncpg.Connection) -> list[tuple[int, int, int, str]]:
    """(number, from, through, state) of every turn."""
    rows = await superuser.fetch(
        "SELECT number, from_number, through_number, state FROM turns ORDER BY number"
    )
    return [tuple(row) for row in rows]


async def owner(bot: Bot, conversation: UUID) -> tuple[str, str | None]:
    shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
    return shown["owner"], shown["waiting_reason"]


async def act(bot: Bot, conversation: UUID, action: str) -> None:
    answer = await bot.owner.post(f"/conversations/{conversation}/{action}")
    assert answer.status_code == 200, answer.text


async def claim(worker: Worker, lease: timedelta = timedelta(hours=1)) -> Lease:
    found = await worker.claim(lease=lease)
    assert found is not None
    return found


async def is_idle(superuser: asyncpg.Connection) -> bool:
    return bool(await superuser.fetchval("SELECT count(*) = 0 FROM work WHERE kind = 'turn'"))


class TestAnswer:
    async def test_comes_from_the_list_and_is_queued(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("请问你们己点开门")

        await worker.all()

        assert await bot.texts(conversation) == [
            ("contact", "请问你们己点开门"),
            ("bot", "九点开门。"),
        ]
        assert await bot.deliveries(conversation) == ["queued"]
        assert await turns(superuser) == [(1, 1, 1, "answered")]
        assert await owner(bot, conversation) == ("bot", None)
        assert await is_idle(superuser)
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'lane'") == 1

    async def test_is_told_to_the_tenants_stream_in_order(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        await bot.hears("你们在哪里")
        await worker.all()

        told = await superuser.fetch(
            "SELECT type FROM stream WHERE type LIKE 'message%' OR type LIKE 'turn%' ORDER BY seq"
        )
        assert [row[0] for row in told] == ["message.created", "message.created", "turn.ended"]

    async def test_keeps_to_the_threshold_that_was_published(
        self, bot: Bot, worker: Worker
    ) -> None:
        path = f"/instances/{bot.instance_id}/revisions"
        document = {"rules": {"answer_threshold": 1.0}, "persona": {"name": "小花"}}
        revision = (await bot.owner.post(path, {"document": document})).json()
        conversation = await bot.hears("你们店在哪里", key="lin")
        await bot.owner.post(f"/revisions/{revision['id']}/publish")
        strict = await bot.hears("你们店在哪里", key="mei")

        await worker.all()

        assert await owner(bot, strict) == ("waiting", "no_answer")
        assert (await bot.thread(strict))[-1]["sender"]["name"] == "小花"
        assert (await bot.thread(conversation))[-1]["sender"]["name"] == "小花"

    async def test_to_a_burst_is_to_the_last_line_that_asks_something(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好", "我想问一下", "怎么退货", "谢谢", "在吗")

        await worker.all()

        assert (await bot.texts(conversation))[5:] == [("bot", "24 小时内联系我们。")]
        assert await turns(superuser) == [(1, 1, 5, "answered")]


class TestCoverage:
    async def test_puts_every_message_in_exactly_one_turn(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        questions = ["你们几点开门", "你们在哪里", "怎么退货", "你们几点关门", "do you deliver"]

        async def work() -> None:
            for _ in questions:
                await worker.all()

        await asyncio.gather(work(), *(bot.hears(question) for question in questions))
        await worker.all()

        rows = await superuser.fetch(
            "SELECT m.number, (SELECT count(*) FROM turns AS t WHERE m.conversation_id ="
            " t.conversation_id AND m.number BETWEEN t.from_number AND t.through_number)"
            " FROM messages AS m WHERE sender_kind = 'contact' ORDER BY m.number"
        )
        assert len(rows) == 5
        assert [row[1] for row in rows] == [1] * 5
        assert await is_idle(superuser)

    async def test_leaves_what_arrives_meanwhile_to_the_next_turn(
        self, bot: Bot, worker: Worker, turning: Turns, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        lease = await claim(worker)
        turn = await turning._begin(lease)
        assert turn is not None
        await bot.hears("怎么退货")
        decision = await turning._decide(lease, turn)

        assert await turning._end(lease, turn, decision) is True
        assert await turning.run(lease) is None

        assert [text for _, text in await bot.texts(conversation)] == [
            "你们在哪里",
            "怎么退货",
            "人民路 88 号。",
            "24 小时内联系我们。",
        ]
        assert await turns(superuser) == [(1, 1, 1, "answered"), (2, 2, 2, "answered")]

    async def test_does_nothing_when_it_is_called_for_nothing(
        self, bot: Bot, worker: Worker, turning: Turns, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        lease = await claim(worker)
        for _ in range(3):
            await turning.run(lease)

        assert len(await bot.texts(conversation)) == 2
        assert len(await turns(superuser)) == 1


class TestCrash:
    @pytest.mark.parametrize("after", ["begin", "decide"])
    async def test_is_made_up_for_by_the_same_turn(
        self,
        bot: Bot,
        worker: Worker,
        turning: Turns,
        superuser: asyncpg.Connection,
        after: str,
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        dead = await claim(worker, timedelta(0))
        turn = await turning._begin(dead)
        assert turn is not None
        if after == "decide":
            await turning._decide(dead, turn)
            # What was decided stands: a step is not done again.
            await bot.owner.call(
                "PUT", "/answers", json={"items": [{"question": "在哪里", "answer": "搬家了"}]}
            )
        await bot.hears("怎么退货")

        await worker.all()

        told = [text for who, text in await bot.texts(conversation) if who == "bot"]
        assert told[0] == "人民路 88 号。"
        assert told[1] == ("24 小时内联系我们。" if after == "begin" else HAND_OVER)
        assert [turn[:3] for turn in await turns(superuser)] == [(1, 1, 1), (2, 2, 2)]

    async def test_leaves_a_worker_that_comes_back_late_nothing_to_say(
        self, bot: Bot, worker: Worker, turning: Turns, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        late = await claim(worker, timedelta(0))
        turn = await turning._begin(late)
        assert turn is not None
        decision = await turning._decide(late, turn)
        await worker.all()

        with pytest.raises(LeaseLost):
            await turning._end(late, turn, decision)
        with pytest.raises(LeaseLost):
            await turning._begin(late)

        assert len(await bot.texts(conversation)) == 2
        assert await turns(superuser) == [(1, 1, 1, "answered")]


class TestHandOver:
    async def test_of_an_unknown_question_says_so_and_waits(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("今天天气怎么样")

        await worker.all()

        assert await bot.texts(conversation) == [
            ("contact", "今天天气怎么样"),
            ("bot", HAND_OVER),
        ]
        assert await owner(bot, conversation) == ("waiting", "no_answer")
        assert await turns(superuser) == [(1, 1, 1, "handed_over")]
        assert await bot.deliveries(conversation) == ["queued"]

    async def test_leaves_the_rest_to_a_person(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("今天天气怎么样")
        await worker.all()
        await bot.hears("你们在哪里")

        await worker.all()

        assert len(await turns(superuser)) == 1
        assert await is_idle(superuser)
        assert (await bot.texts(conversation))[-1] == ("contact", "你们在哪里")


class TestList:
    async def test_tells_answers_of_all_conversations_from_words_of_a_hand_over(
        self, bot: Bot, worker: Worker
    ) -> None:
        first = await bot.hears("今天天气怎么样")
        second = await bot.hears("请问你们己点开门", key="another")
        await worker.all()

        pages, cursor = [], ""
        while cursor is not None:
            answer = await bot.owner.get(f"/turns?limit=1{cursor and f'&cursor={cursor}'}")
            assert answer.status_code == 200, answer.text
            pages.append(answer.json()["items"])
            cursor = answer.json()["next"]

        assert all(len(page) == 1 for page in pages)
        found = {turn["conversation_id"]: turn["state"] for [turn] in pages}
        assert found == {str(first): "handed_over", str(second): "answered"}


class TestHuman:
    async def test_owns_it_and_the_bot_is_silent(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        await act(bot, conversation, "take-over")
        await bot.hears("怎么退货")

        await worker.all()

        assert await turns(superuser) == []
        assert await bot.deliveries(conversation) == []
        assert await is_idle(superuser)

    async def test_who_hands_back_has_dealt_with_what_was_said(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        await act(bot, conversation, "take-over")
        await bot.hears("怎么退货")
        await act(bot, conversation, "hand-back")
        await worker.all()
        assert await turns(superuser) == []

        await bot.hears("你们几点开门")
        await worker.all()

        assert await turns(superuser) == [(1, 3, 3, "answered")]
        assert (await bot.texts(conversation))[-1] == ("bot", "九点开门。")

    @pytest.mark.parametrize("question", ["你们在哪里", "今天天气怎么样"])
    async def test_who_takes_over_during_a_turn_makes_it_drop_its_answer(
        self,
        bot: Bot,
        worker: Worker,
        turning: Turns,
        superuser: asyncpg.Connection,
        question: str,
    ) -> None:
        conversation = await bot.hears(question)
        lease = await claim(worker)
        turn = await turning._begin(lease)
        assert turn is not None
        decision = await turning._decide(lease, turn)
        await act(bot, conversation, "take-over")

        assert await turning._end(lease, turn, decision) is False

        assert await turns(superuser) == [(1, 1, 1, "dropped")]
        assert await bot.deliveries(conversation) == []
        assert await owner(bot, conversation) == ("human", None)

    @pytest.mark.parametrize("back", ["hand-back", "close"])
    async def test_who_was_there_and_left_during_a_turn_has_dealt_with_it(
        self,
        bot: Bot,
        worker: Worker,
        turning: Turns,
        superuser: asyncpg.Connection,
        back: str,
    ) -> None:
        conversation = await bot.hears("你们在哪里")
        lease = await claim(worker)
        turn = await turning._begin(lease)
        assert turn is not None
        decision = await turning._decide(lease, turn)
        await act(bot, conversation, "take-over")
        await bot.hears("怎么退货")
        await act(bot, conversation, back)
        if back == "close":
            await bot.hears("今天天气怎么样")

        await turning._end(lease, turn, decision)
        while await turning.run(lease) is not None:
            pass

        told = [text for who, text in await bot.texts(conversation) if who == "bot"]
        assert told == ([] if back == "hand-back" else [HAND_OVER])
