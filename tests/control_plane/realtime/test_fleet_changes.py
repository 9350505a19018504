"""Operators are told when to look at the fleet again."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from control_plane.realtime import fleet_routes
from tests.control_plane.conversations.scene import PATIENCE_S


@pytest.fixture
async def lines(
    parts, clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncIterator[bytes]]:
    """As one operator gets them, for an hour."""
    monkeypatch.setattr(fleet_routes, "PAUSE_S", 0.0)
    until = clock.now() + timedelta(hours=1)
    told = fleet_routes._lines(parts.realtime, parts.house, address="192.0.2.1", until=until)
    yield told
    await told.aclose()


async def kind(lines: AsyncIterator[bytes]) -> str:
    async with asyncio.timeout(PATIENCE_S):
        return str(json.loads(await anext(lines))["type"])


class TestChanges:
    async def test_are_told_at_once_and_after_each_change(self, people, lines) -> None:
        owner, operator = await people.owner(), await people.operator()
        assert await kind(lines) == "look"

        bot = (await owner.post("/instances", {"name": "Bot"})).json()
        assert await kind(lines) == "changed"
        await operator.post(f"/fleet/{bot['id']}/reconcile")
        assert await kind(lines) == "changed"
        await operator.post("/releases", {"image": "agent:2"})
        assert await kind(lines) == "changed"

    async def test_are_looked_for_without_a_hint_too(
        self, lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fleet_routes, "POLL_S", 0.01)
        monkeypatch.setattr(fleet_routes, "LOOK_EVERY_S", 0.02)

        assert [await kind(lines) for _ in range(3)] == ["look"] * 3

    async def test_end_with_the_access_token(self, lines, clock) -> None:
        assert await kind(lines) == "look"
        clock.advance(timedelta(hours=1))

        with pytest.raises(StopAsyncIteration):
            await kind(lines)

    async def test_are_refused_in_words_where_there_is_no_room(self, parts, lines) -> None:
        parts.realtime.stop()

        assert await kind(lines) == "refused"

    async def test_are_for_operators(self, people, house) -> None:
        house.draining.set()

        refused = await (await people.owner()).get("/fleet/changes")
        answer = await (await people.operator()).get("/fleet/changes")

        assert refused.status_code == 403
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.text == '{"type":"look","code":null}\n'
