"""The stream, on a real database."""

import asyncio

import asyncpg
import pytest

from control_plane.db.session import Database, Scope
from control_plane.kit.ids import new_id
from control_plane.stream import log
from control_plane.stream.log import Entry


async def append(database: Database, tenant_id, *numbers: int) -> None:
    async with database.session(Scope(tenants=(tenant_id,))) as session:
        entries = [Entry(type="test.counted", data={"n": n}) for n in numbers]
        await log.append(session, tenant_id, entries)


async def append_and_fail(database: Database, tenant_id) -> None:
    async with database.session(Scope(tenants=(tenant_id,))) as session:
        await log.append(session, tenant_id, [Entry(type="test.lost", data={})])
        raise ZeroDivisionError


async def read(database: Database, tenant_id, *, after: int = 0, limit: int = 1000):
    async with database.session(Scope(tenants=(tenant_id,))) as session:
        return await log.read(session, tenant_id, epoch=1, after=after, limit=limit)


async def append_to_both(database: Database, tenant_id, other_id) -> None:
    entry = Entry(type="test.counted", data={})
    async with database.plain(Scope(tenants=(tenant_id, other_id))) as session:
        await log.append_all(session, {tenant_id: [entry], other_id: [entry]})


@pytest.fixture
async def tenant_id(people):
    return (await people.owner()).tenant_id


class TestAppend:
    async def test_positions_have_no_gap_when_fifty_append_at_once(
        self, database: Database, tenant_id
    ) -> None:
        await asyncio.gather(*(append(database, tenant_id, n, n + 100) for n in range(50)))

        entries = await read(database, tenant_id)

        assert [entry.seq for entry in entries] == list(range(1, 101))
        # What one transaction appends stays together.
        assert all(
            second.data["n"] == first.data["n"] + 100
            for first, second in zip(entries[::2], entries[1::2], strict=True)
        )

    async def test_a_transaction_that_fails_leaves_no_hole(
        self, database: Database, tenant_id
    ) -> None:
        await append(database, tenant_id, 1)
        with pytest.raises(ZeroDivisionError):
            await append_and_fail(database, tenant_id)
        await append(database, tenant_id, 2)

        assert [(e.seq, e.data) for e in await read(database, tenant_id)] == [
            (1, {"n": 1}),
            (2, {"n": 2}),
        ]

    async def test_nothing_to_say_takes_no_position(self, database: Database, tenant_id) -> None:
        await append(database, tenant_id)
        await append(database, tenant_id, 7)

        assert [entry.seq for entry in await read(database, tenant_id)] == [1]

    async def test_listeners_are_told_after_the_commit(self, database: Database, tenant_id) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        async with database.session(Scope(tenants=(tenant_id,))) as session:
            await log.append(session, tenant_id, [Entry(type="test.said", data={})])
            assert told == []

        assert told == [{log.topic(tenant_id)}]

    async def test_a_failed_transaction_tells_nobody(self, database: Database, tenant_id) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        with pytest.raises(ZeroDivisionError):
            await append_and_fail(database, tenant_id)

        assert told == []

    async def test_each_tenant_counts_for_itself(self, database: Database, people) -> None:
        one, other = (await people.owner()).tenant_id, (await people.owner()).tenant_id
        await append(database, one, 1, 2, 3)
        await append(database, other, 9)

        assert [entry.seq for entry in await read(database, other)] == [1]


class TestAppendAll:
    async def test_positions_have_no_gap_when_many_append_for_several_tenants(
        self, database: Database, people
    ) -> None:
        tenants = [(await people.owner()).tenant_id for _ in range(3)]

        async def add(n: int) -> None:
            # Each names the tenants in another order, and leaves one out at times.
            turned = tenants[n % 3 :] + tenants[: n % 3]
            chosen = turned[: 2 + n % 2]
            async with database.plain(Scope(tenants=tuple(chosen))) as session:
                entries = {each: [Entry(type="test.counted", data={"n": n})] * 2 for each in chosen}
                await log.append_all(session, entries)

        await asyncio.gather(*(add(n) for n in range(30)))

        for number, tenant_id in enumerate(tenants):
            named = [n for n in range(30) if n % 2 or n % 3 != (number + 1) % 3]
            entries = await read(database, tenant_id)
            assert [entry.seq for entry in entries] == list(range(1, 2 * len(named) + 1))
            assert sorted(entry.data["n"] for entry in entries[::2]) == named

    async def test_who_has_no_stream_is_an_error(
        self, database: Database, tenant_id, people, superuser: asyncpg.Connection
    ) -> None:
        other_id = (await people.owner()).tenant_id
        await superuser.execute("DELETE FROM stream_heads WHERE tenant_id = $1", other_id)

        with pytest.raises(LookupError):
            await append_to_both(database, tenant_id, other_id)

        assert await read(database, tenant_id) == []
        heads = await superuser.fetch("SELECT tenant_id FROM stream_heads")
        assert [row["tenant_id"] for row in heads] == [tenant_id]

    async def test_who_is_not_there_is_an_error(self, database: Database, tenant_id) -> None:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await append_to_both(database, tenant_id, new_id())

        assert await read(database, tenant_id) == []


class TestRead:
    async def test_gives_what_is_behind_a_position_oldest_first(
        self, database: Database, tenant_id
    ) -> None:
        await append(database, tenant_id, *range(10))

        entries = await read(database, tenant_id, after=4, limit=3)

        assert [(entry.epoch, entry.seq, entry.data["n"]) for entry in entries] == [
            (1, 5, 4),
            (1, 6, 5),
            (1, 7, 6),
        ]

    async def test_is_empty_at_the_end(self, database: Database, tenant_id) -> None:
        await append(database, tenant_id, 1)

        assert await read(database, tenant_id, after=1) == []

    @pytest.mark.parametrize("after", [0, 1])
    @pytest.mark.parametrize("gone", [2, 3])
    async def test_a_position_before_what_is_kept_is_recognised(
        self, database: Database, tenant_id, superuser: asyncpg.Connection, after: int, gone: int
    ) -> None:
        await append(database, tenant_id, 1, 2, 3)
        await superuser.execute("DELETE FROM stream WHERE seq <= $1", gone)

        with pytest.raises(log.Forgotten):
            await read(database, tenant_id, after=after)

    async def test_a_position_just_before_what_is_kept_goes_on(
        self, database: Database, tenant_id, superuser: asyncpg.Connection
    ) -> None:
        await append(database, tenant_id, 1, 2, 3)
        await superuser.execute("DELETE FROM stream WHERE seq <= 2")

        assert [entry.seq for entry in await read(database, tenant_id, after=2)] == [3]
        await superuser.execute("DELETE FROM stream")
        assert await read(database, tenant_id, after=3) == []

    async def test_another_epoch_is_another_stream(
        self, database: Database, tenant_id, superuser: asyncpg.Connection
    ) -> None:
        await append(database, tenant_id, 1)
        await superuser.execute("UPDATE stream_heads SET epoch = 2, seq = 0")
        await append(database, tenant_id, 2)

        async with database.session(Scope(tenants=(tenant_id,))) as session:
            entries = await log.read(session, tenant_id, epoch=2, after=0, limit=10)

        assert [(entry.epoch, entry.seq, entry.data["n"]) for entry in entries] == [(2, 1, 2)]
