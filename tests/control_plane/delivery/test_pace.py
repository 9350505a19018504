"""What a platform lets one chat get."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from adapters import registry
from adapters.kind import Pace, Window
from control_plane.delivery.pace import until_room
from instance_agent.protocol import PartOutcome, SendRequest
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, Worker
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.delivery.test_lanes import states

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def ago(seconds: float, parts: int = 1) -> tuple[datetime, int]:
    return NOW - seconds * SECOND, parts


class TestRoom:
    @pytest.mark.parametrize(
        ("tried", "wait_s"),
        [
            ([], 0),
            ([ago(1)], 0),
            ([ago(1), ago(10)], 50),
            ([ago(1), ago(61)], 0),
            ([ago(5, parts=2)], 55),
            ([ago(5, parts=2), ago(50)], 55),
            ([ago(0), ago(0), ago(30), ago(3599)], 60),
        ],
    )
    def test_comes_when_enough_has_left_the_window(
        self, tried: list[tuple[datetime, int]], wait_s: float
    ) -> None:
        assert until_room(tried, [Pace(2, 60)], now=NOW) == wait_s * SECOND

    def test_is_that_of_the_strictest(self) -> None:
        paces = [Pace(2, 60), Pace(3, 3600)]

        assert until_room([ago(1), ago(100), ago(600)], paces, now=NOW) == 3000 * SECOND

    @given(st.lists(st.floats(0, 10_000), max_size=60), st.integers(1, 20), st.floats(1, 5_000))
    def test_after_the_wait_there_is_room(
        self, ages: list[float], most: int, within_s: float
    ) -> None:
        tried = [ago(age) for age in sorted(ages)]
        pace = Pace(most, within_s)
        later = NOW + until_room(tried, [pace], now=NOW)
        within = [at for at, _ in tried if later - at < timedelta(seconds=within_s)]

        assert len(within) < most


class TestLane:
    async def test_holds_back_what_the_platform_would_drop(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        kind = replace(registry.kind("webchat"), paces=(Pace(2, 60), Pace(3, 3600)))
        monkeypatch.setitem(registry._KINDS, "webchat", kind)
        conversation = await bot.hears("你好")
        await bot.says(conversation, *"一二三四")

        assert 50 * SECOND < await worker.once() <= 60 * SECOND
        assert agent.platform == ["一", "二"]
        assert (await states(superuser))[2:] == [("queued", "paced", 0), ("queued", None, 0)]
        await bot.later(60 * SECOND)
        assert 3530 * SECOND < await worker.again(conversation) <= 3540 * SECOND
        assert agent.platform == ["一", "二", "三"]
        await bot.later(timedelta(hours=1))
        await worker.again(conversation)

        assert agent.platform == ["一", "二", "三", "四"]

    async def test_counts_no_other_chat(
        self, bot: Bot, agent: StandIn, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = replace(registry.kind("webchat"), paces=(Pace(1, 60),))
        monkeypatch.setitem(registry._KINDS, "webchat", kind)
        for key in ("lin", "mei"):
            await bot.says(await bot.hears("你好", key=key), "一")

        await worker.all()

        assert agent.platform == ["一", "一"]

    async def test_expires_what_the_platform_would_not_take_any_more(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        program: Person,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        kind = replace(registry.kind("webchat"), windows={"direct": Window(3600)})
        monkeypatch.setitem(registry._KINDS, "webchat", kind)
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await worker.all()
        await bot.later(timedelta(hours=1, seconds=1))
        await bot.says(conversation, "二")
        await worker.all()
        assert await states(superuser) == [("sent", None, 1), ("expired", "window_expired", 0)]

        await bot.hears("还在吗")
        body = {"state": "expired", "error_class": "window_expired"}
        assert (await program.post("/deliveries/resend", body)).json()["resent"] == 1
        await worker.all()

        assert agent.platform == ["一", "二"]


class TestCount:
    """At most so many parts to a conversation since the contact's last message."""

    @pytest.fixture(autouse=True)
    def counting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = replace(
            registry.kind("webchat"), windows={"direct": Window(3600, most=2)}, resend_safe_s=0
        )
        monkeypatch.setitem(registry._KINDS, "webchat", kind)

    async def test_ends_what_is_beyond_it_and_the_next_word_opens_again(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        program: Person,
        superuser: asyncpg.Connection,
    ) -> None:
        clock = bot.parts.house.clock
        conversation = await bot.hears("你好")
        await bot.says(conversation, *"一二三")
        await worker.all()
        assert agent.platform == ["一", "二"]
        assert (await states(superuser))[2] == ("expired", "window_count_exceeded", 0)
        [shown] = (await program.get("/deliveries?state=expired")).json()["items"]
        assert (
            shown["reason"] == "The platform takes no more answers until the contact writes again."
        )

        clock.advance(SECOND)
        await bot.hears("还在吗")
        await bot.says(conversation, "四")
        body = {"state": "expired", "error_class": "window_count_exceeded"}
        assert (await program.post("/deliveries/resend", body)).json()["resent"] == 1
        await worker.all()
        assert sorted(agent.platform[2:]) == ["三", "四"]

    async def test_counts_no_other_conversation(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        for key in ("lin", "mei"):
            await bot.says(await bot.hears("你好", key=key), *"一二")
        await worker.all()
        assert len(agent.platform) == 4

    @pytest.mark.parametrize(
        ("became", "first", "left"),
        [
            (["sent"], "sent", 1),
            (["failed"], "failed", 2),
            (["unknown"], "unconfirmed", 1),
            (["sent", "failed"], "failed", 1),
            (["sent", "sent"], "sent", 0),
        ],
    )
    async def test_is_of_parts_that_reached_the_contact_or_may_have(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        became: list[str],
        first: str,
        left: int,
    ) -> None:
        async def answer(request: SendRequest) -> Response:
            outcomes = [
                PartOutcome(
                    outcome=part, error_class="content_invalid" if part == "failed" else None
                )
                for part in became
            ]
            return agent._record(request, *outcomes)

        agent.then(answer)
        conversation = await bot.hears("你好")
        await bot.says(conversation, "零", "一")
        await worker.all()
        assert (await states(superuser))[0][0] == first
        assert [call.room for call in agent.calls] == [2, left][: 1 + bool(left)]

    async def test_a_message_that_goes_on_does_not_count_twice(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        def answering(*outcomes: PartOutcome) -> Any:
            async def answer(request: SendRequest) -> Response:
                return agent._record(request, *outcomes)

            return answer

        sent = PartOutcome(outcome="sent")
        busy = PartOutcome(outcome="failed", error_class="server_busy")
        agent.then(answering(sent, busy), answering(sent, sent))
        conversation = await bot.hears("你好")
        await bot.says(conversation, "零")
        await worker.all()
        await bot.later(timedelta(minutes=11))
        await worker.again(conversation)
        assert [call.room for call in agent.calls] == [2, 1]
        await bot.says(conversation, "一")
        await worker.all()
        assert (await states(superuser))[-1] == ("expired", "window_count_exceeded", 0)

    async def test_a_platforms_clock_that_is_ahead_hides_nothing(
        self, bot: Bot, agent: StandIn, worker: Worker, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        await superuser.execute("UPDATE messages SET occurred_at = occurred_at + interval '1 hour'")
        await bot.says(conversation, *"一二三")
        await worker.all()
        assert agent.platform == ["一", "二"]
