"""Transactions that speak for somebody: row-level security reads who from transaction settings.

A session is one transaction. What it changed may be worth a hint to others ("look now"); hints
are collected with `hint` and given to `Database.on_hints` after the commit, never before.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

# Connections of one process: ingest writers, workers and requests share them; more would only
# queue inside PostgreSQL.
POOL_SIZE = 16
# Seconds to wait for a free connection before the request fails as unavailable.
POOL_TIMEOUT_S = 10.0
# Seconds after which PostgreSQL ends a statement or a transaction left open: a bug, not a load.
STATEMENT_TIMEOUT_S = 30
IDLE_TRANSACTION_TIMEOUT_S = 30

# What a database that is away or a connection that was cut looks like.
DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError)

_ENTER = text(
    "SELECT set_config('botyard.tenants', :tenants, true), "
    "set_config('botyard.identity', :identity, true), "
    "set_config('botyard.operator', :operator, true)"
)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """For whom a transaction speaks; the default is nobody."""

    tenants: tuple[UUID, ...] = ()
    identity: UUID | None = None
    operator: bool = False


NOBODY = Scope()


class Database:
    """The application's connections; never the owner's."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE) -> None:
        self.url = url
        self.on_hints: Callable[[set[str]], None] = lambda _topics: None
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            # Parameters are what people said; errors end up in logs.
            hide_parameters=True,
            # The hot path decodes JSON as it likes (see `driver`); models do it in their types.
            json_deserializer=str,
            connect_args={
                "server_settings": {
                    "application_name": "botyard",
                    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_TIMEOUT_S}s",
                }
            },
        )

    @asynccontextmanager
    async def session(self, scope: Scope = NOBODY) -> AsyncIterator[AsyncSession]:
        """One transaction in `scope`: commits at the end, rolls back on an error."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await enter(session, scope)
            yield session
            await session.commit()
        topics: set[str] = session.info.get("hints", set())
        if topics:
            self.on_hints(topics)

    async def close(self) -> None:
        await self.engine.dispose()


async def enter(session: AsyncSession, scope: Scope) -> None:
    """Let the transaction speak for `scope` from here on."""
    connection = await session.connection()
    await connection.execute(
        _ENTER,
        {
            "tenants": ",".join(str(tenant) for tenant in scope.tenants),
            "identity": str(scope.identity or ""),
            "operator": "on" if scope.operator else "",
        },
    )


async def driver(session: AsyncSession) -> Any:
    """The asyncpg connection under a session, in the same transaction.

    For set-based SQL on the hot path, where the ORM costs ten times the statement. JSON columns
    are strings here.
    """
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection


def hint(session: AsyncSession, *topics: str) -> None:
    """After the commit, tell whoever listens to these topics to look."""
    session.info.setdefault("hints", set()).update(topics)
