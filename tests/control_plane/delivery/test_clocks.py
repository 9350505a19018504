"""Workers whose clocks differ: what was begun by one is judged by another."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from adapters import registry
from adapters.kind import Pace
from tests.control_plane.conversations.scene import Bot, Worker
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.delivery.test_lanes import states

SECOND = timedelta(seconds=1)
ASTRAY = timedelta(minutes=10)


def platform_with(monkeypatch: pytest.MonkeyPatch, **properties: Any) -> None:
    kind = replace(registry.kind("webchat"), **properties)
    monkeypatch.setitem(registry._KINDS, "webchat", kind)


class TestRepeat:
    """The agent's disk went with its journal, and nobody knows what it sent."""

    @pytest.mark.parametrize("resend_safe_s", [0.0, 300.0])
    async def test_is_not_made_too_late_by_a_clock_that_is_behind(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
        resend_safe_s: float,
    ) -> None:
        platform_with(monkeypatch, resend_safe_s=resend_safe_s)
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.cut_after)
        await worker.once()
        agent.forget()
        await bot.attach(agent.url, agent.journal_id)
        await bot.later(resend_safe_s * SECOND)
        bot.parts.house.clock.advance(-ASTRAY)

        await worker.again(conversation)
        await worker.all()

        assert agent.platform == ["一", "二"]
        assert (await states(superuser))[0] == ("unconfirmed", "unknown_outcome", 1)

    async def test_is_made_in_time_by_a_clock_that_is_ahead(
        self, bot: Bot, agent: StandIn, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        platform_with(monkeypatch, resend_safe_s=300.0)
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(agent.cut_before)
        await worker.once()
        agent.forget()
        await bot.attach(agent.url, agent.journal_id)
        bot.parts.house.clock.advance(ASTRAY)

        await worker.again(conversation)
        await bot.later(60 * SECOND)
        await worker.again(conversation)

        assert agent.platform == ["一"]


class TestPace:
    @pytest.mark.parametrize("ahead", [-ASTRAY, ASTRAY])
    async def test_is_kept(
        self,
        bot: Bot,
        agent: StandIn,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        ahead: timedelta,
    ) -> None:
        platform_with(monkeypatch, paces=(Pace(1, 60),))
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await worker.all()
        bot.parts.house.clock.advance(ahead)

        await bot.says(conversation, "二")
        pause = await worker.once()

        assert pause is not None
        assert 50 * SECOND < pause <= 60 * SECOND
        assert agent.platform == ["一"]
