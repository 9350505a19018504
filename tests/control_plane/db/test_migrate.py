"""Migrations, each on an empty database of a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from control_plane.db import migrate as migrations
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate, newest, role_of
from control_plane.db.session import Database, driver
from control_plane.kit.ids import new_id
from tests.control_plane.db.planting import plant, read_tables

FORMER = "0016"
"""Of what runs somewhere: from there on every migration must get along with rows."""


@pytest.fixture
async def empty_name(ground) -> AsyncIterator[str]:
    name = f"empty_{new_id().hex[-12:]}"
    await ground.create(name, source="template1")
    yield name
    await ground.drop(name)


@pytest.fixture
def empty_url(ground, empty_name: str) -> str:
    return ground.url(ground.owner, empty_name)


async def version(ground, name: str) -> list[str]:
    async with ground.connection(None, name) as connection:
        return [row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")]


async def count_tenants(app_url: str) -> int:
    database = Database(app_url, pool_size=1)
    try:
        async with database.session() as session:
            return await (await driver(session)).fetchval("SELECT count(*) FROM tenants")
    finally:
        await database.close()


class TestMigrate:
    async def test_brings_an_empty_database_to_the_newest_revision(
        self, ground, empty_name: str, empty_url: str
    ) -> None:
        assert await migrate(empty_url, grant_to=ground.app) == newest()
        assert await version(ground, empty_name) == [newest()]
        assert await count_tenants(ground.url(ground.app, empty_name)) == 0

    async def test_twice_is_once(self, ground, empty_name: str, empty_url: str) -> None:
        for _ in range(2):
            await migrate(empty_url, grant_to=ground.app)

        assert await version(ground, empty_name) == [newest()]

    async def test_two_at_the_same_moment_are_one(
        self, ground, empty_name: str, empty_url: str
    ) -> None:
        done = await asyncio.gather(*(migrate(empty_url, grant_to=ground.app) for _ in range(2)))

        assert done == [newest()] * 2
        assert await version(ground, empty_name) == [newest()]

    async def test_one_that_fails_leaves_nothing(
        self, ground, empty_name: str, empty_url: str
    ) -> None:
        with pytest.raises(Exception, match="no_such_role"):
            await migrate(empty_url, grant_to="no_such_role")

        async with ground.connection(None, empty_name) as connection:
            assert await connection.fetchval("SELECT to_regclass('tenants')") is None
        assert await migrate(empty_url, grant_to=ground.app) == newest()

    async def test_a_role_may_have_any_name(self, ground, empty_url: str) -> None:
        name = f'Odd "{new_id().hex[-12:]}"; --'
        quoted = '"' + name.replace('"', '""') + '"'
        async with ground.connection(ground.owner, name_in(empty_url)) as connection:
            await connection.execute(f"CREATE ROLE {quoted}")
            await migrate(empty_url, grant_to=name)
            granted = await connection.fetchval(
                "SELECT pg_has_role($1::name, 'botyard_app', 'MEMBER')", name
            )
            await connection.execute(f"DROP ROLE {quoted}")

        assert granted

    async def test_the_first_one_of_an_embedded_server_needs_no_superuser(
        self, tmp_path: Path
    ) -> None:
        postgres = EmbeddedPostgres(tmp_path / "postgres")
        await postgres.start()
        try:
            await migrate(postgres.owner_url, grant_to=role_of(postgres.app_url))
            assert await count_tenants(postgres.app_url) == 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await truncate(postgres.app_url)
        finally:
            await postgres.stop()


async def truncate(app_url: str) -> None:
    database = Database(app_url, pool_size=1)
    try:
        async with database.session() as session:
            await (await driver(session)).execute("TRUNCATE tenants CASCADE")
    finally:
        await database.close()


def name_in(url: str) -> str:
    """The database in an address."""
    return url.partition("@")[2].partition("/")[2].partition("?")[0]


class TestUpgrade:
    async def test_keeps_a_row_of_every_table_of_the_former_schema(
        self, ground, empty_name: str, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upgrade = command.upgrade
        with monkeypatch.context() as patch:
            patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, FORMER))
            await migrate(empty_url, grant_to=ground.app)
        database = Database(ground.url(ground.app, empty_name), pool_size=1)
        try:
            async with ground.connection(None, empty_name) as superuser:
                planted = await plant(database, await read_tables(superuser), 1)

                await migrate(empty_url, grant_to=ground.app)

                for name in planted.rows:
                    kept = await superuser.fetchval(f"SELECT count(*) FROM {name}")  # noqa: S608
                    assert kept >= 1, name
        finally:
            await database.close()


class TestRoleOf:
    def test_is_who_logs_in(self) -> None:
        assert role_of("postgresql+asyncpg://botyard:secret@host/db") == "botyard"
        assert role_of("postgresql+asyncpg:///db") == ""


class TestAudit:
    async def test_entries_of_before_the_chain_get_their_places_in_it(
        self, ground, empty_name: str, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scripts = ScriptDirectory.from_config(Config(str(migrations._INI)))
        former = scripts.get_revision("0005").down_revision
        tenants = sorted((new_id(), new_id()))
        upgrade = command.upgrade
        with monkeypatch.context() as patch:
            patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, former))
            await migrate(empty_url, grant_to=ground.app)
        async with ground.connection(None, empty_name) as superuser:
            for tenant_id in tenants * 2:
                await superuser.execute(
                    "INSERT INTO audit (id, tenant_id, at, actor_kind, action, target_kind, after)"
                    " VALUES ($1, $2, now(), 'system', 'x', 'thing', '{\"a\": 1}')",
                    new_id(),
                    tenant_id,
                )

            await migrate(empty_url, grant_to=ground.app)

            rows = await superuser.fetch("SELECT tenant_id, seq FROM audit ORDER BY tenant_id, id")
            assert [tuple(row) for row in rows] == [(t, n) for t in tenants for n in (1, 2)]
            for tenant_id in tenants:
                found = await superuser.fetchrow("SELECT * FROM audit_verify($1)", tenant_id)
                assert tuple(found) == (2, None)


class TestWaiting:
    async def test_who_waited_before_waits_since_they_last_wrote(
        self, ground, empty_name: str, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upgrade = command.upgrade
        with monkeypatch.context() as patch:
            patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, FORMER))
            await migrate(empty_url, grant_to=ground.app)
        database = Database(ground.url(ground.app, empty_name), pool_size=1)
        try:
            async with ground.connection(None, empty_name) as superuser:
                for number, owner in enumerate(("waiting", "bot"), start=1):
                    planted = await plant(database, await read_tables(superuser), number)
                    await superuser.execute(
                        "UPDATE conversations SET owner = $2 WHERE tenant_id = $1",
                        planted.tenant_id,
                        owner,
                    )

                await migrate(empty_url, grant_to=ground.app)

                rows = await superuser.fetch(
                    "SELECT owner, waiting_since = last_message_at AS since FROM conversations"
                )
                assert {tuple(row) for row in rows} == {("waiting", True), ("bot", None)}
        finally:
            await database.close()
