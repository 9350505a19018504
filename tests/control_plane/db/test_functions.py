"""The functions that run as somebody else: the search in the question list, and the upkeep."""

import asyncio
import re
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from control_plane.db.session import Database, Scope, driver
from tests.control_plane.db.planting import insert


class TestAnswerMatches:
    async def test_finds_ones_own_answers_only(self, database: Database, planted) -> None:
        mine, _ = planted
        async with database.session(mine.scope) as session:
            found = await (await driver(session)).fetch(
                "SELECT * FROM answer_matches($1, 10)", ["ab", "xy"]
            )

        assert [(row["id"], row["score"]) for row in found] == [(mine.rows["answers"]["id"], 0.5)]

    async def test_finds_nothing_for_nobody(self, database: Database, planted) -> None:
        async with database.session() as session:
            found = await (await driver(session)).fetch(
                "SELECT * FROM answer_matches($1, 10)", ["ab"]
            )

        assert found == []

    async def test_uses_the_index_when_the_application_calls_it(
        self, superuser: asyncpg.Connection, ground, planted
    ) -> None:
        await superuser.execute(
            """
            INSERT INTO answers (id, tenant_id, position, question, answer, grams, created_at)
            SELECT gen_random_uuid(), $1, n, 'q', 'a',
                   ARRAY[chr(19968 + n % 900) || 'x', chr(19968 + n % 700) || 'y'], now()
            FROM generate_series(2, 4000) AS n
            """,
            planted[0].tenant_id,
        )
        await superuser.execute("ANALYZE answers")

        plan = await plan_inside(
            superuser,
            ground.app,
            planted[0].tenant_id,
            "SELECT * FROM answer_matches(ARRAY[chr(19970) || 'x'], 10)",
            "FROM answers AS a",
        )

        assert "Index Scan on answers_grams" in plan
        assert "tenant_id" in next(line for line in plan.splitlines() if "Index Cond" in line)
        assert "Seq Scan on answers" not in plan


CANDIDATES = """
SELECT * FROM message_candidates($1, uuid7_floor(now() - interval '1 minute'),
    uuid7_floor(now() + interval '1 minute'), NULL, NULL, NULL, NULL, NULL, 10, 10)
"""


class TestMessageCandidates:
    async def test_finds_ones_own_messages_only(
        self, database: Database, superuser: asyncpg.Connection, planted
    ) -> None:
        ids = {}
        for tenant in planted:
            ids[tenant.tenant_id] = await superuser.fetchval(
                "INSERT INTO message_grams (id, tenant_id, conversation_id, channel_id, grams)"
                " SELECT overlay(md5($2) PLACING left(replace(uuid7_floor(now())::text,"
                " '-', ''), 12) FROM 1)::uuid, $1, $1, $1, '{1,2}' RETURNING id",
                tenant.tenant_id,
                str(tenant.tenant_id),
            )
        for scope, wanted in (
            (planted[0].scope, [ids[planted[0].tenant_id]]),
            (Scope(), []),
            (Scope(operator=True), []),
        ):
            async with database.session(scope) as session:
                found = await (await driver(session)).fetch(CANDIDATES, [1, 2])
            assert [row["id"] for row in found if row["indexed"]] == wanted

    async def test_uses_the_index_of_the_period_when_the_application_calls_it(
        self, superuser: asyncpg.Connection, ground, planted
    ) -> None:
        await superuser.execute(
            """
            INSERT INTO message_grams (id, tenant_id, conversation_id, channel_id, grams)
            SELECT overlay(md5(n::text) PLACING left(replace(uuid7_floor(now())::text, '-', ''), 12)
                FROM 1)::uuid, $1, $1, $1, ARRAY[n % 900, n % 700]
            FROM generate_series(1, 4000) AS n
            """,
            planted[0].tenant_id,
        )
        await superuser.execute("ANALYZE message_grams")

        plan = await plan_inside(
            superuser,
            ground.app,
            planted[0].tenant_id,
            CANDIDATES.replace("$1", "ARRAY[5, 6]"),
            "FROM message_grams AS g",
        )

        month = f"{datetime.now(UTC):%Y%m}"
        assert f"Bitmap Index Scan on message_grams_{month}_grams_idx" in plan
        assert set(re.findall(r"message_grams_(\d{6})", plan)) == {month}


async def plan_inside(
    superuser: asyncpg.Connection, role: str, tenant_id: UUID, statement: str, inside: str
) -> str:
    """The plan of what a function runs when `role` calls it, as the server itself reports it."""
    said: list[str] = []
    superuser.add_log_listener(lambda _connection, message: said.append(message.message))
    await superuser.execute("LOAD 'auto_explain'")
    for setting, value in (
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("client_min_messages", "log"),
        ("botyard.tenants", str(tenant_id)),
    ):
        await superuser.execute("SELECT set_config($1, $2, false)", setting, value)
    await superuser.execute(f"SET SESSION AUTHORIZATION {role}")
    await superuser.fetch(statement)
    await superuser.execute("RESET SESSION AUTHORIZATION")
    return next(text for text in said if inside in text)


class TestPartitions:
    async def test_the_application_makes_them_and_twice_is_once(self, database: Database) -> None:
        made = []
        for _ in range(2):
            async with database.session() as session:
                made.append(
                    await (await driver(session)).fetchval(
                        "SELECT ensure_partitions('2031-05-20', '2031-07-01')"
                    )
                )

        assert made == [12, 0]

    async def test_at_the_same_moment_is_once(
        self, database: Database, superuser: asyncpg.Connection
    ) -> None:
        statement = "SELECT ensure_partitions('2031-05-20', '2031-05-20')"
        async with database.session() as one, database.session() as other:
            made = [await (await driver(one)).fetchval(statement)]
            second = asyncio.create_task((await driver(other)).fetchval(statement))
            while not await superuser.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not second.done()
            await one.commit()
            made.append(await second)

        assert made == [4, 0]

    async def test_a_new_one_takes_rows_of_its_month(
        self, database: Database, superuser: asyncpg.Connection, planted
    ) -> None:
        await superuser.execute("SELECT ensure_partitions('2031-05-20', '2031-05-20')")
        moment = datetime(2031, 5, 31, 23, 59, 59, tzinfo=UTC)
        late = await superuser.fetchval("SELECT uuid7_floor($1)", moment)
        tenant = planted[0]
        async with database.session(tenant.scope) as session:
            await insert(await driver(session), "messages", tenant.rows["messages"] | {"id": late})

        assert int(late) >> 80 == int(moment.timestamp() * 1000)
        assert await superuser.fetchval("SELECT count(*) FROM messages_203105") == 1

    async def test_there_are_some_for_the_months_around_now(
        self, superuser: asyncpg.Connection
    ) -> None:
        missing = await superuser.fetch(
            """
            SELECT parent, month FROM
                unnest(ARRAY['messages', 'message_grams', 'attempts', 'stream']) AS parent,
                generate_series(now() - interval '1 month', now() + interval '3 months',
                                interval '1 month') AS month
            WHERE to_regclass(parent || to_char(month AT TIME ZONE 'UTC', '_YYYYMM')) IS NULL
            """
        )

        assert missing == []
