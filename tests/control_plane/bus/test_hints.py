"""Hints within a process and, over a real PostgreSQL, between processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from control_plane.bus import hints
from control_plane.bus.hints import LocalBus, PostgresBus

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""


class TestLocalBus:
    async def test_a_hint_wakes_those_who_listen_to_its_topic_only(self) -> None:
        bus = LocalBus()
        with bus.listen("work.turn") as turns, bus.listen("work.lane", "stream.7") as others:
            bus.publish({"work.turn"})

            assert await turns.wait(PATIENCE_S)
            assert not await others.wait(0)

    async def test_one_listener_may_have_several_topics(self) -> None:
        bus = LocalBus()
        with bus.listen("a", "b") as wake:
            bus.publish(["b"])

            assert await wake.wait(PATIENCE_S)

    async def test_a_hint_before_the_wait_counts_once(self) -> None:
        bus = LocalBus()
        with bus.listen("a") as wake:
            bus.publish(["a"])
            bus.publish(["a"])

            assert await wake.wait(0)
            assert not await wake.wait(0)

    async def test_all_can_be_woken(self) -> None:
        bus = LocalBus()
        with bus.listen("a") as one, bus.listen("b") as other:
            bus.wake_all()

            assert await one.wait(0)
            assert await other.wait(0)

    async def test_who_stopped_listening_leaves_nothing_behind(self) -> None:
        bus = LocalBus()
        with bus.listen("a", "b"), bus.listen("a"):
            pass

        assert bus._wakes == {}

    async def test_a_hint_without_listeners_is_nothing(self) -> None:
        LocalBus().publish(["nobody"])


@asynccontextmanager
async def running(bus: PostgresBus) -> AsyncIterator[None]:
    """The bus runs, and is connected: it wakes everybody when it is."""
    with bus.listen("connected") as connected:
        task = asyncio.create_task(bus.run())
        assert await connected.wait(PATIENCE_S)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class TestPostgresBus:
    async def test_a_hint_reaches_another_process(self, app_url: str) -> None:
        one, other = PostgresBus(app_url), PostgresBus(app_url)
        with other.listen("work.turn") as wake:
            async with running(one), running(other):
                await wake.wait(0)  # the one of connecting
                one.publish(["work.turn"])

                assert await wake.wait(PATIENCE_S)

    async def test_a_hint_wakes_its_own_process_at_once_and_once(self, app_url: str) -> None:
        one, other = PostgresBus(app_url), PostgresBus(app_url)
        with one.listen("a") as mine, other.listen("a", "b") as theirs:
            async with running(one), running(other):
                await theirs.wait(0)
                await mine.wait(0)
                one.publish(["a"])

                assert await mine.wait(0)
                # The other has heard it, and so has `one`: its own echo wakes nobody.
                assert await theirs.wait(PATIENCE_S)
                other.publish(["b"])
                assert await theirs.wait(0)
                assert not await mine.wait(0)

    async def test_topics_that_fill_several_payloads_all_arrive(self, app_url: str) -> None:
        topics = [f"conversation.{n:04}.{'x' * 60}" for n in range(300)]
        one, other = PostgresBus(app_url), PostgresBus(app_url)
        async with running(one), running(other):
            wakes = {topic: other.listen(topic) for topic in topics}
            entered = {topic: wake.__enter__() for topic, wake in wakes.items()}
            one.publish(topics)

            for wake in entered.values():
                assert await wake.wait(PATIENCE_S)
            for wake in wakes.values():
                wake.__exit__(None, None, None)

    async def test_a_killed_connection_comes_back_and_wakes_everybody(
        self, app_url: str, superuser: asyncpg.Connection
    ) -> None:
        bus, other = PostgresBus(app_url), PostgresBus(app_url)
        with bus.listen("a") as one, bus.listen("b") as two:
            async with running(bus):
                await one.wait(0)
                await two.wait(0)
                assert len(await superuser.fetch(KILL)) == 1

                assert await one.wait(PATIENCE_S)
                assert await two.wait(PATIENCE_S)
                async with running(other):
                    other.publish(["a"])
                    assert await one.wait(PATIENCE_S)

    async def test_what_was_published_while_away_is_sent_when_back(
        self, app_url: str, superuser: asyncpg.Connection
    ) -> None:
        one, other = PostgresBus(app_url), PostgresBus(app_url)
        with other.listen("a") as wake:
            async with running(other):
                await wake.wait(0)
                one.publish(["a"])
                assert not await wake.wait(0)
                async with running(one):
                    assert await wake.wait(PATIENCE_S)

    async def test_what_waits_is_bounded(self, app_url: str) -> None:
        bus = PostgresBus(app_url)
        for n in range(hints._MAX_WAITING + 500):
            bus.publish([f"topic.{n}"])

        assert len(bus._waiting) == hints._MAX_WAITING


class TestPayloads:
    def test_all_topics_are_there_once_and_no_payload_is_refused(self) -> None:
        topics = {f"visitor.{n:05}.{'y' * (n % 90)}" for n in range(1000)}

        payloads = list(hints._payloads("me", topics))

        assert max(len(payload.encode()) for payload in payloads) < 8000
        decoded = [json.loads(payload) for payload in payloads]
        assert {batch[0] for batch in decoded} == {"me"}
        assert sorted(topic for batch in decoded for topic in batch[1:]) == sorted(topics)

    @pytest.mark.parametrize("key", ["客服" * 200, '"' * 1200])
    def test_what_json_makes_longer_is_counted_as_it_is_sent(self, key: str) -> None:
        topics = [f"conversation.{n}.{key}" for n in range(9)]

        payloads = list(hints._payloads("me", topics))

        assert max(len(payload.encode()) for payload in payloads) < 8000
        assert sorted(t for payload in payloads for t in json.loads(payload)[1:]) == topics

    def test_one_topic_that_cannot_be_sent_stops_no_other(self) -> None:
        payloads = list(hints._payloads("me", ["a", "b" * 9000, "c"]))

        assert [json.loads(payload) for payload in payloads] == [["me", "a", "c"]]
