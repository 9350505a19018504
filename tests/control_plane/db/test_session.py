"""Transactions that speak for somebody, on a real database."""

import asyncio
import contextlib
from datetime import UTC, datetime

import asyncpg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import select

from control_plane.access.models import AuditEntry
from control_plane.db import session as module
from control_plane.db.session import Database, Scope, driver, enter, hint
from control_plane.kit.ids import new_id

SETTINGS = """
SELECT current_tenants(), current_identity(), speaks_as_operator()
"""


async def insert_identity(database: Database, *, fails: bool = False) -> None:
    async with database.session() as session:
        await (await driver(session)).execute(
            "INSERT INTO identities (id, email, password_hash, created_at)"
            " VALUES ($1, 'a@example.com', '', now())",
            new_id(),
        )
        hint(session, "identities")
        if fails:
            raise ZeroDivisionError


async def insert_plainly(database: Database, error: type[BaseException] | None = None) -> None:
    async with database.plain() as session:
        await (await driver(session)).execute(
            "INSERT INTO identities (id, email, password_hash, created_at)"
            " VALUES ($1, 'a@example.com', '', now())",
            new_id(),
        )
        hint(session, "identities")
        if error is not None:
            raise error


async def go_on_after_an_error(database: Database) -> None:
    async with database.plain() as session:
        hint(session, "nothing")
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await (await driver(session)).execute("SELECT 1 / 0")


class TestPlain:
    async def test_commits_at_the_end_and_then_hints(
        self, database: Database, superuser: asyncpg.Connection
    ) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        await insert_plainly(database)

        assert await superuser.fetchval("SELECT count(*) FROM identities") == 1
        assert told == [{"identities"}]

    @pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
    async def test_an_error_leaves_nothing_and_tells_nobody(
        self, database: Database, superuser: asyncpg.Connection, error: type[BaseException]
    ) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        with pytest.raises(error):
            await insert_plainly(database, error)

        assert await superuser.fetchval("SELECT count(*) FROM identities") == 0
        assert told == []

    async def test_speaks_for_its_scope_and_for_nobody_afterwards(self, database: Database) -> None:
        scope = Scope(tenants=(new_id(), new_id()), identity=new_id(), operator=True)
        async with database.plain(scope) as session:
            row = await (await driver(session)).fetchrow(SETTINGS)
            first = await (await driver(session)).fetchval("SELECT pg_backend_pid()")
        async with database.plain() as session:
            after = await (await driver(session)).fetchrow(SETTINGS)
            second = await (await driver(session)).fetchval("SELECT pg_backend_pid()")

        assert tuple(row) == (list(scope.tenants), scope.identity, True)
        assert tuple(after) == (None, None, False)
        assert first == second

    async def test_what_postgresql_did_not_keep_is_no_commit(self, database: Database) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await go_on_after_an_error(database)

        assert told == []

    @pytest.mark.parametrize("way", ["plain", "session", "lone"])
    async def test_a_connection_that_the_server_cut_is_not_used_again(
        self, database: Database, superuser: asyncpg.Connection, way: str
    ) -> None:
        pids = []
        for _ in range(2):
            async with getattr(database, way)() as session:
                pids.append(await (await driver(session)).fetchval("SELECT pg_backend_pid()"))
            await superuser.execute("SELECT pg_terminate_backend($1, 5000)", pids[-1])
            # The end of the connection is read before the answer to a question that comes later.
            await superuser.execute("SELECT 1")

        assert pids[0] != pids[1]


class TestLone:
    @pytest.mark.parametrize("durable", [True, False])
    async def test_the_next_statement_goes_out_before_anything_else_has_its_turn(
        self, database: Database, durable: bool
    ) -> None:
        async with database.lone(durable=durable):
            pass
        turns: list[str] = []
        asyncio.get_running_loop().call_soon(turns.append, "somebody else's")
        async with database.lone(durable=durable):
            assert turns == []

    @pytest.mark.parametrize(("durable", "commit"), [(True, "on"), (False, "off")])
    async def test_waits_for_the_disk_where_it_has_to(
        self, database: Database, durable: bool, commit: str
    ) -> None:
        for _ in range(2):
            async with database.lone(durable=durable) as session:
                connection = await driver(session)
                assert await connection.fetchval("SHOW synchronous_commit") == commit

    async def test_an_error_tells_nobody_and_the_next_goes_on(self, database: Database) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        for fails in (True, False):
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                async with database.lone() as session:
                    hint(session, "fails" if fails else "goes on")
                    await (await driver(session)).execute(f"SELECT 1 / {0 if fails else 1}")

        assert told == [{"goes on"}]

    async def test_who_waits_for_a_connection_gets_the_next_that_is_free(
        self, database: Database
    ) -> None:
        async def speak() -> int:
            async with database.lone() as session:
                found: int = await (await driver(session)).fetchval("SELECT 1 + 1")
                return found

        many = 3 * module.LONE_POOL_SIZE
        async with asyncio.timeout(module.POOL_TIMEOUT_S):
            for _ in range(2):
                assert await asyncio.gather(*(speak() for _ in range(many))) == [2] * many

    @pytest.mark.parametrize("under_way", [True, False])
    async def test_what_is_at_hand_keeps_nobody_from_closing(
        self, app_url: str, monkeypatch: pytest.MonkeyPatch, under_way: bool
    ) -> None:
        monkeypatch.setattr(module, "CLOSE_WITHIN_S", 600)
        database = Database(app_url)
        async with database.lone(durable=True):
            closing = asyncio.create_task(database.close())
            if under_way:
                # The pool's end has begun, and waits for what is in use.
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await closing


class TestSession:
    async def test_commits_at_the_end_and_then_hints(
        self, database: Database, superuser: asyncpg.Connection
    ) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        await insert_identity(database)

        assert await superuser.fetchval("SELECT count(*) FROM identities") == 1
        assert told == [{"identities"}]

    async def test_an_error_leaves_nothing_and_tells_nobody(
        self, database: Database, superuser: asyncpg.Connection
    ) -> None:
        told: list[set[str]] = []
        database.on_hints = told.append
        with pytest.raises(ZeroDivisionError):
            await insert_identity(database, fails=True)

        assert await superuser.fetchval("SELECT count(*) FROM identities") == 0
        assert told == []

    async def test_speaks_for_nobody_unless_told(self, database: Database) -> None:
        async with database.session() as session:
            row = await (await driver(session)).fetchrow(SETTINGS)

        assert tuple(row) == (None, None, False)

    async def test_speaks_for_its_scope(self, database: Database) -> None:
        scope = Scope(tenants=(new_id(), new_id()), identity=new_id(), operator=True)
        async with database.session(scope) as session:
            row = await (await driver(session)).fetchrow(SETTINGS)

        assert tuple(row) == (list(scope.tenants), scope.identity, True)

    async def test_entering_another_scope_leaves_the_first(self, database: Database) -> None:
        async with database.session(Scope(tenants=(new_id(),), operator=True)) as session:
            await enter(session, Scope(identity=(identity := new_id())))
            row = await (await driver(session)).fetchrow(SETTINGS)

        assert tuple(row) == (None, identity, False)

    async def test_no_connection_speaks_for_the_one_before(self, app_url: str) -> None:
        database = Database(app_url, pool_size=1)
        try:
            async with database.session(Scope(tenants=(new_id(),), operator=True)):
                pass
            async with database.engine.connect() as connection:
                row = (await connection.exec_driver_sql(SETTINGS)).one()
        finally:
            await database.close()

        assert tuple(row) == (None, None, False)

    async def test_waits_for_a_connection_but_not_for_ever(
        self, app_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "POOL_TIMEOUT_S", 0.01)
        database = Database(app_url, pool_size=1)
        try:
            async with database.session():
                with pytest.raises(PoolTimeout):
                    await insert_identity(database)
        finally:
            await database.close()

    async def test_a_statement_and_an_idle_transaction_have_an_end(
        self, database: Database
    ) -> None:
        async with database.session() as session:
            connection = await driver(session)
            limits = [
                await connection.fetchval(f"SHOW {name}")
                for name in ("statement_timeout", "idle_in_transaction_session_timeout")
            ]

        assert limits == ["30s", "30s"]


class TestJson:
    async def test_models_have_values_and_the_driver_has_text(self, database: Database) -> None:
        tenant = new_id()
        entry = AuditEntry(
            id=new_id(),
            tenant_id=tenant,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            actor_kind="system",
            action="test",
            target_kind="test",
            after={"name": "茶馆", "list": [1, None]},
        )
        async with database.session(Scope(tenants=(tenant,))) as session:
            session.add(entry)
        async with database.session(Scope(tenants=(tenant,))) as session:
            read = (await session.exec(select(AuditEntry))).one()
            text = await (await driver(session)).fetchval("SELECT after FROM audit")
            absent = await (await driver(session)).fetchval("SELECT before IS NULL FROM audit")

        assert read.after == {"name": "茶馆", "list": [1, None]}
        assert read.before is None
        assert absent
        assert text == '{"list": [1, null], "name": "茶馆"}'


class TestMeasures:
    async def test_count_connections_while_they_are_used_and_the_time(self, database) -> None:
        def figure(name: str, pool: str) -> float:
            return REGISTRY.get_sample_value(f"botyard_{name}", {"pool": pool}) or 0.0

        for pool, begin in {
            "orm": database.session,
            "plain": database.plain,
            "lone": database.lone,
        }.items():
            before = figure("transaction_seconds_count", pool)
            with contextlib.suppress(ZeroDivisionError):
                async with begin():
                    assert figure("database_connections_used", pool) == 1
                    assert figure("database_connections_max", pool) > 0
                    raise ZeroDivisionError
            assert figure("database_connections_used", pool) == 0
            assert figure("transaction_seconds_count", pool) == before + 1
