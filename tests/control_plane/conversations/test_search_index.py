"""What is behind the search: filled once, fairly, under a lease, and forgotten for good."""

import asyncio
import re
from uuid import UUID

import asyncpg
import pytest

from control_plane.conversations import search, search_index
from control_plane.conversations.search_index import EVERY, SearchIndex
from control_plane.db import leases
from control_plane.db.leases import LeaseLost
from control_plane.db.session import driver
from tests.control_plane.conversations.scene import Bot, Worker, make_bot, until_blocked

ROW = UUID(int=2)
INDEXED = "SELECT count(*) FROM message_grams WHERE tenant_id = $1"


@pytest.fixture
async def index(bot: Bot) -> Worker:
    return Worker(bot.database, search_index.WORK, SearchIndex(bot.database).fill)


class TestFill:
    async def test_takes_every_message_once(self, bot: Bot, index, superuser) -> None:
        await bot.hears("one", "two")
        await index.again(ROW)
        await bot.hears("three")
        async with bot.session() as session:
            await (await driver(session)).execute("UPDATE search_positions SET seq = 0")

        assert await index.again(ROW) == EVERY
        assert await superuser.fetchval(INDEXED, bot.tenant_id) == 3
        assert await index.again(ROW) == EVERY

    async def test_takes_a_batch_of_each_tenant_and_comes_again_at_once_for_the_rest(
        self, bot: Bot, index, parts, people, superuser, monkeypatch
    ) -> None:
        monkeypatch.setattr(search_index, "BATCH", 2)
        monkeypatch.setattr(search_index, "TENANTS", 1)
        other = await make_bot(parts, await people.owner())
        await other.hears("one")
        await bot.hears("one", "two", "three")

        assert (await index.again(ROW)).total_seconds() == 0
        while (await index.again(ROW)).total_seconds() == 0:
            pass
        for tenant, count in ((bot.tenant_id, 3), (other.tenant_id, 1)):
            assert await superuser.fetchval(INDEXED, tenant) == count

    async def test_reads_only_the_messages_that_are_new(self, bot: Bot) -> None:
        """Of so few rows the planner would read all; what it may not do at all it cannot choose."""
        async with bot.database.plain(bot.scope) as session:
            connection = await driver(session)
            await connection.execute("SET LOCAL enable_seqscan = off")
            rows = await connection.fetch(
                f"EXPLAIN {search_index._INDEX}", [bot.tenant_id], search_index.BATCH
            )
        plan = "\n".join(row[0] for row in rows)

        assert re.search(r"Index Scan using messages_\d+_pkey .*\n +Index Cond: \(id = ", plan)

    async def test_goes_on_behind_what_the_stream_has_forgotten(
        self, bot: Bot, index, superuser
    ) -> None:
        await bot.hears("one")
        await superuser.execute("DELETE FROM stream")
        await index.again(ROW)
        place = "SELECT (p.epoch, p.seq) = (h.epoch, h.seq) FROM search_positions AS p, "
        place += "stream_heads AS h WHERE h.tenant_id = p.tenant_id AND p.tenant_id = $1"
        assert await superuser.fetchval(place, bot.tenant_id)

        await bot.hears("two")
        await index.again(ROW)
        assert await superuser.fetchval(INDEXED, bot.tenant_id) == 1

    async def test_changes_nothing_without_the_lease(self, bot: Bot, index, superuser) -> None:
        await bot.hears("one")
        lease = await index.claim()
        assert lease is not None
        async with bot.database.session() as session:
            await leases.drop(session, search_index.WORK, ROW)

        with pytest.raises(LeaseLost):
            await index.handle(lease)
        assert await superuser.fetchval(INDEXED, bot.tenant_id) == 0

    async def test_holds_no_words(self, bot: Bot, index, superuser) -> None:
        await bot.hears("xylophone")
        await index.again(ROW)
        row = await superuser.fetchval("SELECT g::text FROM message_grams AS g")
        assert "xy" not in row


class TestForget:
    async def test_keeps_out_what_is_being_indexed(
        self, bot: Bot, index, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("xylophone")
        message_id = UUID((await bot.thread(conversation))[0]["id"])
        async with bot.session() as session:
            await search.forget(session, bot.tenant_id, [message_id])
            filling = asyncio.create_task(index.again(ROW))
            await until_blocked(superuser)
            blank = "UPDATE messages SET segments = '[]' WHERE id = $1"
            await (await driver(session)).execute(blank, message_id)
        await filling

        assert await superuser.fetchval("SELECT grams FROM message_grams") == []
