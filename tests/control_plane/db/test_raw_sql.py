"""Raw SQL as the application's role: what an injected statement could and could not do."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from control_plane.db.session import Database, driver
from tests.control_plane.db.planting import Table

REFUSED = {
    "become the owner": "SET ROLE {owner}",
    "become the upkeep": "SET ROLE botyard_upkeep",
    "become the search": "SET ROLE botyard_search",
    "become a superuser": "SET SESSION AUTHORIZATION postgres",
    "take a wall down": "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
    "let the owner past": "ALTER TABLE messages NO FORCE ROW LEVEL SECURITY",
    "drop a policy": "DROP POLICY tenant ON messages",
    "add a policy": "CREATE POLICY all_of_it ON messages USING (true)",
    "change what a scope is": "CREATE OR REPLACE FUNCTION current_tenants() RETURNS text[]"
    " LANGUAGE sql AS 'SELECT array[]::text[]'",
    "bypass by attribute": "ALTER ROLE {app} BYPASSRLS",
    "make a role": "CREATE ROLE another",
    "make a table": "CREATE TABLE mine (x int)",
    "make a schema": "CREATE SCHEMA mine",
    "make a function": "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make an extension": "CREATE EXTENSION dblink",
    "make a foreign server": "CREATE FOREIGN DATA WRAPPER w",
    "empty a table": "TRUNCATE messages",
    "empty the audit": "TRUNCATE audit",
    "stop the triggers": "SET session_replication_role = replica",
    "drop the chain's trigger": "ALTER TABLE audit DISABLE TRIGGER ALL",
    "read the keys of roles": "SELECT rolpassword FROM pg_authid",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "list a folder": "SELECT pg_ls_dir('/')",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "export to a file": "SELECT lo_export(1, '/tmp/x')",
    "copy from a file": "COPY contacts FROM '/etc/passwd'",
    "copy to a file": "COPY contacts TO '/tmp/x'",
    "run a program": "COPY contacts FROM PROGRAM 'id'",
    "pipe to a program": "COPY contacts TO PROGRAM 'cat'",
    "load a library": "LOAD '/tmp/x.so'",
    "write a setting of the server": "ALTER SYSTEM SET log_statement = 'all'",
    "read the server's files": "SELECT * FROM pg_hba_file_rules",
    "read the server's log": "SELECT * FROM pg_ls_logdir()",
    "stop the server's others": "SELECT pg_rotate_logfile()",
    "lend its rights away": "GRANT botyard_app TO {owner}",
}
"""Each ends with `permission denied` or its like."""


@pytest.fixture
async def injected(app_url: str, ground, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the application's role, without the application."""
    async with ground.connection(ground.app, database_name) as connection:
        yield connection


async def speak(connection: asyncpg.Connection, tenant_id: object) -> None:
    await connection.execute("SELECT set_config('botyard.tenants', $1, false)", str(tenant_id))


class TestAnInjectedStatement:
    @pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
    async def test_is_refused(self, injected, ground, statement: str) -> None:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await injected.execute(statement.format(owner=ground.owner, app=ground.app))

        assert isinstance(refused.value, asyncpg.InsufficientPrivilegeError), refused.value

    async def test_gives_itself_no_right(self, injected, ground) -> None:
        # PostgreSQL only warns when there is nothing to give.
        await injected.execute(f"GRANT ALL ON audit TO {ground.app}")

        for right in ("UPDATE", "DELETE", "TRUNCATE"):
            query = "SELECT has_table_privilege('audit', $1)"
            assert not await injected.fetchval(query, right)

    async def test_cannot_look_without_the_walls(self, injected, planted, tables) -> None:
        await speak(injected, planted[0].tenant_id)
        await injected.execute("SET row_security = off")
        seen = []
        for table in (table for table in tables if table.walled):
            try:
                await injected.fetch(f"SELECT 1 FROM {table.name}")  # noqa: S608
                seen.append(table.name)
            except asyncpg.InsufficientPrivilegeError:
                continue

        assert seen == []

    async def test_copies_out_only_what_it_may_see(
        self, injected, planted, tables: list[Table], tmp_path
    ) -> None:
        mine, _theirs = planted
        await speak(injected, mine.tenant_id)
        for table in (table for table in tables if table.walled):
            target = tmp_path / table.name
            query = f"SELECT {table.owner_column} FROM {table.name}"  # noqa: S608
            await injected.copy_from_query(query, output=target)
            assert set(target.read_text().split()) == {str(mine.tenant_id)}

    async def test_copies_nothing_in(self, injected, planted, tables: list[Table]) -> None:
        mine, theirs = planted
        await speak(injected, mine.tenant_id)
        for table in (table for table in tables if table.walled):
            with pytest.raises(asyncpg.PostgresError):
                await injected.copy_records_to_table(
                    table.name, records=[(theirs.tenant_id,)], columns=[table.owner_column]
                )

    async def test_sees_no_row_by_a_function_that_talks(self, injected, planted) -> None:
        """A cheap function of one's own runs behind the wall's condition, never before it."""
        mine, _theirs = planted
        await speak(injected, mine.tenant_id)
        await injected.execute(
            "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " $$ BEGIN RAISE WARNING 'told %', $1; RETURN true; END $$"
        )
        told: list[str] = []
        injected.add_log_listener(lambda _connection, message: told.append(message.message))
        await injected.fetch("SELECT 1 FROM contacts WHERE pg_temp.tell(tenant_id::text)")

        assert told == [f"told {mine.tenant_id}"]

    async def test_replaces_no_function_by_one_of_the_same_name(self, injected, planted) -> None:
        mine, theirs = planted
        await speak(injected, mine.tenant_id)
        await injected.execute(
            "CREATE FUNCTION pg_temp.current_tenants() RETURNS text[] LANGUAGE sql AS"
            f" $$ SELECT ARRAY['{theirs.tenant_id}'] $$"
        )
        await injected.execute("SET search_path = pg_temp, public")

        found = await injected.fetch("SELECT DISTINCT tenant_id FROM contacts")
        assert [row[0] for row in found] == [mine.tenant_id]

    async def test_finds_nothing_of_others_in_the_planners_statistics(
        self, injected, planted, tables, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("ANALYZE")
        walled = [table.name for table in tables if table.walled]

        query = "SELECT count(*) FROM pg_stats WHERE tablename = ANY ($1)"
        assert await superuser.fetchval(query, walled) > 0
        assert await injected.fetchval(query, walled) == 0

    async def test_finds_no_large_objects_and_no_sequences(self, superuser) -> None:
        assert await superuser.fetchval("SELECT count(*) FROM pg_largeobject_metadata") == 0
        assert (
            await superuser.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'S'"
                " AND relnamespace = 'public'::regnamespace"
            )
            == []
        )

    async def test_may_say_that_it_speaks_for_somebody_else(self, injected, planted) -> None:
        """By design: the walls stop forgotten conditions and wrong ids, not injected SQL.

        No statement is made of what a caller gave; that is what stops injection.
        """
        _mine, theirs = planted
        await speak(injected, theirs.tenant_id)

        assert await injected.fetchval("SELECT tenant_id FROM contacts") == theirs.tenant_id


class TestEveryRow:
    async def test_a_change_without_a_condition_meets_ones_own_rows_only(
        self, database: Database, tables: list[Table], planted
    ) -> None:
        mine, _ = planted
        met = {}
        for table in (table for table in tables if table.walled):
            if table.name in {"audit", "audit_heads"}:
                continue
            column = table.owner_column
            async with database.session(mine.scope) as session:
                met[table.name] = await (await driver(session)).execute(
                    f"UPDATE {table.name} SET {column} = {column}"  # noqa: S608
                )

        assert set(met.values()) == {"UPDATE 1"}
