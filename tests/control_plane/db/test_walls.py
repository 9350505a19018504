"""The walls between tenants: the whole schema is walked, so a new table cannot be forgotten."""

import importlib
import pkgutil

import asyncpg
import pytest
from sqlmodel import SQLModel

import control_plane
from control_plane.db.session import Database, Scope, driver
from tests.control_plane.db.planting import (
    OF_THE_PLATFORM,
    WITHOUT_WALLS,
    Table,
    insert,
    minimal,
    refusal,
    visible,
)

APPEND_ONLY = {"audit", "audit_heads"}
"""What the application cannot remove, not even its own."""

BY_WHAT_THEY_FOLLOW = {"message_grams"}
"""Made from messages, which have a key to their conversation; a search reads those again."""


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

    async def test_what_is_of_a_conversation_is_of_its_tenant(self, tables: list[Table]) -> None:
        loose = {
            table.name
            for table in tables
            if table.walled
            and "conversation_id" in table.columns
            and not any(
                reference["target"] == "conversations"
                and {"tenant_id", "conversation_id"} == set(reference["columns"])
                for reference in table.references
            )
        }

        assert loose == BY_WHAT_THEY_FOLLOW

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
            ("callbacks", "upkeep", ["botyard_upkeep"], "SELECT"),
            ("deliveries", "upkeep", ["botyard_upkeep"], "SELECT"),
            ("idempotency", "upkeep", ["botyard_upkeep"], "ALL"),
            ("instances", "operator", ["botyard_app"], "SELECT"),
            ("members", "own", ["botyard_app"], "SELECT"),
            ("message_grams", "search", ["botyard_search"], "SELECT"),
            ("orphans", "operator", ["botyard_app"], "ALL"),
            ("plans", "everybody", ["botyard_app"], "SELECT"),
            ("plans", "operator", ["botyard_app"], "ALL"),
            ("received", "upkeep", ["botyard_upkeep"], "ALL"),
            ("rejected_events", "upkeep", ["botyard_upkeep"], "SELECT"),
            ("releases", "everybody", ["botyard_app"], "SELECT"),
            ("releases", "operator", ["botyard_app"], "ALL"),
            ("roles", "own", ["botyard_app"], "SELECT"),
            ("rollout_members", "operator", ["botyard_app"], "ALL"),
            ("rollouts", "operator", ["botyard_app"], "ALL"),
            ("search_positions", "search", ["botyard_search"], "SELECT"),
            ("stream", "search", ["botyard_search"], "SELECT"),
            ("stream_heads", "search", ["botyard_search"], "SELECT"),
            ("support_grants", "own", ["botyard_app"], "SELECT"),
            ("tenants", "operator", ["botyard_app"], "ALL"),
            ("tenants", "own", ["botyard_app"], "SELECT"),
            ("timeline", "operator", ["botyard_app"], "SELECT"),
            ("webhook_messages", "upkeep", ["botyard_upkeep"], "ALL"),
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
            "message_grams",
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
            ("dead_letters", False),
            ("drop_partition", True),
            ("ensure_partitions", True),
            ("message_candidates", False),
            ("prune", False),
            ("prune_audit", False),
            ("prune_webhook_messages", False),
            ("queues", False),
            ("tenants_to_index", False),
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

    async def test_nobody_writes_into_another_tenants_conversation(
        self, database: Database, tables, planted
    ) -> None:
        mine, theirs = planted
        messages = next(table for table in tables if table.name == "messages")
        row = minimal(messages, mine, 3) | {"conversation_id": theirs.rows["conversations"]["id"]}

        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with database.session(mine.scope) as session:
                await insert(await driver(session), "messages", row)

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
