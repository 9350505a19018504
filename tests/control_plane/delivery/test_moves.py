"""A chat whose id changed: its conversation goes on under the new one, and nothing is lost."""

from datetime import timedelta

import asyncpg
import pytest
from starlette.responses import Response

from control_plane.delivery import moves
from control_plane.delivery.verdict import MAX_KEY
from instance_agent.protocol import PartOutcome, SendRequest
from tests.control_plane.conversations.scene import Bot, Worker
from tests.control_plane.delivery.stand_in import StandIn


class Moved:
    """The platform, which knows this chat under another id now."""

    def __init__(self, agent: StandIn, former: str, now: str) -> None:
        self._agent, self._former, self._now = agent, former, now

    async def __call__(self, request: SendRequest) -> Response:
        if request.conversation.id != self._former:
            return await self._agent.answer(request)
        refused = PartOutcome(outcome="failed", error_class="chat_moved", moved_to=self._now)
        return self._agent._record(request, refused)


async def conversations(superuser: asyncpg.Connection) -> list[tuple]:
    rows = await superuser.fetch("SELECT id, key FROM conversations ORDER BY id")
    return [tuple(row) for row in rows]


async def deliver(bot: Bot, worker: Worker, conversation) -> None:  # type: ignore[no-untyped-def]
    """Until nothing waits, whatever pauses there are."""
    while (pause := await worker.again(conversation)) is not None:
        await bot.later(pause)


@pytest.fixture
def moved(agent: StandIn) -> None:
    agent.then(*[Moved(agent, "old", "new")] * 20)


@pytest.mark.usefixtures("moved")
class TestMove:
    async def test_takes_the_conversation_along_and_all_that_waits_in_it(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好", key="old")
        await bot.says(conversation, *"甲乙丙")

        await deliver(bot, worker, conversation)

        assert agent.platform == list("甲乙丙")
        # One refusal, and nothing goes to the old place again.
        assert [call.conversation.id for call in agent.calls] == ["old", "new", "new", "new"]
        assert await bot.deliveries(conversation) == ["sent"] * 3
        assert await conversations(superuser) == [(conversation, "new")]

    async def test_makes_what_is_said_there_the_same_conversation(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好", key="old")
        await bot.says(conversation, "甲")
        await deliver(bot, worker, conversation)

        assert await bot.hears("还在吗", key="new") == conversation
        assert await conversations(superuser) == [(conversation, "new")]

    async def test_leaves_one_apart_that_was_begun_there_before(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        former = await bot.hears("你好", key="old")
        newer = await bot.hears("还在吗", key="new")
        await bot.says(former, "甲", "乙")
        await bot.says(newer, "丙")

        await deliver(bot, worker, former)
        await deliver(bot, worker, newer)

        assert sorted(agent.platform) == sorted("甲乙丙")
        assert {call.conversation.id for call in agent.calls[1:]} == {"new"}
        assert await conversations(superuser) == sorted([(former, "old"), (newer, "new")])
        assert await bot.deliveries(former) == ["sent"] * 2

    async def test_goes_on_where_its_worker_died_in_it(
        self, bot: Bot, agent: StandIn, worker: Worker, make_lanes, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好", key="old")
        await bot.says(conversation, "甲")
        dead, killed = await worker.claim(lease=timedelta(0)), make_lanes()
        begun = await killed._begin(dead)
        # The chat has moved, and the attempt's end is not on record.
        await killed._follow(dead, begun, await killed._send(begun))
        assert await conversations(superuser) == [(conversation, "new")]

        await deliver(bot, worker, conversation)

        assert agent.platform == ["甲"]
        assert await bot.deliveries(conversation) == ["sent"]
        assert await conversations(superuser) == [(conversation, "new")]

    async def test_twice_is_as_once(self, bot: Bot, parts, superuser: asyncpg.Connection) -> None:
        conversation = await bot.hears("你好", key="old")
        for _ in range(2):
            async with parts.house.database.plain(bot.scope) as session:
                await moves.follow(session, conversation, before="old", after="new")

        assert await conversations(superuser) == [(conversation, "new")]


class TestNoMove:
    @pytest.mark.parametrize("place", [None, "", "x" * (MAX_KEY + 1)])
    async def test_to_a_place_that_is_none(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection, place
    ) -> None:
        async def nowhere(request: SendRequest) -> Response:
            refused = PartOutcome(outcome="failed", error_class="chat_moved", moved_to=place)
            return agent._record(request, refused)

        conversation = await bot.hears("你好", key="old")
        await bot.says(conversation, "甲")
        agent.then(nowhere)
        await worker.once()

        assert await bot.deliveries(conversation) == ["failed"]
        assert await conversations(superuser) == [(conversation, "old")]

    async def test_in_circles_ends(self, bot: Bot, agent: StandIn, worker: Worker) -> None:
        async def elsewhere(request: SendRequest) -> Response:
            place = "b" if request.conversation.id == "a" else "a"
            refused = PartOutcome(outcome="failed", error_class="chat_moved", moved_to=place)
            return agent._record(request, refused)

        conversation = await bot.hears("你好", key="a")
        await bot.says(conversation, "甲")
        agent.then(*[elsewhere] * 20)

        await deliver(bot, worker, conversation)

        assert await bot.deliveries(conversation) == ["failed"]
        assert len(agent.calls) == 10
