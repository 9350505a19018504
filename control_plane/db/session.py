"""Transactions that speak for somebody: row-level security reads who from transaction settings.

A session is one transaction. What it changed may be worth a hint to others ("look now"); hints
are collected with `hint` and given to `Database.on_hints` after the commit, never before.
Paths that everything goes through use `Database.plain`: the same transaction without the ORM,
which costs a tenth of it.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg
from prometheus_client import Gauge, Histogram
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

# Connections of one process: ingest writers, workers and requests share them; more would only
# queue inside PostgreSQL.
POOL_SIZE = 16
# Further ones for plain transactions: they are short, so a few serve many.
PLAIN_POOL_SIZE = 8
# And for lone statements, such as taking leases.
LONE_POOL_SIZE = 2
# For lone statements with a durable commit: twice as many as ingest has writers, or writers that
# are busy would look like a shortage of connections.
DURABLE_POOL_SIZE = 4
# Seconds to wait for a free connection before the request fails as unavailable.
POOL_TIMEOUT_S = 10.0
# Seconds that transactions may still take when the pools close.
CLOSE_WITHIN_S = 5.0
# Seconds for a rollback: on a connection whose server was killed no answer ever comes.
GIVE_UP_WITHIN_S = 2.0
# Seconds after which PostgreSQL ends a statement or a transaction left open: a bug, not a load.
STATEMENT_TIMEOUT_S = 30
IDLE_TRANSACTION_TIMEOUT_S = 30
# Seconds after which we stop waiting ourselves: PostgreSQL would have said something by then.
ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5

# Tenants whose ids are remembered as words.
_MAX_WRITTEN = 10_000

# What a database that is away or a connection that was cut looks like.
DATABASE_ERRORS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    SQLAlchemyError,
)

_SERVER_SETTINGS = {
    "application_name": "botyard",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_TIMEOUT_S}s",
}
_POOLS: dict[str, tuple[int, dict[str, str]]] = {
    "plain": (PLAIN_POOL_SIZE, {}),
    "lone": (LONE_POOL_SIZE, {"synchronous_commit": "off"}),
    "durable": (DURABLE_POOL_SIZE, {}),
}

_USED = Gauge("botyard_database_connections_used", "Connections in a transaction.", ["pool"])
_MOST = Gauge("botyard_database_connections_max", "The most of a pool.", ["pool"])
_SECONDS = Histogram(
    "botyard_transaction_seconds",
    "From the beginning of a transaction to its end; nothing else is waited for in one.",
    ["pool"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
_METERS = {pool: (_USED.labels(pool), _SECONDS.labels(pool)) for pool in ("orm", *_POOLS)}

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

# Has a statement speak for the tenants that it is given, as `tenants` writes them. What depends on
# it is read and written after it; anything that did not would see nothing at all.
SPEAKING = "SELECT set_config('botyard.tenants', {tenants}, true) AS heard"


@dataclass(eq=False, kw_only=True)
class Transaction:
    """A transaction of the driver alone; what takes a session for `driver` and `hint` takes it."""

    bind: AsyncEngine
    connection: Any
    info: dict[Any, Any] = field(default_factory=dict)

    async def commit(self) -> None:
        if await self.connection.execute("COMMIT") != "COMMIT":
            # A statement had failed and somebody went on: PostgreSQL kept nothing.
            raise asyncpg.InFailedSQLTransactionError("not committed")


Session = AsyncSession | Transaction


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
            # Parameters are what people said; errors end up in logs.
            hide_parameters=True,
            # The hot path decodes JSON as it likes (see `driver`); models do it in their types.
            json_deserializer=str,
            connect_args={"server_settings": _SERVER_SETTINGS},
        )
        event.listen(self.engine.sync_engine, "checkout", _still_open)
        _MOST.labels("orm").set(pool_size)
        for name, (size, _) in _POOLS.items():
            _MOST.labels(name).set(size)
        self._pools: dict[str, asyncpg.Pool] = {}
        self._at_hand: dict[str, list[Any]] = {kind: [] for kind in _POOLS}
        self._waiting: Counter[str] = Counter()
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def session(self, scope: Scope = NOBODY) -> AsyncIterator[AsyncSession]:
        """One transaction in `scope`: commits at the end, rolls back on an error."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await enter(session, scope)
            with _measured("orm"):
                yield session
                for act in session.info.pop("before_commit", {}):
                    await act(session)
                await session.commit()
        topics: set[str] = session.info.get("hints", set())
        if topics:
            self.on_hints(topics)

    @asynccontextmanager
    async def plain(self, scope: Scope = NOBODY) -> AsyncIterator[Transaction]:
        """The same without the ORM: raw SQL through `driver` only, and nothing before the commit.

        Begins and speaks for `scope` in one round trip.
        """
        pool = await self._pool("plain")
        async with pool.acquire(timeout=POOL_TIMEOUT_S) as connection:
            transaction = Transaction(bind=self.engine, connection=connection)
            try:
                with _measured("plain"):
                    await connection.execute(_begin(scope))
                    yield transaction
                    await transaction.commit()
            except BaseException:
                await _give_up(connection)
                raise
        self.tell(transaction)

    @asynccontextmanager
    async def lone(self, *, durable: bool = False) -> AsyncIterator[Transaction]:
        """For one statement that is a transaction by itself, in one round trip.

        It speaks for nobody, unless it says so itself (`SPEAKING`). Unless it is to be `durable`
        its commit does not wait for the disk: a crash of PostgreSQL may undo it, together with
        whatever came after it.
        """
        kind = "durable" if durable else "lone"
        pool = await self._pool(kind)
        connection = await self._taken(pool, kind)
        try:
            transaction = Transaction(bind=self.engine, connection=connection)
            with _measured(kind):
                yield transaction
        except BaseException:
            await pool.release(connection)
            raise
        if self._pools.get(kind) is pool and not self._waiting[kind]:
            self._at_hand[kind].append(connection)
        else:
            # Somebody waits for one, or for us to end.
            await pool.release(connection)
        self.tell(transaction)

    async def _taken(self, pool: asyncpg.Pool, kind: str) -> Any:
        """A connection for a lone statement: at once, where one is at hand.

        A pool's give and take are turns of the loop, in which everything else comes first, while
        PostgreSQL has nothing to do.
        """
        while self._at_hand[kind]:
            connection = self._at_hand[kind].pop()
            # One that was cut is the pool's again, and says so by an error.
            with contextlib.suppress(asyncpg.InterfaceError):
                if not connection.is_closed():
                    return connection
                await pool.release(connection)
        self._waiting[kind] += 1
        try:
            return await pool.acquire(timeout=POOL_TIMEOUT_S)
        finally:
            self._waiting[kind] -= 1

    def tell(self, transaction: Transaction) -> None:
        """Give on the hints of a transaction that is over; a lone one may have got some since."""
        topics: set[str] = transaction.info.pop("hints", set())
        if topics:
            self.on_hints(topics)

    async def _pool(self, name: str) -> asyncpg.Pool:
        if (open_already := self._pools.get(name)) is not None:
            return open_already
        async with self._opening:
            if name not in self._pools:
                url = make_url(self.url).set(drivername="postgresql")
                size, settings = _POOLS[name]
                self._pools[name] = await asyncpg.create_pool(
                    url.render_as_string(hide_password=False),
                    min_size=0,
                    max_size=size,
                    command_timeout=ANSWER_TIMEOUT_S,
                    server_settings=_SERVER_SETTINGS | settings,
                    reset=_nothing,
                )
            return self._pools[name]

    async def close(self) -> None:
        while self._pools:
            kind, pool = self._pools.popitem()
            try:
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    while self._at_hand[kind]:
                        await pool.release(self._at_hand[kind].pop())
                    await pool.close()
            except TimeoutError:
                pool.terminate()
        await self.engine.dispose()


@contextlib.contextmanager
def _measured(pool: str) -> Iterator[None]:
    used, seconds = _METERS[pool]
    used.inc()
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds.observe(time.perf_counter() - started)
        used.dec()


async def _nothing(_connection: asyncpg.Connection) -> None:
    """Settings end with their transaction, so there is nothing to reset."""


def _still_open(connection: Any, _record: object, _proxy: object) -> None:
    """A connection whose server went away is noticed without asking it."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def _give_up(connection: asyncpg.Connection) -> None:
    """Leave the transaction; a connection on which that cannot be done is of no use any more."""
    try:
        async with asyncio.timeout(GIVE_UP_WITHIN_S):
            await connection.execute("ROLLBACK")
    except (Exception, asyncio.CancelledError):
        # The driver's own errors, too: a server that was killed leaves it in the middle of a word.
        # The pool may have taken one that was lost by then; what went wrong is said by our caller.
        with contextlib.suppress(asyncpg.InterfaceError):
            connection.terminate()


def _begin(scope: Scope) -> str:
    """The values are ids and a word, never what somebody wrote."""
    tenants = written(scope.tenants)
    identity = str(UUID(bytes=scope.identity.bytes)) if scope.identity else ""
    operator = "on" if scope.operator else ""
    return (
        f"BEGIN; SELECT set_config('botyard.tenants', '{tenants}', true), "
        f"set_config('botyard.identity', '{identity}', true), "
        f"set_config('botyard.operator', '{operator}', true)"
    )


def written(tenants: Iterable[UUID]) -> str:
    """Tenants as the setting has them."""
    return ",".join(map(_word, tenants))


@lru_cache(maxsize=_MAX_WRITTEN)
def _word(tenant: UUID) -> str:
    return str(UUID(bytes=tenant.bytes))


async def enter(session: AsyncSession, scope: Scope) -> None:
    """Let the transaction speak for `scope` from here on."""
    connection = await session.connection()
    await connection.execute(
        _ENTER,
        {
            "tenants": written(scope.tenants),
            "identity": str(scope.identity or ""),
            "operator": "on" if scope.operator else "",
        },
    )


async def driver(session: Session) -> Any:
    """The asyncpg connection under a session, in the same transaction.

    For set-based SQL on the hot path, where the ORM costs ten times the statement. JSON columns
    are strings here.
    """
    if isinstance(session, Transaction):
        return session.connection
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection


def before_commit(session: AsyncSession, act: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Do this as the last thing of the transaction, once however often it is asked for.

    For locks that come last in the lock order while their reason comes up early.
    """
    session.info.setdefault("before_commit", {})[act] = None


def hint(session: Session, *topics: str) -> None:
    """After the commit, tell whoever listens to these topics to look."""
    session.info.setdefault("hints", set()).update(topics)
