"""Leases, on a real database; each class proves one rule of the module's docstring."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.db import leases
from control_plane.db.leases import Claimed, Lease, LeaseLost
from control_plane.db.session import Database, driver
from control_plane.kit.ids import new_id

MINUTE = timedelta(minutes=1)
AT_ONCE = timedelta(0)
"""A lease that has run out when the next transaction begins."""


async def call(database: Database, *rows: tuple[UUID, UUID], **how) -> None:
    async with database.session() as session:
        await leases.call(session, "turn", rows, **how)


async def claim(database: Database, limit: int = 10, lease=MINUTE, **how) -> Claimed:
    async with database.session() as session:
        return await leases.claim(session, "turn", owner="me", limit=limit, lease=lease, **how)


async def finish(database: Database, lease: Lease, again=None, **how) -> None:
    async with database.session() as session:
        await leases.finish(session, lease, again_after=again, **how)


async def write_under(database: Database, lease: Lease) -> None:
    async with database.session() as session:
        await (await driver(session)).execute("INSERT INTO written VALUES ('the old holder')")
        await leases.hold(session, lease)


@pytest.fixture
def row() -> tuple[UUID, UUID]:
    return new_id(), new_id()


class TestCall:
    async def test_makes_a_row_due(self, database: Database, row) -> None:
        await call(database, row)

        [lease] = await claim(database)

        assert (lease.kind, lease.key, lease.tenant_id) == ("turn", *row)
        assert (lease.version, lease.attempts) == (1, 1)

    async def test_twice_is_one_row(self, database: Database, row) -> None:
        await call(database, row)
        await call(database, row)

        assert [lease.key for lease in await claim(database)] == [row[0]]

    async def test_of_what_is_due_and_free_changes_nothing_but_keeps_it_from_others(
        self, database: Database, row
    ) -> None:
        await call(database, row)
        async with database.session() as session:
            await leases.call(session, "turn", [row])
            taken_meanwhile = await claim(database)
        assert taken_meanwhile == []
        assert [lease.version for lease in await claim(database)] == [1]

    async def test_later_means_not_now(self, database: Database, row) -> None:
        await call(database, row, after=MINUTE)

        assert await claim(database) == []

    async def test_never_makes_a_row_due_later_than_it_was(self, database: Database, row) -> None:
        await call(database, row)
        await call(database, row, after=MINUTE)

        assert len(await claim(database)) == 1

    async def test_while_leased_makes_the_row_due_when_it_is_given_back(
        self, database: Database, row
    ) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await call(database, row)
        assert await claim(database) == []

        await finish(database, lease)

        assert [again.version for again in await claim(database)] == [2]

    async def test_does_not_wait_for_whoever_holds_the_lease(self, database: Database, row) -> None:
        await call(database, row)
        [lease] = await claim(database)

        # A held lease is a row, not a lock: the call commits while the work goes on.
        async with asyncio.timeout(10):
            await call(database, row)
        async with database.session() as session:
            await leases.hold(session, lease)

    async def test_hints_at_those_who_work_on_the_kind(self, database: Database, row) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        await call(database, row)
        await call(database, row, after=MINUTE)
        await call(database)

        assert told == [{"work.turn"}]

    async def test_in_any_order_locks_nobody_out(self, database: Database) -> None:
        rows = [(new_id(), new_id()) for _ in range(30)]

        await asyncio.gather(*(call(database, *(rows if n % 2 else rows[::-1])) for n in range(12)))

        assert {lease.key for lease in await claim(database, limit=30)} == {key for key, _ in rows}


class TestCallTenant:
    async def test_makes_all_that_a_tenant_has_of_the_kind_due(self, database: Database) -> None:
        tenant, other = new_id(), new_id()
        mine = [(new_id(), tenant) for _ in range(3)]
        await call(database, *mine, (new_id(), other), after=MINUTE)
        async with database.session() as session:
            await leases.call(session, "lane", [(new_id(), tenant)], after=MINUTE)
            await leases.call_tenant(session, "turn", tenant)

        assert {lease.key for lease in await claim(database)} == {key for key, _ in mine}
        async with database.session() as session:
            lanes = await leases.claim(session, "lane", owner="me", limit=9, lease=MINUTE)
        assert lanes == []


class TestClaim:
    async def test_two_at_once_get_different_rows(self, database: Database) -> None:
        rows = [(new_id(), new_id()) for _ in range(20)]
        await call(database, *rows)

        async with database.session() as one, database.session() as other:
            first = await leases.claim(one, "turn", owner="a", limit=8, lease=MINUTE)
            # The first claim is not committed yet: its rows are skipped, not waited for.
            async with asyncio.timeout(10):
                second = await leases.claim(other, "turn", owner="b", limit=20, lease=MINUTE)
        third = await claim(database, limit=20)

        keys = [lease.key for lease in (*first, *second, *third)]
        assert len(first) == 8
        assert sorted(keys) == sorted(key for key, _ in rows)

    async def test_many_at_once_take_every_row_once(self, database: Database) -> None:
        tenants = [new_id() for _ in range(5)]
        rows = [(new_id(), tenant) for tenant in tenants for _ in range(20)]
        await call(database, *rows)

        async def take_all() -> list[Lease]:
            taken: list[Lease] = []
            while more := await claim(database, limit=7):
                taken += more
            return taken

        parts = await asyncio.gather(*(take_all() for _ in range(6)))
        taken = [lease for part in parts for lease in part]
        # Rows that somebody had locked meanwhile were skipped; they are there for the next claim.
        taken += await take_all()

        assert sorted(lease.key for lease in taken) == sorted(key for key, _ in rows)

    async def test_a_noisy_tenant_starves_nobody(self, database: Database) -> None:
        noisy = UUID(int=1)
        await call(database, *((new_id(), noisy) for _ in range(500)))
        quiet = [(new_id(), new_id()) for _ in range(9)]
        await call(database, *quiet)

        claimed = await claim(database, limit=10)

        assert {lease.tenant_id for lease in claimed} == {noisy, *(tenant for _, tenant in quiet)}

    async def test_one_tenant_may_have_all_that_is_left(self, database: Database) -> None:
        noisy, quiet = UUID(int=1), UUID(int=2)
        await call(database, *((new_id(), noisy) for _ in range(20)), (new_id(), quiet))

        claimed = [lease.tenant_id for lease in await claim(database, limit=10)]

        assert (claimed.count(noisy), claimed.count(quiet)) == (9, 1)

    async def test_tenants_whose_rows_are_all_leased_hide_nobody(self, database: Database) -> None:
        await call(database, *((new_id(), UUID(int=n)) for n in (1, 2, 3)))
        assert len(await claim(database)) == 3
        await call(database, (key := new_id(), UUID(int=4)))

        assert [lease.key for lease in await claim(database, limit=1)] == [key]

    async def test_tenants_of_another_cell_hide_nobody(self, database: Database) -> None:
        await call(database, (new_id(), UUID(int=1)), (new_id(), UUID(int=2)), cell="north")
        await call(database, (key := new_id(), UUID(int=3)))

        assert [lease.key for lease in await claim(database, limit=1)] == [key]

    async def test_goes_on_behind_a_tenant(self, database: Database) -> None:
        await call(database, *((new_id(), UUID(int=n)) for n in (1, 2, 3)))

        claimed = await claim(database, after=UUID(int=1))

        assert {lease.tenant_id for lease in claimed} == {UUID(int=2), UUID(int=3)}

    async def test_says_how_far_it_saw_where_others_were_taking_the_same(
        self, database: Database
    ) -> None:
        await call(database, *((new_id(), UUID(int=n)) for n in range(1, 7)))

        async with database.session() as one:
            await leases.claim(one, "turn", owner="a", limit=4, lease=MINUTE)
            second = await claim(database, limit=4)
        behind = await claim(database, limit=4, after=UUID(int=4))

        # Nothing is left of the first four tenants; two are behind them.
        assert (second, second.seen_to) == ([], UUID(int=4))
        assert [lease.tenant_id.int for lease in behind] == [5, 6]
        assert behind.seen_to is None

    async def test_a_tenants_oldest_row_comes_first(self, database: Database, superuser) -> None:
        tenant = new_id()
        old, new = new_id(), new_id()
        await call(database, (new, tenant), (old, tenant))
        await superuser.execute(
            "UPDATE work SET due_at = due_at - interval '1 hour' WHERE key = $1", old
        )

        assert [lease.key for lease in await claim(database, limit=1)] == [old]

    async def test_a_cell_claims_its_own_rows(self, database: Database, row) -> None:
        await call(database, row, cell="north")

        assert await claim(database) == []
        assert [lease.key for lease in await claim(database, cell="north")] == [row[0]]

    async def test_another_kind_is_not_touched(self, database: Database, row) -> None:
        async with database.session() as session:
            await leases.call(session, "lane", [row])

        assert await claim(database) == []


class TestHold:
    async def test_a_lease_that_was_taken_over_changes_nothing(
        self, database: Database, row, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("CREATE TABLE written (by text)")
        await superuser.execute("GRANT INSERT ON written TO PUBLIC")
        await call(database, row)
        [old] = await claim(database, lease=AT_ONCE)
        [new] = await claim(database)
        assert new.token != old.token

        with pytest.raises(LeaseLost):
            await write_under(database, old)
        await finish(database, old)
        async with database.session() as session:
            await leases.renew(session, [old], MINUTE)

        assert await superuser.fetchval("SELECT count(*) FROM written") == 0
        assert await superuser.fetchval("SELECT token FROM work WHERE kind = 'turn'") == new.token

    async def test_a_takeover_waits_for_who_holds_and_then_finds_the_row_leased(
        self, database: Database, row
    ) -> None:
        await call(database, row)
        [lease] = await claim(database, lease=AT_ONCE)

        async with database.session() as session:
            await leases.hold(session, lease)
            # Expired, but its holder is committing right now.
            assert await claim(database) == []

        assert len(await claim(database)) == 1

    async def test_a_row_that_is_gone_is_lost(self, database: Database, row) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await finish(database, lease)

        with pytest.raises(LeaseLost):
            async with database.session() as session:
                await leases.hold(session, lease)


class TestRenew:
    async def test_a_renewed_lease_is_not_taken_over(self, database: Database, row) -> None:
        await call(database, row)
        [lease] = await claim(database, lease=AT_ONCE)
        async with database.session() as session:
            await leases.renew(session, [lease], MINUTE)

        assert await claim(database) == []


class TestFinish:
    async def test_what_is_right_is_forgotten(
        self, database: Database, row, superuser: asyncpg.Connection
    ) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await finish(database, lease)

        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'turn'") == 0

    async def test_what_is_due_later_waits(
        self, database: Database, row, superuser: asyncpg.Connection
    ) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await finish(database, lease, MINUTE)

        found = await superuser.fetchrow(
            "SELECT *, due_at > now() AS waits FROM work WHERE kind = 'turn'"
        )
        assert (found["waits"], found["token"], found["expires_at"]) == (True, None, None)
        assert await claim(database) == []

    async def test_a_call_brings_forward_what_waits(self, database: Database, row) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await finish(database, lease, MINUTE)
        await call(database, row)

        assert len(await claim(database)) == 1

    async def test_failures_count_until_one_goes_well(self, database: Database, row) -> None:
        await call(database, row)
        counted = []
        for failed in (True, True, False, True):
            [lease] = await claim(database)
            counted.append(lease.attempts)
            await finish(database, lease, AT_ONCE, failed=failed)

        assert counted == [1, 2, 3, 1]

    async def test_a_call_meanwhile_gives_a_failed_row_a_new_start(
        self, database: Database, row
    ) -> None:
        await call(database, row)
        [lease] = await claim(database)
        await call(database, row)
        await finish(database, lease, MINUTE, failed=True)

        assert [again.attempts for again in await claim(database)] == [1]

    async def test_a_takeover_counts_as_an_attempt(self, database: Database, row) -> None:
        await call(database, row)
        await claim(database, lease=AT_ONCE)

        assert [lease.attempts for lease in await claim(database)] == [2]

    async def test_hints_when_the_row_is_due_at_once(self, database: Database, row) -> None:
        told: list[set[str]] = []
        await call(database, row)
        [lease] = await claim(database)
        database.on_hints = told.append
        await finish(database, lease, AT_ONCE)

        assert told == [{"work.turn"}]
