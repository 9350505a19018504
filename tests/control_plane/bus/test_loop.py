"""The work loop, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.bus import loop as module
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.db import leases
from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import Database
from control_plane.kit.ids import new_id

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""

HOUR = timedelta(hours=1)


class Bench:
    """A loop of kind `turn`, and a handler that reports what it was given."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bus = LocalBus()
        database.on_hints = self.bus.publish
        self.seen: asyncio.Queue[Lease] = asyncio.Queue()
        self.answers: list[timedelta | Exception | None] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.ended: list[str] = []

    async def handle(self, lease: Lease) -> timedelta | None:
        self.seen.put_nowait(lease)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("worked")
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call(self, *rows: tuple[UUID, UUID]) -> None:
        async with self.database.session() as session:
            await leases.call(session, "turn", rows or [(new_id(), new_id())])

    async def next(self) -> Lease:
        async with asyncio.timeout(PATIENCE_S):
            return await self.seen.get()

    def loop(self, **settings) -> WorkLoop:
        return WorkLoop(
            "turn",
            self.handle,
            database=self.database,
            bus=self.bus,
            settings=LoopSettings(**settings),
        )

    @asynccontextmanager
    async def running(self, **settings) -> AsyncIterator[WorkLoop]:
        """A running loop; at the end of the block it has stopped by itself."""
        loop = self.loop(**settings)
        task = asyncio.create_task(loop.run())
        try:
            yield loop
        finally:
            loop.stop()
            async with asyncio.timeout(PATIENCE_S):
                await task


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


class TestWorkLoop:
    async def test_works_on_what_is_called_and_forgets_what_is_right(
        self, bench: Bench, superuser: asyncpg.Connection
    ) -> None:
        async with bench.running():
            row = (new_id(), new_id())
            await bench.call(row)
            lease = await bench.next()

        assert (lease.key, lease.tenant_id) == row
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'turn'") == 0

    async def test_finds_what_was_there_before_it_started(self, bench: Bench) -> None:
        await bench.call()
        async with bench.running():
            await bench.next()

    async def test_a_row_comes_back_when_the_handler_says(
        self, bench: Bench, superuser: asyncpg.Connection
    ) -> None:
        bench.answers = [timedelta(0), HOUR]
        async with bench.running():
            await bench.call()
            first, second = await bench.next(), await bench.next()

        assert first.key == second.key
        due = await superuser.fetchrow(
            "SELECT token, due_at - now() BETWEEN interval '50 minutes' AND interval '1 hour' AS ok"
            " FROM work WHERE kind = 'turn'"
        )
        assert dict(due) == {"token": None, "ok": True}

    async def test_a_call_while_it_works_is_another_round(self, bench: Bench) -> None:
        bench.gate.clear()
        row = (new_id(), new_id())
        async with bench.running():
            await bench.call(row)
            first = await bench.next()
            await bench.call(row)
            bench.gate.set()
            second = await bench.next()

        assert (first.version, second.version) == (1, 2)

    async def test_takes_what_is_behind_that_which_others_are_just_taking(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "POLL_S", 3600.0)
        rows = [(new_id(), UUID(int=n)) for n in range(1, 7)]
        await bench.call(*rows)

        async with bench.database.session() as other:
            await leases.claim(other, "turn", owner="other", limit=4, lease=HOUR)
            async with bench.running(concurrency=4):
                taken = [(await bench.next()).key for _ in range(2)]

        assert taken == [key for key, _ in rows[4:]]

    async def test_does_no_more_at_once_than_it_may(self, bench: Bench) -> None:
        bench.gate.clear()
        rows = [(new_id(), new_id()) for _ in range(5)]
        async with bench.running(concurrency=2) as loop:
            await bench.call(*rows)
            taken = [await bench.next(), await bench.next()]
            # Another look, which must take nothing.
            async with asyncio.TaskGroup() as group:
                assert not await loop._round(group, lambda: None)
            assert bench.seen.empty()
            bench.gate.set()
            taken += [await bench.next() for _ in range(3)]

        assert sorted(lease.key for lease in taken) == sorted(key for key, _ in rows)


class TestFailure:
    async def test_is_tried_again_with_back_off_until_it_goes_well(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, superuser: asyncpg.Connection
    ) -> None:
        waits: list[tuple[int, timedelta, timedelta]] = []

        def no_wait(attempt: int, *, base: timedelta, cap: timedelta) -> timedelta:
            waits.append((attempt, base, cap))
            return timedelta(0)

        monkeypatch.setattr(module, "full_jitter", no_wait)
        bench.answers = [ValueError("one"), ValueError("two"), HOUR]
        async with bench.running():
            await bench.call()
            attempts = [(await bench.next()).attempts for _ in range(3)]

        assert attempts == [1, 2, 3]
        assert waits == [
            (attempt, timedelta(seconds=0.5), timedelta(minutes=5)) for attempt in (1, 2)
        ]
        assert await superuser.fetchval("SELECT attempts FROM work WHERE kind = 'turn'") == 0

    async def test_of_one_row_stops_no_other(self, bench: Bench) -> None:
        bench.answers = [ValueError("bad row")]
        async with bench.running():
            await bench.call()
            await bench.next()
            await bench.call()
            await bench.next()

    async def test_of_the_database_does_not_end_the_loop(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lone, refused = bench.database.lone, asyncio.Event()

        def refuse() -> object:
            refused.set()
            raise OSError("the server is away")

        monkeypatch.setattr(bench.database, "lone", refuse)
        async with bench.running():
            async with asyncio.timeout(PATIENCE_S):
                await refused.wait()
            monkeypatch.setattr(bench.database, "lone", lone)
            await bench.call()
            await bench.next()

    async def test_a_lost_lease_leaves_the_row_to_its_new_holder(
        self, bench: Bench, superuser: asyncpg.Connection
    ) -> None:
        bench.answers = [LeaseLost("turn")]
        async with bench.running():
            await bench.call()
            lease = await bench.next()

        found = await superuser.fetchrow("SELECT token, attempts FROM work WHERE kind = 'turn'")
        assert dict(found) == {"token": lease.token, "attempts": 1}


class TestLease:
    async def test_is_kept_while_the_handler_works(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, superuser: asyncpg.Connection
    ) -> None:
        renew, renewed = leases.renew, asyncio.Event()

        async def tell(*arguments) -> None:
            await renew(*arguments)
            renewed.set()

        monkeypatch.setattr(module, "RENEW_EVERY_S", 0.01)
        monkeypatch.setattr(module.leases, "renew", tell)
        bench.gate.clear()
        async with bench.running(lease=HOUR):
            await bench.call()
            lease = await bench.next()
            await superuser.execute("UPDATE work SET expires_at = now() + interval '1 minute'")
            renewed.clear()
            async with asyncio.timeout(PATIENCE_S):
                await renewed.wait()
                renewed.clear()
                await renewed.wait()
            kept = await superuser.fetchrow(
                "SELECT token, expires_at > now() + interval '1 minute' AS kept FROM work"
                " WHERE kind = 'turn'"
            )
            bench.gate.set()

        assert dict(kept) == {"token": lease.token, "kept": True}

    async def test_of_a_killed_worker_is_taken_over(self, bench: Bench) -> None:
        row = (new_id(), new_id())
        await bench.call(row)
        async with bench.database.session() as session:
            [dead] = await leases.claim(session, "turn", owner="dead", limit=1, lease=timedelta(0))
        async with bench.running():
            lease = await bench.next()

        assert (lease.key, lease.attempts) == (dead.key, 2)
        assert lease.token != dead.token


class TestStop:
    async def test_lets_running_work_end(self, bench: Bench, superuser: asyncpg.Connection) -> None:
        bench.gate.clear()
        async with bench.running() as loop:
            await bench.call()
            await bench.next()
            loop.stop()
            bench.gate.set()

        assert bench.ended == ["worked"]
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'turn'") == 0

    async def test_cancels_what_does_not_end_and_hands_its_row_back_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, superuser: asyncpg.Connection
    ) -> None:
        monkeypatch.setattr(module, "STOP_WITHIN_S", 0.01)
        bench.gate.clear()
        async with bench.running():
            await bench.call()
            await bench.next()

        assert bench.ended == ["cancelled"]
        async with bench.database.session() as session:
            left = await leases.claim(session, "turn", owner="me", limit=9, lease=HOUR)
        assert len(left) == 1

    async def test_hands_back_only_what_is_still_its_own(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, superuser: asyncpg.Connection
    ) -> None:
        monkeypatch.setattr(module, "STOP_WITHIN_S", 0.01)
        bench.gate.clear()
        stolen = new_id()
        async with bench.running():
            await bench.call()
            await bench.next()
            await superuser.execute("UPDATE work SET token = $1 WHERE kind = 'turn'", stolen)

        assert await superuser.fetchval("SELECT token FROM work WHERE kind = 'turn'") == stolen

    async def test_takes_nothing_new(self, bench: Bench) -> None:
        async with bench.running() as loop:
            await bench.call()
            await bench.next()
            loop.stop()
        await bench.call()

        async with bench.database.session() as session:
            left = await leases.claim(session, "turn", owner="me", limit=9, lease=HOUR)
        assert len(left) == 1

    async def test_ends_a_loop_that_has_nothing_to_do(self, bench: Bench) -> None:
        async with bench.running():
            pass

        assert bench.seen.empty()

    async def test_a_cancelled_loop_leaves_no_handler_behind(self, bench: Bench) -> None:
        bench.gate.clear()
        task = asyncio.create_task(bench.loop().run())
        await bench.call()
        await bench.next()
        task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({task})

        assert bench.ended == ["cancelled"]
