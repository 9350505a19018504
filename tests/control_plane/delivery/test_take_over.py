"""A take-over and a lane at the same moment: no bot delivery is begun once a person owns it."""

import asyncio
import json
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from starlette.responses import Response

from control_plane.conversations.service import Author
from control_plane.db import leases
from control_plane.delivery import groups, lanes
from control_plane.delivery.lanes import Lanes
from instance_agent.protocol import SendRequest
from tests.control_plane.conversations.scene import (
    LEASE,
    PATIENCE_S,
    Bot,
    Gated,
    Worker,
    until_blocked,
)
from tests.control_plane.delivery.stand_in import StandIn

ROUNDS = 30


async def take_over(bot: Bot, conversation: UUID) -> None:
    answer = await bot.owner.post(f"/conversations/{conversation}/take-over")
    assert answer.status_code == 200, answer.text


async def withheld(superuser: asyncpg.Connection) -> set[UUID]:
    """What take-overs say that they held back."""
    rows = await superuser.fetch(
        "SELECT data->>'withheld' FROM stream WHERE type = 'conversation.owner_changed'"
    )
    return {UUID(message_id) for row in rows for message_id in json.loads(row[0])}


async def begun(superuser: asyncpg.Connection) -> set[UUID]:
    """What was ever tried."""
    rows = await superuser.fetch(
        "SELECT message_id FROM deliveries WHERE id IN (SELECT delivery_id FROM attempts)"
    )
    return {row[0] for row in rows}


class TestTakeOver:
    async def test_withholds_what_the_bot_has_queued_and_nothing_else(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        other = await bot.hears("你好", key="mei")
        author = Author(kind="human", id=bot.owner.member_id, name="Lin")
        await bot.says(other, "别人的")
        held = await bot.says(conversation, "机器人一", "机器人二")
        await bot.says(conversation, "人", author=author)

        await take_over(bot, conversation)
        states = await bot.deliveries(conversation)
        await worker.all()

        assert states == ["withheld", "withheld", "queued"]
        assert await withheld(superuser) == set(held)
        assert sorted(agent.platform) == ["人", "别人的"]

    async def test_lets_what_is_being_sent_come_to_its_end(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.cut_before)
        await worker.once()

        await take_over(bot, conversation)
        await worker.all()

        assert await bot.deliveries(conversation) == ["sent", "withheld"]
        assert agent.platform == ["一"]

    @pytest.mark.parametrize(
        ("outcome", "state"), [("failed", "withheld"), ("unknown", "unconfirmed")]
    )
    async def test_stops_what_would_have_been_tried_again(
        self, bot: Bot, agent: StandIn, worker: Worker, outcome: str, state: str
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.fail("rate_limited", 60) if outcome == "failed" else agent.lose())
        await worker.once()

        await take_over(bot, conversation)
        await worker.all()

        assert await bot.deliveries(conversation) == [state]
        assert len(agent.calls) == 1

    async def test_stops_what_did_not_get_to_the_agent(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")

        async def leaves(request: SendRequest) -> Response:
            await take_over(bot, conversation)
            return await agent.refuse(503, "draining")(request)

        agent.then(leaves)
        await worker.once()
        await worker.all()

        assert await bot.deliveries(conversation) == ["withheld"]
        assert len(agent.calls) == 1

    async def test_leaves_open_what_a_later_refusal_did_not_settle(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.lose(), agent.fail("rate_limited", 60))
        await worker.once()
        await bot.later(timedelta(minutes=10))
        await worker.again(conversation)

        await take_over(bot, conversation)

        assert await bot.deliveries(conversation) == ["unconfirmed"]
        assert len(agent.calls) == 2

    @pytest.mark.parametrize(
        ("outcome", "state"), [("failed", "withheld"), ("unknown", "unconfirmed")]
    )
    async def test_does_not_try_again_what_was_being_sent(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        outcome: str,
        state: str,
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.fail("rate_limited", 60) if outcome == "failed" else agent.lose())
        sending = Gated(bot.parts.agents.send, after=True)
        monkeypatch.setattr(bot.parts.agents, "send", sending)
        work = asyncio.create_task(worker.once())
        await sending.wait()

        await take_over(bot, conversation)
        sending.open.set()
        await work
        await bot.later(timedelta(minutes=10))
        await worker.all()

        assert await bot.deliveries(conversation) == [state]
        assert len(agent.calls) == 1

    async def test_tries_again_what_a_person_asked_for(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.fail("content_invalid"), agent.fail("rate_limited", 60))
        await worker.once()
        await take_over(bot, conversation)
        delivery = await superuser.fetchval("SELECT id FROM deliveries")
        answer = await bot.owner.post(f"/deliveries/{delivery}/resend")
        assert answer.status_code == 200, answer.text
        await worker.all()
        await bot.later(timedelta(minutes=10))

        await worker.again(conversation)

        assert await bot.deliveries(conversation) == ["sent"]
        assert agent.platform == ["一"]

    async def test_closing_withholds_as_well(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")

        await bot.owner.post(f"/conversations/{conversation}/close")
        await worker.all()

        assert agent.calls == []


class TestRace:
    async def test_leaves_each_message_either_begun_or_withheld(
        self, bot: Bot, agent: StandIn, make_lanes, superuser: asyncpg.Connection
    ) -> None:
        lane: Lanes = make_lanes()
        queued: set[UUID] = set()
        for number in range(ROUNDS):
            conversation = await bot.hears("你好", key=f"guest-{number}")
            queued |= set(await bot.says(conversation, "一"))
            async with bot.database.session() as session:
                [lease] = await leases.claim(session, lanes.WORK, owner="me", limit=1, lease=LEASE)
            racers = [lane._begin(lease), take_over(bot, conversation)]
            # Each starts first in half of the rounds.
            await asyncio.gather(*(racers if number % 2 else reversed(racers)))
            before = await begun(superuser)
            await lane._begin(lease)
            assert await begun(superuser) == before

        # A take-over lists what it found queued: what it does not list had begun before it.
        held, tried = await withheld(superuser), await begun(superuser)
        assert held | tried == queued
        assert not held & tried

    async def test_won_by_the_lane_sends_what_had_begun(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conversation = await bot.hears("你好")
        [message_id] = await bot.says(conversation, "一")
        begin = Gated(groups.begin, after=True)
        monkeypatch.setattr(groups, "begin", begin)
        work = asyncio.create_task(worker.once())
        await begin.wait()
        taking = asyncio.create_task(take_over(bot, conversation))
        await until_blocked(superuser)
        begin.open.set()
        await asyncio.gather(work, taking)

        assert agent.platform == ["一"]
        assert await withheld(superuser) == set()
        assert await begun(superuser) == {message_id}

    async def test_won_by_the_person_begins_nothing(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conversation = await bot.hears("你好")
        [message_id] = await bot.says(conversation, "一")
        lease = await worker.claim()
        assert lease is not None
        own = Gated(lanes.withhold, after=True)
        monkeypatch.setattr(lanes, "withhold", own)
        taking = asyncio.create_task(take_over(bot, conversation))
        await own.wait()
        work = asyncio.create_task(worker.handle(lease))
        await until_blocked(superuser)
        own.open.set()
        await asyncio.gather(work, taking)

        assert agent.calls == []
        assert await withheld(superuser) == {message_id}
        assert await begun(superuser) == set()

    async def test_with_the_end_of_a_sending_never_locks_both_up(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        told = Gated(groups.end, after=True)
        monkeypatch.setattr(groups, "end", told)
        work = asyncio.create_task(worker.once())
        await told.wait()
        taking = asyncio.create_task(take_over(bot, conversation))
        await until_blocked(superuser)
        told.open.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(work, taking)

        assert await bot.deliveries(conversation) == ["sent"]
        assert agent.platform == ["一"]

    async def test_with_the_end_of_a_sending_that_failed_lets_nothing_be_tried_again(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conversation = await bot.hears("你好")
        [message] = await bot.says(conversation, "一")
        agent.then(agent.fail("rate_limited", 60))
        told = Gated(groups.end, after=True)
        monkeypatch.setattr(groups, "end", told)
        work = asyncio.create_task(worker.once())
        await told.wait()
        taking = asyncio.create_task(take_over(bot, conversation))
        await until_blocked(superuser)
        told.open.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(work, taking)
        await bot.later(timedelta(minutes=10))
        await worker.all()

        assert await bot.deliveries(conversation) == ["withheld"]
        assert await withheld(superuser) == {message}
        assert len(agent.calls) == 1


class TestAnswerOfAPerson:
    async def test_is_sent_behind_what_was_withheld(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "机器人")
        await take_over(bot, conversation)
        body = {"segments": [{"type": "text", "text": "我来"}]}
        await bot.owner.post(f"/conversations/{conversation}/messages", body)

        await worker.all()

        assert agent.platform == ["我来"]
        assert await bot.deliveries(conversation) == ["withheld", "sent"]
