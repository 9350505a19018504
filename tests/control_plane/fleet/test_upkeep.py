"""Timed upkeep, while this process leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import NOBODY, Database, Scope
from control_plane.fleet.upkeep import KEEP_RECEIVED, WORK, Leader, Round
from control_plane.kit.ids import new_id

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""

HOUR = timedelta(hours=1)


class WatchedDatabase:
    """Tells when a transaction has been committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._committed: asyncio.Queue[None] = asyncio.Queue()

    @asynccontextmanager
    async def session(self, scope: Scope = NOBODY) -> AsyncIterator[AsyncSession]:
        async with self._database.session(scope) as session:
            yield session
        self._committed.put_nowait(None)

    async def commits(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(count):
                await self._committed.get()


@pytest.fixture
def watched(database: Database) -> WatchedDatabase:
    return WatchedDatabase(database)


@pytest.fixture
async def lease(database: Database) -> Lease:
    async with database.session() as session:
        [lease] = await leases.claim(session, WORK, owner="test", limit=1, lease=HOUR)
    return lease


@pytest.fixture
def leader(watched: WatchedDatabase, clock) -> Leader:
    # The clock stands in the past: a job is due however late its process wakes up.
    return Leader(watched, clock)  # type: ignore[arg-type]


class TestLead:
    async def test_old_batches_go_and_partitions_come(
        self, watched, leader, lease, clock, superuser: asyncpg.Connection
    ) -> None:
        horizon = clock.now() - KEEP_RECEIVED
        for webhook_id, at in (("old", horizon - HOUR), ("young", horizon + HOUR)):
            await superuser.execute(
                "INSERT INTO batches (instance_id, webhook_id, tenant_id, sha256, received_at)"
                " VALUES ($1, $2, $1, '', $3)",
                new_id(),
                webhook_id,
                at,
            )

        leading = asyncio.create_task(leader.lead(lease))
        await watched.commits(3)
        leader.stop()

        assert await leading == timedelta(0)
        assert [row[0] for row in await superuser.fetch("SELECT webhook_id FROM batches")] == [
            "young"
        ]
        assert await superuser.fetchval("SELECT to_regclass('messages_202604') IS NOT NULL")

    async def test_rounds_of_other_wings_are_given_the_lease(self, watched, lease, clock) -> None:
        given: asyncio.Queue[Lease] = asyncio.Queue()
        rounds = {"test": Round(every=HOUR, run=given.put)}
        leader = Leader(watched, clock, rounds)

        leading = asyncio.create_task(leader.lead(lease))
        async with asyncio.timeout(PATIENCE_S):
            assert await given.get() == lease
        leader.stop()
        await leading

    async def test_ends_when_somebody_else_leads_and_changes_nothing(
        self, leader, lease, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("UPDATE work SET token = gen_random_uuid()")

        async with asyncio.timeout(PATIENCE_S):
            assert await leader.lead(lease) == timedelta(0)

        assert await superuser.fetchval("SELECT to_regclass('messages_202604') IS NULL")

    async def test_a_process_that_stops_does_not_begin_to_lead(self, leader, lease) -> None:
        leader.stop()

        async with asyncio.timeout(PATIENCE_S):
            assert await leader.lead(lease) == timedelta(0)

    async def test_leads_again_after_it_lost_the_lead(
        self, watched, leader, lease, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("UPDATE work SET token = gen_random_uuid()")
        async with asyncio.timeout(PATIENCE_S):
            await leader.lead(lease)
        await superuser.execute("UPDATE work SET token = $1", lease.token)

        leading = asyncio.create_task(leader.lead(lease))
        await watched.commits(3)
        leader.stop()
        await leading

        assert await superuser.fetchval("SELECT to_regclass('messages_202604') IS NOT NULL")
