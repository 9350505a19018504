"""Forgetting by plan: what is too old goes in small batches, and nothing else does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.channels import callbacks as callback_store
from control_plane.db import leases
from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import NOBODY, Database, Scope, driver
from control_plane.fleet.upkeep import WORK
from control_plane.kit.ids import new_id
from control_plane.privacy import retention
from control_plane.privacy.retention import Retention
from control_plane.stream import log
from control_plane.webchat import store
from control_plane.webchat.store import Place
from tests.control_plane.conversations.scene import Bot, make_bot

DAY = timedelta(days=1)
MAX = timedelta(days=730)
LATER = timedelta(days=31)
"""After which a plan of 30 days has forgotten what is made now."""

COUNTED = (
    "messages",
    "message_grams",
    "stream",
    "deliveries",
    "attempts",
    "turns",
    "turn_steps",
    "webchat_messages",
    "webchat_visitors",
    "notes",
    "contact_cards",
    "routing_transfers",
    "routing_ratings",
    "assists",
)

_OF_ROUTING = (
    (
        "INSERT INTO routing_transfers (id, tenant_id, conversation_id, number, by_member_id, note,"
        " created_at) VALUES ($1, $2, $3, 1, $1, 'a note', now())"
    ),
    (
        "INSERT INTO routing_ratings (id, tenant_id, conversation_id, number, asked_at, expires_at)"
        " VALUES ($1, $2, $3, 1, now(), now())"
    ),
    (
        "INSERT INTO assists (id, tenant_id, conversation_id, kind, provider_id, model,"
        " prompt_tokens, completion_tokens, latency_ms, created_at)"
        " VALUES ($1, $2, $3, 'summary', $1, 'm', 1, 1, 1, now())"
    ),
)


class CutOff:
    """Counts the commits, and fails after so many of them."""

    def __init__(self, database: Database, fails_after: int | None = None) -> None:
        self._database = database
        self._left = fails_after
        self.commits = 0

    @asynccontextmanager
    async def session(self, scope: Scope = NOBODY) -> AsyncIterator[AsyncSession]:
        async with self._database.session(scope) as session:
            if self._left is not None and self.commits >= self._left:
                raise ConnectionResetError
            yield session
        self.commits += 1


@pytest.fixture
async def lease(database: Database) -> Lease:
    async with database.session() as session:
        [lease] = await leases.claim(session, WORK, owner="test", limit=1, lease=DAY)
    return lease


@pytest.fixture
async def bots(parts, people) -> tuple[Bot, Bot]:
    """A bot of a tenant that keeps 30 days, and one of a tenant whose plan says nothing."""
    operator = await people.operator()
    short = await make_bot(parts, await people.owner())
    long = await make_bot(parts, await people.owner())
    quotas = (await operator.get("/plans")).json()[0]["quotas"]
    await operator.post("/plans", {"name": "month", "quotas": quotas, "retention_days": 30})
    await operator.patch(f"/tenants/{short.tenant_id}", {"plan": "month"})
    return short, long


def forgetting(database: Any, clock: Any, **changes: Any) -> Retention:
    return Retention(database, clock, **{"at_most": MAX} | changes)


async def talk(bot: Bot, *texts: str) -> UUID:
    """A conversation with traces in every table that retention knows."""
    conversation = await bot.hears(*texts)
    ids = await bot.says(conversation, *(f"re: {text}" for text in texts))
    place = Place(tenant_id=bot.tenant_id, instance_id=bot.instance_id, channel_id=bot.channel_id)
    now = bot.parts.house.clock.now()
    async with bot.session() as session:
        connection = await driver(session)
        await connection.execute(
            "UPDATE deliveries SET state = 'sent' WHERE message_id = ANY ($1)", ids
        )
        await connection.execute(
            "INSERT INTO attempts (id, tenant_id, delivery_id, number, journal_id, started_at)"
            " SELECT id, tenant_id, id, 1, id, now() FROM deliveries WHERE message_id = ANY ($1)",
            ids,
        )
        await connection.execute(
            "INSERT INTO message_grams (id, tenant_id, conversation_id, channel_id, grams)"
            " SELECT id, tenant_id, conversation_id, $2, '{1}' FROM messages"
            " WHERE conversation_id = $1 ON CONFLICT DO NOTHING",
            conversation,
            bot.channel_id,
        )
        turn = new_id()
        await connection.execute(
            "INSERT INTO turns (id, tenant_id, conversation_id, number, from_number,"
            " through_number, owner_version, state, created_at)"
            " VALUES ($1, $2, $3, 1, 1, 1, 1, 'answered', now())",
            turn,
            bot.tenant_id,
            conversation,
        )
        await connection.execute(
            "INSERT INTO turn_steps (turn_id, step, tenant_id, result, created_at)"
            " VALUES ($1, 'answer', $2, '{}', now())",
            turn,
            bot.tenant_id,
        )
        for table in _OF_ROUTING:
            await connection.execute(table, new_id(), bot.tenant_id, conversation)
        visitor = await store.ensure_visitor(session, place, "the visitor's secret", now=now)
        await store.add(
            session,
            place,
            visitor,
            key="in:1",
            sender=("visitor", ""),
            segments="[]",
            now=now,
        )
    shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
    await bot.owner.patch(f"/contacts/{shown['contact']['id']}", {"remark": "Lin"})
    await bot.owner.post(f"/conversations/{conversation}/notes", {"text": "mind"})
    return conversation


async def counts(superuser: asyncpg.Connection, bot: Bot) -> dict[str, int]:
    return {
        table: await superuser.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant_id = $1",  # noqa: S608
            bot.tenant_id,
        )
        for table in COUNTED
    }


def move_past(clock: Any, days: timedelta = LATER) -> datetime:
    """Ids are of the real now, so the clock is set from there; where it stood."""
    before: datetime = clock.time
    clock.time = datetime.now(UTC) + days
    return before


class TestSweep:
    async def test_a_plan_of_thirty_days_forgets_and_one_of_none_keeps(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, long = bots
        conversation, kept = await talk(short, "one", "two"), await talk(long, "one", "two")
        before = await counts(superuser, long)
        assert 0 not in before.values()
        start = move_past(clock)

        await forgetting(database, clock).sweep(lease)
        clock.time = start

        assert set((await counts(superuser, short)).values()) == {0}
        assert await counts(superuser, long) == before
        assert len(await long.thread(kept)) == 4
        assert await short.thread(conversation) == []
        shown = (await short.owner.get(f"/conversations/{conversation}")).json()
        assert (shown["preview"], shown["contact"]["name"]) == ("", None)

    async def test_what_is_young_enough_stays(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, _long = bots
        await talk(short, "one")
        before = await counts(superuser, short)
        move_past(clock, 29 * DAY)

        await forgetting(database, clock).sweep(lease)

        assert await counts(superuser, short) == before

    async def test_nobody_keeps_more_than_the_platform_does(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, long = bots
        await talk(short, "one")
        await talk(long, "one")
        move_past(clock)

        await forgetting(database, clock, at_most=10 * DAY).sweep(lease)

        assert set((await counts(superuser, short)).values()) == {0}
        assert set((await counts(superuser, long)).values()) == {0}

    async def test_numbers_go_on_where_they_were(self, bots, database, clock, lease) -> None:
        short, _long = bots
        conversation = await talk(short, "one", "two")
        start = move_past(clock)
        await forgetting(database, clock).sweep(lease)
        clock.time = start

        await short.hears("three")

        assert [item["number"] for item in await short.thread(conversation)] == [5]

    async def test_a_follower_of_the_stream_sees_that_it_has_to_start_over(
        self, bots, database, clock, lease
    ) -> None:
        short, _long = bots
        await talk(short, "one")
        move_past(clock)
        await forgetting(database, clock).sweep(lease)

        async with short.session() as session:
            with pytest.raises(log.Forgotten):
                await log.read(session, short.tenant_id, epoch=1, after=1, limit=10)

    async def test_the_stream_loses_its_beginning_only(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, _long = bots
        await talk(short, "one", "two")
        # Another machine's clock was behind: an older id stands behind a younger one.
        await superuser.execute(
            "UPDATE stream SET id = uuid7_floor(now() + interval '20 days')"
            " WHERE tenant_id = $1 AND seq = 2",
            short.tenant_id,
        )
        before = (await counts(superuser, short))["stream"]
        move_past(clock)

        await forgetting(database, clock).sweep(lease)

        assert (await counts(superuser, short))["stream"] == before - 1

    async def test_what_has_not_ended_stays(self, bots, database, clock, lease, superuser) -> None:
        short, _long = bots
        await talk(short, "one", "two")
        await superuser.execute("UPDATE turns SET state = 'running'")
        await superuser.execute("UPDATE deliveries SET state = 'queued' WHERE number = 3")
        move_past(clock)

        await forgetting(database, clock).sweep(lease)

        left = await counts(superuser, short)
        assert (left["turns"], left["turn_steps"], left["deliveries"], left["attempts"]) == (
            1,
            1,
            1,
            1,
        )

    async def test_dead_letters_go_and_callbacks_that_wait_do_not(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, _long = bots
        for dead in ("too old", None):
            await superuser.execute(
                "INSERT INTO callbacks (id, tenant_id, channel_id, method, path, query, headers,"
                " body, received_at, dead_reason)"
                " VALUES ($1, $2, $3, 'POST', '/', '', '{}', 'secret words', $4, $5)",
                new_id(),
                short.tenant_id,
                short.channel_id,
                clock.now(),
                dead,
            )
        move_past(clock)

        await forgetting(database, clock).sweep(lease)

        left = await superuser.fetch("SELECT dead_reason FROM callbacks")
        assert [row[0] for row in left] == [None]
        assert callback_store.MAX_AGE < 30 * DAY

    async def test_who_was_only_in_a_group_goes_when_they_were_not_heard_for_long(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, _long = bots
        await short.hears("hello")
        for name, seen in (("gone", clock.now()), ("here", datetime.now(UTC) + LATER)):
            await superuser.execute(
                "INSERT INTO contacts (id, tenant_id, channel_id, platform_id, created_at, seen_at)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                new_id(),
                short.tenant_id,
                short.channel_id,
                name,
                clock.now(),
                seen,
            )
        move_past(clock)

        await forgetting(database, clock).sweep(lease)

        left = await superuser.fetch("SELECT platform_id FROM contacts ORDER BY 1")
        assert [row[0] for row in left] == ["here", "lin"]


class TestBatches:
    async def test_are_bounded_each_in_a_transaction_of_its_own(
        self, bots, database, clock, lease, superuser, monkeypatch
    ) -> None:
        short, _long = bots
        await talk(short, *map(str, range(6)))
        monkeypatch.setattr(retention, "BATCH", 2)
        monkeypatch.setattr(retention, "ROUNDS", 2)
        move_past(clock)
        counted = CutOff(database)

        await forgetting(counted, clock).sweep(lease)

        left = await counts(superuser, short)
        assert (left["messages"], left["deliveries"]) == (12 - 4, 6 - 4)
        assert counted.commits > 8
        for _ in range(4):
            await forgetting(counted, clock).sweep(lease)
        assert set((await counts(superuser, short)).values()) == {0}

    async def test_broken_off_anywhere_are_begun_again(
        self, bots, database, clock, lease, superuser, monkeypatch
    ) -> None:
        short, long = bots
        await talk(short, "one", "two", "three")
        await talk(long, "one")
        before = await counts(superuser, long)
        monkeypatch.setattr(retention, "BATCH", 1)
        move_past(clock)
        whole, fails_after = False, 1
        while not whole:
            try:
                await forgetting(CutOff(database, fails_after), clock).sweep(lease)
                whole = True
            except ConnectionResetError:
                fails_after += 7

        assert fails_after > 8
        assert set((await counts(superuser, short)).values()) == {0}
        assert await counts(superuser, long) == before

    async def test_of_who_leads_no_longer_change_nothing(
        self, bots, database, clock, lease, superuser
    ) -> None:
        short, _long = bots
        await talk(short, "one")
        before = await counts(superuser, short)
        await superuser.execute("UPDATE work SET token = gen_random_uuid() WHERE kind = $1", WORK)
        move_past(clock)

        with pytest.raises(LeaseLost):
            await forgetting(database, clock).sweep(lease)

        assert await counts(superuser, short) == before

    @pytest.mark.parametrize("statement", [*retention._KINDS.values(), *retention._OWNED.values()])
    async def test_find_their_rows_by_an_index_as_the_application(
        self, bots, database, statement: str
    ) -> None:
        short, _long = bots
        owned = statement in retention._OWNED.values()
        values = ("ARRAY[gen_random_uuid()]" if owned else f"'{short.tenant_id}'", "now()", "500")
        for number, value in enumerate(values, start=1):
            statement = statement.replace(f"${number}", value)
        async with short.session() as session:
            connection = await driver(session)
            # Tables of a test are so small that reading all of them would be right.
            await connection.execute("SET LOCAL enable_seqscan = off")
            plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + statement))

        assert "Seq Scan" not in plan, plan


class TestMonths:
    async def test_older_than_the_platforms_maximum_are_dropped_whole(
        self, database, clock, lease, superuser
    ) -> None:
        now = datetime.now(UTC)
        await superuser.execute(
            "SELECT ensure_partitions($1, $2)", now - MAX - 70 * DAY, now - MAX + 40 * DAY
        )
        before = await self._months(superuser)
        clock.time = now

        await forgetting(database, clock).sweep(lease)

        after = await self._months(superuser)
        horizon = (now - MAX).strftime("%Y%m")
        assert {name for name in before if name.rpartition("_")[2] < horizon} == before - after
        assert before - after

    @pytest.mark.parametrize("name", ["messages", "attempts", "stream"])
    async def test_are_judged_by_their_bounds_and_not_by_their_names(
        self, database, superuser, name: str
    ) -> None:
        await superuser.execute(
            f"CREATE TABLE {name}_199901 PARTITION OF {name} FOR VALUES"
            " FROM ('7f000000-0000-0000-0000-000000000000')"
            " TO ('7f100000-0000-0000-0000-000000000000')"
        )
        before = await self._months(superuser)

        async with database.session() as session:
            assert await (await driver(session)).fetchval("SELECT drop_partition(now())") is None

        assert await self._months(superuser) == before

    async def test_of_the_last_thirty_days_stay_whatever_the_caller_says(
        self, database, superuser
    ) -> None:
        for _ in range(20):
            async with database.session() as session:
                connection = await driver(session)
                await connection.fetchval("SELECT drop_partition('infinity')")

        month = datetime.now(UTC).strftime("%Y%m")
        assert {f"{t}_{month}" for t in ("messages", "attempts", "stream")} <= (
            await self._months(superuser)
        )

    async def _months(self, superuser: asyncpg.Connection) -> set[str]:
        rows = await superuser.fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN"
            " ('messages'::regclass, 'attempts'::regclass, 'stream'::regclass)"
        )
        return {row[0] for row in rows}
