"""The walls between tenants: the whole schema is walked, so a new table cannot be forgotten."""

import asyncio
import importlib
import pkgutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlmodel import SQLModel

import control_plane
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.ids import new_id

WITHOUT_WALLS = {"work", "routes", "credentials", "identities", "alembic_version"}
"""Keys and ids only, no content: the closed list of design section 7."""

OF_THE_PLATFORM = {"plans"}
"""Nobody's: everybody reads it, operators write it."""
APPEND_ONLY = {"audit", "audit_heads"}
"""What the application cannot remove, not even its own."""

TABLES = """
SELECT c.oid, c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       c.relispartition AS partition
FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname
"""
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS needed,
       a.atthasdef AS given
FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
REFERENCES = """
SELECT r.relname AS target,
       (SELECT array_agg(attname::text ORDER BY o)
        FROM unnest(k.conkey) WITH ORDINALITY AS n (i, o)
        JOIN pg_attribute ON attrelid = k.conrelid AND attnum = i) AS columns,
       (SELECT array_agg(attname::text ORDER BY o)
        FROM unnest(k.confkey) WITH ORDINALITY AS n (i, o)
        JOIN pg_attribute ON attrelid = k.confrelid AND attnum = i) AS target_columns
FROM pg_constraint AS k JOIN pg_class AS r ON r.oid = k.confrelid
WHERE k.conrelid = $1 AND k.contype = 'f' AND k.conparentid = 0
"""
# The first of the values that a CHECK (x IN (...)) allows.
ALLOWED = """
SELECT a.attname AS name, (regexp_match(pg_get_constraintdef(k.oid), '''([^'']*)'''))[1] AS value
FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.conrelid = $1 AND k.contype = 'c' AND cardinality(k.conkey) = 1
"""


@dataclass
class Table:
    """A table as the catalogue describes it."""

    oid: int
    name: str
    enabled: bool
    forced: bool
    partition: bool
    columns: dict[str, asyncpg.Record] = field(default_factory=dict)
    references: list[asyncpg.Record] = field(default_factory=list)
    allowed: dict[str, str] = field(default_factory=dict)

    @property
    def owner_column(self) -> str | None:
        """The column that says whose row it is."""
        if self.name == "tenants":
            return "id"
        return "tenant_id" if "tenant_id" in self.columns else None

    @property
    def walled(self) -> bool:
        return not self.partition and self.name not in WITHOUT_WALLS | OF_THE_PLATFORM


@dataclass
class Planted:
    """One row in every table for one tenant."""

    tenant_id: UUID
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(tenants=(self.tenant_id,))


@pytest.fixture
async def tables(superuser: asyncpg.Connection) -> list[Table]:
    found = [Table(**dict(row)) for row in await superuser.fetch(TABLES)]
    for table in found:
        columns = await superuser.fetch(COLUMNS, table.oid)
        table.columns = {column["name"]: column for column in columns}
        table.references = await superuser.fetch(REFERENCES, table.oid)
        table.allowed = {
            row["name"]: row["value"] for row in await superuser.fetch(ALLOWED, table.oid)
        }
    return found


@pytest.fixture
async def planted(database: Database, tables: list[Table]) -> tuple[Planted, Planted]:
    """Two tenants with a row in every table, written as the application."""
    return await plant(database, tables, 1), await plant(database, tables, 2)


async def plant(database: Database, tables: list[Table], number: int) -> Planted:
    planted = Planted(new_id())
    # The audit's first row makes its head.
    walled = [table for table in tables if table.walled and table.name != "audit_heads"]
    left = walled + [table for table in tables if table.name == "identities"]
    async with database.session(planted.scope) as session:
        connection = await driver(session)
        while left:
            ready = next(
                table
                for table in left
                if {reference["target"] for reference in table.references} - OF_THE_PLATFORM
                <= planted.rows.keys()
            )
            row = minimal(ready, planted, number)
            await insert(connection, ready.name, row)
            planted.rows[ready.name] = row
            left.remove(ready)
    return planted


def minimal(table: Table, planted: Planted, number: int) -> dict[str, Any]:
    """A value for each column that needs one, referring to what was planted before."""
    values: dict[str, Any] = {
        "uuid": None,
        "text": f"{table.name} {number}",
        "text[]": ["ab", "bc"],
        "bigint": 1,
        "integer": 1,
        "boolean": False,
        "jsonb": "{}",
        "bytea": f"{table.name} {number}".encode(),
        "timestamp with time zone": datetime(2026, 1, 1, tzinfo=UTC),
    }
    row = {
        name: table.allowed.get(name) or values[column["type"]] or new_id()
        for name, column in table.columns.items()
        if column["needed"] and (not column["given"] or name in table.allowed)
    }
    for reference in table.references:
        if reference["target"] in OF_THE_PLATFORM:
            continue
        target = planted.rows[reference["target"]]
        pairs = zip(reference["columns"], reference["target_columns"], strict=True)
        row |= {name: target[there] for name, there in pairs if name in row}
    if table.owner_column:
        row[table.owner_column] = planted.tenant_id
    return row


async def insert(connection: asyncpg.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${n + 1}" for n in range(len(row)))
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"  # noqa: S608
    await connection.execute(statement, *row.values())


async def visible(database: Database, scope: Scope, tables: list[Table]) -> dict[str, set[UUID]]:
    """Whose rows of each walled table a scope sees; tables without any are left out."""
    async with database.session(scope) as session:
        connection = await driver(session)
        found = {
            table.name: {
                row[0]
                for row in await connection.fetch(
                    f"SELECT {table.owner_column} FROM {table.name}"  # noqa: S608
                )
            }
            for table in tables
            if table.walled
        }
    return {name: tenants for name, tenants in found.items() if tenants}


async def refusal(database: Database, scope: Scope, statement: str, *values: Any) -> str:
    """What PostgreSQL says to a statement of the application; empty when it allows it."""
    try:
        async with database.session(scope) as session:
            await (await driver(session)).execute(statement, *values)
    except asyncpg.InsufficientPrivilegeError as error:
        return str(error)
    return ""


class TestSchema:
    async def test_every_table_is_walled_but_the_closed_list(self, tables: list[Table]) -> None:
        open_tables = {table.name for table in tables if not table.partition and not table.enabled}

        assert open_tables == WITHOUT_WALLS
        forced = {table.name for table in tables if table.forced}
        assert {t.name for t in tables if t.walled} | OF_THE_PLATFORM == forced
        assert {t.name for t in tables if t.walled and t.owner_column is None} == set()

    async def test_every_wall_is_the_tenants_in_both_directions(
        self, tables: list[Table], superuser: asyncpg.Connection
    ) -> None:
        policies = await superuser.fetch("SELECT * FROM pg_policies WHERE policyname = 'tenant'")
        walls = {
            policy["tablename"]
            for policy in policies
            if policy["roles"] == ["botyard_app"]
            and policy["cmd"] == "ALL"
            and policy["permissive"] == "PERMISSIVE"
            and "current_tenants()" in policy["qual"]
            and "current_tenants()" in policy["with_check"]
        }

        assert walls == {table.name for table in tables if table.walled}

    async def test_the_other_policies_are_a_closed_list(
        self, superuser: asyncpg.Connection
    ) -> None:
        found = await superuser.fetch(
            "SELECT tablename, policyname, roles::text[], cmd FROM pg_policies"
            " WHERE policyname <> 'tenant' ORDER BY 1, 2"
        )

        assert [tuple(row) for row in found] == [
            ("answers", "search", ["botyard_search"], "SELECT"),
            ("audit", "upkeep", ["botyard_upkeep"], "ALL"),
            ("audit_heads", "upkeep", ["botyard_upkeep"], "ALL"),
            ("batches", "upkeep", ["botyard_upkeep"], "ALL"),
            ("idempotency", "upkeep", ["botyard_upkeep"], "ALL"),
            ("instances", "operator", ["botyard_app"], "SELECT"),
            ("members", "own", ["botyard_app"], "SELECT"),
            ("plans", "everybody", ["botyard_app"], "SELECT"),
            ("plans", "operator", ["botyard_app"], "ALL"),
            ("received", "upkeep", ["botyard_upkeep"], "ALL"),
            ("roles", "own", ["botyard_app"], "SELECT"),
            ("tenants", "operator", ["botyard_app"], "ALL"),
            ("tenants", "own", ["botyard_app"], "SELECT"),
        ]

    async def test_no_policy_is_for_everybody(self, superuser: asyncpg.Connection) -> None:
        # A policy TO PUBLIC has the pseudo role 0.
        assert await superuser.fetch("SELECT polname FROM pg_policy WHERE 0 = ANY (polroles)") == []

    async def test_a_partition_is_reached_through_its_table_only(
        self, tables: list[Table], superuser: asyncpg.Connection, ground
    ) -> None:
        partitions = [table.name for table in tables if table.partition]
        rights = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
        reachable = [
            name
            for name in partitions
            if await superuser.fetchval(
                "SELECT has_table_privilege($1, $2, $3)", ground.app, name, rights
            )
        ]

        assert {name.rpartition("_")[0] for name in partitions} == {
            "messages",
            "attempts",
            "stream",
            "received",
        }
        assert reachable == []

    async def test_functions_with_rights_of_their_own_cannot_be_led_astray(
        self, superuser: asyncpg.Connection
    ) -> None:
        found = await superuser.fetch(
            """
            SELECT p.proname AS name, p.proconfig AS settings, r.rolcanlogin AS strong,
                   has_function_privilege('public', p.oid, 'EXECUTE') AS for_everybody
            FROM pg_proc AS p JOIN pg_roles AS r ON r.oid = p.proowner
            WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace ORDER BY 1
            """
        )

        assert [(row["name"], row["strong"]) for row in found] == [
            ("answer_matches", False),
            ("audit_chain", False),
            ("audit_chains", False),
            ("audit_verify", False),
            ("ensure_partitions", True),
            ("prune", False),
            ("prune_audit", False),
        ]
        assert not any(row["for_everybody"] for row in found)
        # Temporary tables come last, or a caller's own would stand in for ours.
        assert {tuple(row["settings"]) for row in found} == {
            ("search_path=pg_catalog, public, pg_temp",)
        }

    async def test_references_between_tenant_tables_carry_the_tenant(
        self, tables: list[Table]
    ) -> None:
        walled = {table.name for table in tables if table.walled} - {"tenants"}
        loose = [
            (table.name, reference["target"])
            for table in tables
            for reference in table.references
            if reference["target"] in walled and "tenant_id" not in reference["columns"]
        ]

        assert loose == []


class TestApplicationRole:
    async def test_owns_nothing_and_makes_nothing(
        self, superuser: asyncpg.Connection, ground
    ) -> None:
        for role in (ground.app, "botyard_app"):
            owned = await superuser.fetchval(
                "SELECT count(*) FROM pg_shdepend WHERE deptype = 'o' AND refobjid = $1::regrole",
                role,
            )
            assert owned == 0
            assert not await superuser.fetchval(
                "SELECT has_schema_privilege($1, 'public', 'CREATE')", role
            )

    async def test_has_no_power_to_look_past_the_walls(
        self, superuser: asyncpg.Connection, ground
    ) -> None:
        attributes = await superuser.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
            " FROM pg_roles WHERE rolname = $1",
            ground.app,
        )
        groups = await superuser.fetch(
            "SELECT rolname FROM pg_roles WHERE pg_has_role($1, oid, 'MEMBER') AND rolname <> $1",
            ground.app,
        )

        assert not any(attributes.values())
        assert [row["rolname"] for row in groups] == ["botyard_app"]


class TestTenantScope:
    async def test_nobody_sees_nothing(self, database: Database, tables, planted) -> None:
        assert await visible(database, Scope(), tables) == {}

    async def test_a_tenant_sees_its_own_rows_only(
        self, database: Database, tables, planted
    ) -> None:
        for tenant in planted:
            assert await visible(database, tenant.scope, tables) == {
                table.name: {tenant.tenant_id} for table in tables if table.walled
            }

    async def test_who_speaks_for_two_sees_two(self, database: Database, tables, planted) -> None:
        both = {tenant.tenant_id for tenant in planted}
        seen = await visible(database, Scope(tenants=tuple(both)), tables)

        assert list(seen.values()) == [both] * len(seen)

    async def test_a_scope_ends_with_its_transaction(self, app_url: str, tables, planted) -> None:
        database = Database(app_url, pool_size=1)
        try:
            await visible(database, planted[0].scope, tables)
            assert await visible(database, Scope(), tables) == {}
        finally:
            await database.close()

    async def test_nobody_writes_into_another_tenant(
        self, database: Database, tables, planted
    ) -> None:
        mine, theirs = planted
        allowed = []
        for table in (table for table in tables if table.walled):
            row = minimal(table, theirs, 3)
            places = ", ".join(f"${n + 1}" for n in range(len(row)))
            statement = f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({places})"  # noqa: S608
            said = await refusal(database, mine.scope, statement, *row.values())
            # Nobody but the audit's own function writes its heads.
            wanted = "denied" if table.name == "audit_heads" else "row-level security"
            if wanted not in said:
                allowed.append(table.name)

        assert allowed == []

    async def test_nobody_gives_a_row_away(self, database: Database, tables, planted) -> None:
        mine, theirs = planted
        allowed = []
        for table in (table for table in tables if table.walled):
            statement = f"UPDATE {table.name} SET {table.owner_column} = $1"  # noqa: S608
            if not await refusal(database, mine.scope, statement, theirs.tenant_id):
                allowed.append(table.name)

        assert allowed == []

    async def test_nobody_changes_or_removes_what_is_not_theirs(
        self, database: Database, tables, planted
    ) -> None:
        mine, theirs = planted
        touched = {}
        for table in tables:
            if not table.walled or table.name in {"tenants", *APPEND_ONLY}:
                continue
            async with database.session(mine.scope) as session:
                done = await (await driver(session)).execute(
                    f"DELETE FROM {table.name} WHERE tenant_id = $1",  # noqa: S608
                    theirs.tenant_id,
                )
            touched[table.name] = done

        assert set(touched.values()) == {"DELETE 0"}

    @pytest.mark.parametrize(
        "verb",
        [
            "UPDATE audit SET action = ''",
            "DELETE FROM audit",
            "UPDATE audit_heads SET seq = 0",
            "INSERT INTO audit_heads (tenant_id) VALUES (gen_random_uuid())",
            "DELETE FROM audit_heads",
        ],
    )
    async def test_the_audit_only_grows(self, database: Database, planted, verb: str) -> None:
        assert "permission denied" in await refusal(database, planted[0].scope, verb)


class TestIdentityScope:
    async def test_sees_its_own_memberships_and_the_names_of_those_tenants(
        self, database: Database, tables, planted
    ) -> None:
        mine, _ = planted
        scope = Scope(identity=mine.rows["identities"]["id"])

        assert await visible(database, scope, tables) == {
            "members": {mine.tenant_id},
            "tenants": {mine.tenant_id},
        }

    async def test_changes_nothing(self, database: Database, planted) -> None:
        scope = Scope(identity=planted[0].rows["identities"]["id"])
        async with database.session(scope) as session:
            connection = await driver(session)
            assert await connection.execute("UPDATE members SET role = 'owner'") == "UPDATE 0"
            assert await connection.execute("UPDATE tenants SET state = 'active'") == "UPDATE 0"


class TestOperatorScope:
    async def test_sees_tenants_and_instances_and_nothing_that_was_said(
        self, database: Database, tables, planted
    ) -> None:
        both = {tenant.tenant_id for tenant in planted}

        assert await visible(database, Scope(operator=True), tables) == {
            "tenants": both,
            "instances": both,
        }

    async def test_steers_tenants_but_not_their_instances(
        self, database: Database, planted
    ) -> None:
        async with database.session(Scope(operator=True)) as session:
            connection = await driver(session)
            assert await connection.execute("UPDATE tenants SET reason = 'x'") == "UPDATE 2"
            assert await connection.execute("UPDATE instances SET name = 'x'") == "UPDATE 0"


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
        )

        assert "Index Scan on answers_grams" in plan
        assert "tenant_id" in next(line for line in plan.splitlines() if "Index Cond" in line)
        assert "Seq Scan on answers" not in plan


async def plan_inside(
    superuser: asyncpg.Connection, role: str, tenant_id: UUID, statement: str
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
    return next(text for text in said if "FROM answers AS a" in text)


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

        assert made == [9, 0]

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

        assert made == [3, 0]

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
            SELECT parent, month FROM unnest(ARRAY['messages', 'attempts', 'stream']) AS parent,
                generate_series(now() - interval '1 month', now() + interval '3 months',
                                interval '1 month') AS month
            WHERE to_regclass(parent || to_char(month AT TIME ZONE 'UTC', '_YYYYMM')) IS NULL
            """
        )

        assert missing == []


class TestModels:
    async def test_agree_with_the_tables(self, tables: list[Table]) -> None:
        for module in pkgutil.walk_packages(control_plane.__path__, "control_plane."):
            if module.name.endswith(".models"):
                importlib.import_module(module.name)
        by_name = {table.name: table for table in tables}

        modelled = {
            name: {column.name: column.nullable for column in model.columns}
            for name, model in SQLModel.metadata.tables.items()
        }

        assert len(modelled) >= 10
        assert modelled == {
            name: {c["name"]: not c["needed"] for c in by_name[name].columns.values()}
            for name in modelled
        }
