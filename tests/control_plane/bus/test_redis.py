"""Hints between processes over a real Redis, which is also killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from control_plane.access.limits import LocalLimiter
from control_plane.access.limits_redis import RedisLimiter
from control_plane.bus import hints
from control_plane.bus.hints import PostgresBus
from control_plane.bus.redis import RedisBus
from control_plane.parts import build

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""


@asynccontextmanager
async def running(bus: RedisBus) -> AsyncIterator[None]:
    """The bus runs, and listens: it wakes everybody when it does."""
    with bus.listen("connected") as connected:
        task = asyncio.create_task(bus.run())
        assert await connected.wait(PATIENCE_S)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class TestRedisBus:
    async def test_a_hint_reaches_another_process(self, redis_server) -> None:
        one, other = RedisBus(redis_server.url), RedisBus(redis_server.url)
        with other.listen("work.turn") as wake:
            async with running(one), running(other):
                await wake.wait(0)  # the one of connecting
                one.publish(["work.turn"])

                assert await wake.wait(PATIENCE_S)

    async def test_a_hint_wakes_its_own_process_at_once_and_once(self, redis_server) -> None:
        one, other = RedisBus(redis_server.url), RedisBus(redis_server.url)
        with one.listen("a") as mine, one.listen("c") as later, other.listen("a") as theirs:
            async with running(one), running(other):
                for wake in (mine, later, theirs):
                    await wake.wait(0)
                one.publish(["a"])

                assert await mine.wait(0)
                assert await theirs.wait(PATIENCE_S)
                other.publish(["c"])
                # What came after its own echo is here, so the echo was too, and woke nobody.
                assert await later.wait(PATIENCE_S)
                assert not await mine.wait(0)

    async def test_topics_that_gathered_all_arrive(self, redis_server) -> None:
        topics = [f"conversation.{number:04}.{'客' * 60}" for number in range(300)]
        one, other = RedisBus(redis_server.url), RedisBus(redis_server.url)
        heard: list[str] = []
        async with running(one), running(other):
            with other.listen("last") as wake:
                other.wake = heard.extend  # type: ignore[method-assign, assignment]
                one.publish(topics)
                one.publish(["last"])
                while "last" not in heard:
                    await wake.wait(0)
                    await asyncio.sleep(0)

        assert sorted(heard) == sorted([*topics, "last"])

    async def test_hints_resume_after_redis_was_killed(self, redis_server) -> None:
        one, other = RedisBus(redis_server.url), RedisBus(redis_server.url)
        with one.listen("a") as mine, other.listen("a", "b") as theirs:
            async with running(one), running(other):
                await mine.wait(0)
                await theirs.wait(0)
                redis_server.kill()
                one.publish(["a"])
                # Within the process a hint needs no Redis.
                assert await mine.wait(0)
                redis_server.start()

                # Both find it again by themselves, and look, for hints may have been lost.
                assert await mine.wait(PATIENCE_S)
                assert await theirs.wait(PATIENCE_S)
                with one.listen("c") as back:
                    while not await back.wait(0):
                        other.publish(["c"])
                        await asyncio.sleep(0.01)
                await theirs.wait(0)
                one.publish(["b"])
                assert await theirs.wait(PATIENCE_S)

    async def test_what_waits_is_bounded(self, redis_server) -> None:
        bus = RedisBus(redis_server.url)
        for number in range(hints._MAX_WAITING + 500):
            bus.publish([f"topic.{number}"])

        assert len(bus._waiting) == hints._MAX_WAITING


class TestBuild:
    async def test_redis_is_used_when_there_is_one(
        self, redis_server, app_url, keys, clock, storage
    ) -> None:
        about = {
            "database_url": app_url,
            "keys": keys,
            "clock": clock,
            "public_url": "http://b",
            "media": storage,
        }
        alone, shared = build(**about), build(**about, redis_url=redis_server.url)

        assert (type(alone.bus), type(alone.house.limiter)) == (PostgresBus, LocalLimiter)
        assert (type(shared.bus), type(shared.house.limiter)) == (RedisBus, RedisLimiter)
        await alone.close()
        await shared.close()
