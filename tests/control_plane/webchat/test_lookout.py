"""One look for all pages, for what lost hints were about."""

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from control_plane.bus.hints import Wake
from control_plane.webchat import lookout as module
from control_plane.webchat.lookout import Lookout, Page
from tests.control_plane.conversations.scene import Bot
from tests.control_plane.delivery.stand_in import StandIn
from tests.control_plane.webchat.conftest import Open, Platform


class TestLostHints:
    async def test_cost_a_moment_and_no_message(
        self,
        page: Open,
        agent: StandIn,
        platform: Platform,
        visitor_id: Any,
        parts: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "POLL_S", 0.05)
        async with page() as tab, page() as other:
            await tab.resume()
            await tab.write("m-1", "问")
            await other.resume(tab.secret)
            visitor = await visitor_id()
            monkeypatch.setattr(parts.house.bus, "wake", lambda _topics: None)
            await platform.post(visitor, "1", "答")
            assert await tab.hears(1) == ["答"]
            assert await other.hears(1) == ["答"]


class TestLook:
    async def test_wakes_the_pages_that_are_behind_in_one_session(
        self,
        bot: Bot,
        page: Open,
        agent: StandIn,
        platform: Platform,
        visitor_id: Any,
        superuser: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async with page() as tab:
            await tab.resume()
            await tab.write("m-1", "问")
        visitor: UUID = await visitor_id()
        await platform.post(visitor, "1", "答")
        last = await superuser.fetchval("SELECT last_seq FROM webchat_visitors")
        version = await superuser.fetchval("SELECT owner_version FROM conversations")
        sessions: list[Any] = []
        database = bot.parts.house.database
        plain = database.plain

        def counted(*scope: Any) -> Any:
            sessions.append(scope)
            return plain(*scope)

        monkeypatch.setattr(database, "plain", counted)
        lookout = Lookout(database)

        def watched(seq: int, owner: tuple[str, int] | None) -> Page:
            return Page(
                tenant_id=bot.tenant_id,
                channel_id=bot.channel_id,
                visitor_id=visitor,
                shown=SimpleNamespace(seq=seq, owner=owner),
                wake=Wake(),
            )

        known = ("bot", version or 0)
        behind = watched(last - 1, known)
        elsewhere = watched(last, ("bot", (version or 0) + 1))
        up_to_date = watched(last, known)
        with ExitStack() as watching:
            for each in (behind, elsewhere, up_to_date):
                watching.enter_context(lookout.watching(each))
            await lookout.look()

        woken = [each for each in (behind, elsewhere, up_to_date) if each.wake._event.is_set()]
        expected = [behind, elsewhere] if version is not None else [behind]
        assert woken == expected
        assert len(sessions) == 1

    async def test_nobody_looks_while_nobody_is_there(self, bot: Bot) -> None:
        lookout = Lookout(bot.parts.house.database)
        gone = Page(
            tenant_id=bot.tenant_id,
            channel_id=bot.channel_id,
            visitor_id=bot.tenant_id,
            shown=SimpleNamespace(seq=0, owner=None),
            wake=Wake(),
        )
        with lookout.watching(gone):
            looking = lookout._looking
            assert looking is not None
        assert looking.cancelling()
        assert lookout._looking is None
