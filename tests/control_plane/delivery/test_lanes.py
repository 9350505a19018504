"""Lanes, against a real agent API: what is sent, in which order, and never twice."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import asyncpg
import httpx2
import pytest
from msgspec import structs

from adapters import registry
from control_plane.access.permissions import Role
from control_plane.conversations.service import Author
from control_plane.db.leases import LeaseLost
from control_plane.delivery.lanes import MAX_AGE, Lanes
from control_plane.instances import client as agent_client
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import PATIENCE_S, Bot, Worker
from tests.control_plane.delivery.stand_in import StandIn

SECOND = timedelta(seconds=1)


async def states(superuser: asyncpg.Connection) -> list[tuple[str, str | None, int]]:
    rows = await superuser.fetch(
        "SELECT state, error_class, attempts FROM deliveries ORDER BY number"
    )
    return [tuple(row) for row in rows]


async def attempts(superuser: asyncpg.Connection) -> list[tuple[int, str | None]]:
    rows = await superuser.fetch("SELECT number, outcome FROM attempts ORDER BY id")
    return [tuple(row) for row in rows]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform recognises no repeated send."""
    kind = replace(registry.kind("webchat"), resend_safe_s=0.0)
    monkeypatch.setitem(registry._KINDS, "webchat", kind)


class TestOrder:
    async def test_is_that_of_the_conversation(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, *"甲乙丙丁")

        await worker.all()

        assert agent.platform == list("甲乙丙丁")
        assert await bot.deliveries(conversation) == ["sent"] * 4
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'lane'") == 0

    async def test_holds_in_a_lane_longer_than_one_lease_works_on(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        texts = [str(number) for number in range(45)]
        await bot.says(conversation, *texts)

        assert await worker.once() == timedelta(0)
        assert len(agent.platform) < len(texts)
        await worker.all()

        assert agent.platform == texts

    async def test_waits_for_the_head_to_succeed(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.fail("server_busy", 10), agent.fail("server_busy", 10))
        for _ in range(2):
            await worker.again(conversation)
            await bot.later(timedelta(seconds=10))
            assert agent.platform == []

        await worker.again(conversation)

        assert agent.platform == ["一", "二"]
        assert [call.attempt for call in agent.calls] == [1, 2, 3, 1]

    async def test_goes_on_behind_one_that_failed_for_good(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.fail("content_invalid"))

        await worker.once()

        assert agent.platform == ["二"]
        assert await states(superuser) == [("failed", "content_invalid", 1), ("sent", None, 1)]

    async def test_goes_on_behind_one_whose_failure_cannot_be_written_down_as_it_is(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.fail("content\0invalid"))

        await worker.once()

        assert agent.platform == ["二"]
        assert (await states(superuser))[0][:2] == ("failed", "content\ufffdinvalid")

    async def test_of_one_conversation_holds_up_no_other(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        first = await bot.hears("你好", key="lin")
        await bot.says(first, "一")
        agent.then(agent.fail("rate_limited", 600))
        await worker.once()
        second = await bot.hears("你好", key="mei")
        await bot.says(second, "二")
        await worker.once()

        assert agent.platform == ["二"]


class TestCall:
    async def test_says_everything_that_the_agent_needs(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好", key="lin")
        author = Author(kind="human", id=bot.owner.member_id, name="Lin")
        [message_id] = await bot.says(conversation, "您好", author=author)

        await worker.once()

        [call] = agent.calls
        assert (call.message_id, call.attempt, call.epoch) == (message_id, 1, 1)
        assert (call.channel_id, call.journal_id) == (bot.channel_id, agent.journal_id)
        assert (call.conversation.type, call.conversation.id) == ("direct", "lin")
        assert (call.author.kind, call.author.name) == ("human", "Lin")

    async def test_changes_are_told_to_the_tenants_stream(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await worker.once()

        told = await superuser.fetch(
            "SELECT data->>'state' FROM stream WHERE type = 'delivery.changed' ORDER BY seq"
        )
        assert [row[0] for row in told] == ["sent"]


class TestRetry:
    async def test_comes_when_the_platform_asked_for_it_and_not_before(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.fail("rate_limited", 30))

        assert await worker.once() == 30 * SECOND
        assert await states(superuser) == [("queued", "rate_limited", 1)]
        await bot.later(29 * SECOND)
        wait = await worker.again(conversation)
        assert wait is not None
        assert timedelta(0) < wait <= SECOND
        assert len(agent.calls) == 1
        await bot.later(SECOND)
        assert await worker.again(conversation) is None

        assert agent.platform == ["一"]
        assert await attempts(superuser) == [(1, "failed"), (2, "sent")]

    @pytest.mark.parametrize("wrong", [timedelta(minutes=10), timedelta(days=1)])
    async def test_does_not_wait_because_whoever_asked_for_it_had_a_wrong_clock(
        self, bot: Bot, agent: StandIn, worker: Worker, wrong: timedelta
    ) -> None:
        conversation = await bot.hears("你好")
        bot.parts.house.clock.advance(wrong)
        await bot.says(conversation, "一")
        bot.parts.house.clock.advance(-wrong)

        await worker.all()

        assert agent.platform == ["一"]

    async def test_backs_off_and_ends(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(*[agent.fail("server_busy")] * 10)
        for _ in range(10):
            await worker.again(conversation)
            await bot.later(timedelta(minutes=10))

        assert await states(superuser) == [("failed", "server_busy", 10), ("sent", None, 1)]
        assert agent.platform == ["二"]


class TestOpenAttempt:
    @pytest.mark.parametrize("cut", ["cut_before", "cut_after"])
    async def test_is_repeated_to_the_same_journal_until_it_answers(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection, cut: str
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(getattr(agent, cut))

        assert await worker.once() == SECOND
        assert await states(superuser) == [("sending", None, 1), ("queued", None, 0)]
        await worker.again(conversation)

        assert agent.platform == ["一", "二"]
        assert [call.attempt for call in agent.calls] == [1, 1, 1]
        assert await attempts(superuser) == [(1, "sent"), (1, "sent")]

    async def test_of_an_agent_that_hangs_is_left_open_and_then_sent_once(
        self, bot: Bot, agent: StandIn, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agent_client, "SEND_TIMEOUT", timedelta(milliseconds=100))
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.hang)

        assert await worker.once() == SECOND
        assert await bot.deliveries(conversation) == ["sending"]
        monkeypatch.undo()
        await worker.again(conversation)

        assert agent.platform == ["一"]
        assert await bot.deliveries(conversation) == ["sent"]

    async def test_waits_for_an_agent_that_cannot_be_reached(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await bot.attach("http://127.0.0.1:9", agent.journal_id)

        assert await worker.once() == SECOND
        await bot.attach(agent.url, agent.journal_id)
        await worker.again(conversation)

        assert agent.platform == ["一"]
        assert [call.epoch for call in agent.calls] == [3]

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (409, "stale_epoch"),
            (503, "draining"),
            (404, "unknown_channel"),
            (401, "unauthorized"),
            (500, "internal"),
        ],
    )
    async def test_that_the_agent_refuses_for_now_is_asked_again(
        self, bot: Bot, agent: StandIn, worker: Worker, status: int, code: str
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.refuse(status, code))

        assert await worker.once() == SECOND
        await worker.again(conversation)

        assert [call.attempt for call in agent.calls] == [1, 1]
        assert agent.platform == ["一"]

    @pytest.mark.parametrize("how", ["is leaving", "is away"])
    async def test_that_did_not_get_to_the_agent_is_no_doubt_for_the_next_one(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection, how: str
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        if how == "is leaving":
            agent.then(agent.refuse(503, "draining"))
        else:
            await bot.attach("http://127.0.0.1:9", agent.journal_id)
        assert await worker.once() == SECOND
        assert await states(superuser) == [("queued", None, 0)]
        assert await attempts(superuser) == []

        agent.journal_id = new_id()
        await bot.attach(agent.url, agent.journal_id)
        await worker.again(conversation)

        assert agent.platform == ["一"]
        assert await states(superuser) == [("sent", None, 1)]

    async def test_that_was_taken_over_is_not_withdrawn(
        self, bot: Bot, agent: StandIn, worker: Worker, make_lanes: Callable[[], Lanes]
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        late = await worker.claim(lease=timedelta(0))
        assert late is not None
        begun = await make_lanes()._begin(late)
        await worker.once()

        with pytest.raises(LeaseLost):
            await make_lanes()._withdraw(late, begun)  # type: ignore[arg-type]

        assert agent.platform == ["一"]
        assert await bot.deliveries(conversation) == ["sent"]

    async def test_that_the_agent_refuses_for_good_has_failed(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.refuse(400, "bad_request"))

        await worker.once()

        assert await states(superuser) == [("failed", "bad_request", 1)]

    async def test_of_an_agent_that_is_busy_is_asked_again(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.refuse(429, "busy"))

        assert await worker.once() == SECOND
        await worker.again(conversation)

        assert agent.platform == ["一"]

    async def test_in_a_lost_journal_is_sent_again_where_the_platform_recognises_it(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.cut_before)
        await worker.once()
        agent.forget()
        await bot.attach(agent.url, agent.journal_id)

        await worker.again(conversation)
        await bot.later(timedelta(minutes=10))
        await worker.again(conversation)

        assert agent.platform == ["一", "二"]
        assert [call.attempt for call in agent.calls] == [1, 2, 1]
        assert await attempts(superuser) == [(1, "unknown"), (2, "sent"), (1, "sent")]

    async def test_in_a_lost_journal_waits_for_a_person_where_it_does_not(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        forgetful: None,
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.cut_after)
        await worker.once()
        agent.forget()
        await bot.attach(agent.url, agent.journal_id)

        await worker.again(conversation)
        await worker.all()

        assert await states(superuser) == [
            ("unconfirmed", "unknown_outcome", 1),
            ("sent", None, 1),
        ]
        assert agent.platform == ["一", "二"]

    async def test_named_to_an_agent_that_lost_its_journal_is_refused_and_left_open(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.forget()

        assert await worker.once() == SECOND
        assert await states(superuser) == [("sending", None, 1)]
        assert agent.platform == []

    async def test_that_the_platform_lost_is_unconfirmed(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        forgetful: None,
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.lose())

        await worker.once()

        assert await states(superuser) == [("unconfirmed", "unknown_outcome", 1)]

    async def test_of_a_deleted_channel_does_not_stay_open_for_ever(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.cut_after)
        await worker.once()
        await bot.owner.delete(f"/channels/{bot.channel_id}")

        await worker.again(conversation)
        await worker.all()

        assert await states(superuser) == [
            ("unconfirmed", "channel_deleted", 1),
            ("failed", "channel_deleted", 0),
        ]


class TestWaiting:
    async def test_without_an_agent_nothing_is_begun(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")

        again = await worker.once()

        assert again is not None
        assert again > timedelta(0)
        assert await states(superuser) == [("queued", None, 0)]
        assert await attempts(superuser) == []
        agent = StandIn()
        async with agent.running():
            await bot.attach(agent.url, agent.journal_id)
            await worker.again(conversation)
        assert agent.platform == ["一"]

    async def test_for_an_agent_too_long_ends_as_expired(
        self, bot: Bot, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await bot.later(MAX_AGE)
        await worker.again(conversation)
        assert await states(superuser) == [("queued", None, 0)]

        await bot.later(SECOND)
        await worker.again(conversation)

        assert await states(superuser) == [("expired", "too_old", 0)]

    async def test_in_a_deleted_channel_ends_as_failed(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await bot.owner.delete(f"/channels/{bot.channel_id}")

        await worker.once()

        assert await states(superuser) == [("failed", "channel_deleted", 0)]
        assert agent.calls == []


class TestCrash:
    async def test_before_the_call_is_made_up_for_by_the_next_worker(
        self, bot: Bot, agent: StandIn, worker: Worker, make_lanes: Callable[[], Lanes]
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        dead = await worker.claim(lease=timedelta(0))
        assert dead is not None
        await make_lanes()._begin(dead)

        await worker.once()

        assert agent.platform == ["一"]
        assert [call.attempt for call in agent.calls] == [1]

    async def test_after_the_call_sends_nothing_twice(
        self, bot: Bot, agent: StandIn, worker: Worker, make_lanes: Callable[[], Lanes]
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        dead, killed = await worker.claim(lease=timedelta(0)), make_lanes()
        assert dead is not None
        begun = await killed._begin(dead)
        await killed._send(begun)  # type: ignore[arg-type]

        await worker.once()

        assert agent.platform == ["一", "二"]
        assert [call.attempt for call in agent.calls] == [1, 1, 1]

    async def test_in_the_middle_of_the_call_sends_nothing_twice(
        self, bot: Bot, agent: StandIn, worker: Worker, make_lanes: Callable[[], Lanes]
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.hang)
        dead = await worker.claim(lease=timedelta(0))
        assert dead is not None
        killed = asyncio.create_task(make_lanes().deliver(dead))
        async with asyncio.timeout(PATIENCE_S):
            await agent.asked.wait()
        killed.cancel()
        await asyncio.wait([killed])

        await worker.once()

        assert agent.platform == ["一"]
        assert await bot.deliveries(conversation) == ["sent"]

    async def test_of_a_worker_that_comes_back_late_changes_nothing(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        make_lanes: Callable[[], Lanes],
        superuser: asyncpg.Connection,
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.fail("server_busy", 60))
        late, slow = await worker.claim(lease=timedelta(0)), make_lanes()
        assert late is not None
        begun = await slow._begin(late)
        parts = await slow._send(begun)  # type: ignore[arg-type]
        new = await worker.claim()
        assert new is not None

        with pytest.raises(LeaseLost):
            await slow._end(late, begun, parts)  # type: ignore[arg-type]

        assert await states(superuser) == [("sending", None, 1), ("queued", None, 0)]
        with pytest.raises(LeaseLost):
            await slow._begin(late)
        assert await attempts(superuser) == [(1, None)]


class TestWalls:
    async def test_a_lane_speaks_for_its_own_tenant_only(
        self, bot: Bot, agent: StandIn, worker: Worker, people, superuser: asyncpg.Connection
    ) -> None:
        stranger = await people.owner("Other House")
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        lease = await worker.claim()
        assert lease is not None
        forged = structs.replace(lease, tenant_id=stranger.tenant_id)

        assert await worker.handle(forged) is None
        assert agent.calls == []
        assert await states(superuser) == [("queued", None, 0)]


async def test_members_may_read_how_it_went(
    bot: Bot, agent: StandIn, worker: Worker, people
) -> None:
    viewer = await people.member(bot.tenant_id, Role.VIEWER)
    conversation = await bot.hears("你好")
    await bot.says(conversation, "一")
    await worker.once()

    answer: httpx2.Response = await viewer.get(f"/conversations/{conversation}/messages")

    assert answer.json()["items"][1]["delivery"]["state"] == "sent"
