"""What tests stand on: a real PostgreSQL, a clock that they set, and the application on both.

The server is started for the first test that asks for it: the one at `BOTYARD_TEST_DATABASE_URL`
(a superuser's address), else the embedded one, else a container. Each test gets a database of its
own, copied from a migrated template.
"""

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import asyncpg
import httpx2
import psutil
import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.engine import URL, make_url
from sqlmodel import select

from control_plane.access import passwords, tokens
from control_plane.access.http import House
from control_plane.access.limits import Rates
from control_plane.access.permissions import Role
from control_plane.access.service import create_identity
from control_plane.app import Application, create_app
from control_plane.db import embedded
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate
from control_plane.db.postgres_process import BinariesMissingError, locate_binaries
from control_plane.db.session import Database, Scope
from control_plane.kit import tracing
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id, new_token
from control_plane.media.storage import Storage, folder
from control_plane.parts import Parts, build
from control_plane.tenants import service as tenants
from control_plane.tenants.models import Member, TenantState
from tests.cluster.api import server_of
from tests.cluster.fixtures import cluster, cluster_prefix, nodes  # noqa: F401
from tests.cluster.handle import GIVEN
from tests.redis_server import RedisServer

PUBLIC_URL = "http://botyard.test"
PASSWORD = "correct horse battery staple"
LOOPBACK = {"localhost", "127.0.0.1", "::1", "", None}
"""Where a test may connect to."""

OURS = "botyard-tests-"
"""How folders of servers begin; then comes whose they are, as a process's number."""

MEMORY_BYTES = 1024 * 1024 * 1024
"""What must be free in memory to put a server there; one takes about a tenth."""

GROUPS = r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'botyard\_%' AND NOT rolcanlogin"
"""What an earlier migration on the same server left; a first one makes them itself."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A set has another order in each process, and workers must agree on the tests."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        if isinstance(mark.args[-1], set | frozenset):
            pytest.fail(f"{metafunc.definition.nodeid}: parametrized by a set; sort it", False)


def pytest_configure() -> None:
    if url := os.environ.get("BOTYARD_TEST_DATABASE_URL"):
        LOOPBACK.add(make_url(url).host)
    if kubeconfig := os.environ.get(GIVEN):
        LOOPBACK.add(httpx2.URL(server_of(Path(kubeconfig))).host)
    sys.addaudithook(_stay_here)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what failed at once: a run that is ended from outside prints no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)", flush=True)


def _stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in {"socket.connect", "socket.sendto", "socket.getaddrinfo"}:
        return
    place = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = place[0] if isinstance(place, tuple) else place if event.endswith("info") else None
    if isinstance(host, bytes):
        host = host.decode()
    if host not in LOOPBACK:
        raise RuntimeError(f"tests connect to this machine only, not to {host}")


# --- time and secrets ------------------------------------------------------------------------


class SetClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def keys() -> Keyring:
    return Keyring(["the-key-of-these-tests-has-enough-characters"])


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost 12 takes a quarter of a second, which nobody attacks here."""
    monkeypatch.setattr(passwords, "COST", 4)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """This process's spans go here."""
    exporter = InMemorySpanExporter()
    tracing.collect("test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing.collect("test", None)


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What the test configures goes with it: a logger would keep its first configuration."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


# --- the server ------------------------------------------------------------------------------


class Ground:
    """A server with a migrated template, and an owner and an application role of our own."""

    def __init__(self, superuser_url: str) -> None:
        self._superuser = make_url(superuser_url)
        suffix = new_id().hex[-12:]
        self.owner = f"owner_{suffix}"
        self.app = f"app_{suffix}"
        self._template = f"template_{suffix}"
        self._password = new_token()

    def url(self, role: str | None, database: str) -> str:
        """The address of a database; the superuser's when no role is given."""
        url: URL = self._superuser.set(drivername="postgresql+asyncpg", database=database)
        if role is not None:
            url = url.set(username=role, password=self._password)
        return url.render_as_string(hide_password=False)

    async def prepare(self) -> None:
        """Make the roles and the template."""
        async with self.connection(None) as connection:
            # Other test processes may share the server, and roles are everybody's.
            await connection.execute("SELECT pg_advisory_lock(7)")
            for role, right in ((self.owner, "CREATEROLE"), (self.app, "NOCREATEROLE")):
                await connection.execute(f"CREATE ROLE {role} LOGIN {right} {self._secret}")
            for group in await connection.fetch(GROUPS):
                await connection.execute(f"GRANT {group[0]} TO {self.owner} WITH ADMIN OPTION")
            await self.create(self._template, source="template1")
            await migrate(self.url(self.owner, self._template), grant_to=self.app)

    async def create(self, name: str, *, source: str | None = None) -> None:
        """A new database, a copy of the template by default."""
        async with self.connection(None) as connection:
            await connection.execute(
                f"CREATE DATABASE {name} TEMPLATE {source or self._template} OWNER {self.owner}"
            )

    async def drop(self, name: str) -> None:
        async with self.connection(None) as connection:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def clear(self) -> None:
        """Leave a server that is not ours as it was, but for the two group roles."""
        await self.drop(self._template)
        async with self.connection(None) as connection:
            await connection.execute(f"DROP OWNED BY {self.owner}")
            await connection.execute(f"DROP ROLE {self.app}, {self.owner}")

    @asynccontextmanager
    async def connection(
        self, role: str | None, database: str = "postgres"
    ) -> AsyncIterator[asyncpg.Connection]:
        connection = await connect(self.url(role, database))
        try:
            yield connection
        finally:
            await connection.close()

    @property
    def _secret(self) -> str:
        return f"PASSWORD '{self._password}'"


async def connect(url: str) -> asyncpg.Connection:
    """A connection of the driver to an address of SQLAlchemy."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return await asyncpg.connect(plain)


@contextmanager
def _loop_of_its_own() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines on a thread that lives as long as the server which it starts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="postgres")
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _superuser_url(call: Callable[..., Any]) -> Iterator[str]:
    if given := os.environ.get("BOTYARD_TEST_DATABASE_URL"):
        yield given
        return
    try:
        locate_binaries(None)
    except BinariesMissingError:
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("pgvector/pgvector:pg18", driver="asyncpg") as container:
            yield container.get_connection_url()
        return
    with tempfile.TemporaryDirectory(prefix=f"{OURS}{os.getpid()}-", dir=_fast_folder()) as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        # Nothing here needs to outlive the machine, and a database is made ten times as fast.
        with mock.patch.dict(embedded.SERVER_SETTINGS, fsync="off"):
            server = call(postgres.start())
        try:
            yield server.url("postgres", server.superuser_password, "postgres")
        finally:
            call(postgres.stop())


def _fast_folder() -> Path | None:
    """Memory, where there is plenty; a container's few megabytes would not do."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
    if not os.access(memory, os.W_OK):
        return None
    _sweep(memory)
    return memory if shutil.disk_usage(memory).free > MEMORY_BYTES else None


def _sweep(folder: Path) -> None:
    """Runs that were killed took nothing away; in memory that slows the machine in the end."""
    for left in folder.glob(f"{OURS}*"):
        owner = left.name.removeprefix(OURS).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with _loop_of_its_own() as call, _superuser_url(call) as url:
        ground = Ground(url)
        call(ground.prepare())
        yield ground
        call(ground.clear())


@pytest.fixture
async def database_name(ground: Ground) -> AsyncIterator[str]:
    """A database of this test's own."""
    name = f"test_{new_id().hex[-12:]}"
    await ground.create(name)
    yield name
    await ground.drop(name)


@pytest.fixture
def owner_url(ground: Ground, database_name: str) -> str:
    return ground.url(ground.owner, database_name)


@pytest.fixture
def app_url(ground: Ground, database_name: str) -> str:
    return ground.url(ground.app, database_name)


@pytest.fixture
async def database(app_url: str) -> AsyncIterator[Database]:
    """The test's database, as the application connects to it."""
    database = Database(app_url)
    yield database
    await database.close()


@pytest.fixture
async def superuser(ground: Ground, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that no wall stops: to look behind them."""
    async with ground.connection(None, database_name) as connection:
        yield connection


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A real Redis that the test may kill."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed, so nothing shows that Redis works")
    with RedisServer.running(program) as server:
        yield server


# --- the application -------------------------------------------------------------------------


@pytest.fixture
def rates() -> Rates:
    """The rate limits; a test that is about them has its own."""
    return Rates()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Where media are kept."""
    return folder(tmp_path / "media")


@pytest.fixture
async def parts(
    app_url: str, keys: Keyring, clock: SetClock, rates: Rates, storage: Storage
) -> AsyncIterator[Parts]:
    """All parts of a process, wired and not running."""
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        media=storage,
    )
    yield parts
    await parts.close()


@pytest.fixture
def house(parts: Parts) -> House:
    return parts.house


@pytest.fixture
def app(parts: Parts, tmp_path: Path) -> Application:
    return create_app(parts, web_pages=tmp_path)


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        yield client


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who is signed in; paths are below /api/v1."""

    client: httpx2.AsyncClient = field(repr=False)
    identity_id: UUID
    email: str
    tenant_id: UUID | None
    member_id: UUID | None
    family_id: UUID
    token: str = field(repr=False)

    async def call(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        return await self.call("POST", path, json=json, **more)

    async def patch(self, path: str, json: Any) -> httpx2.Response:
        return await self.call("PATCH", path, json=json)

    async def delete(self, path: str) -> httpx2.Response:
        return await self.call("DELETE", path)


class People:
    """Makes tenants and their people, already signed in. Everybody's password is PASSWORD."""

    def __init__(self, house: House, client: httpx2.AsyncClient) -> None:
        self._house = house
        self._client = client
        self._made = 0

    async def owner(
        self, company: str = "Tea House", *, state: TenantState = TenantState.ACTIVE
    ) -> Person:
        """The owner of a new tenant in that state."""
        now = self._house.clock.now()
        email = self._email("owner")
        password_hash = await passwords.hash_password(PASSWORD)
        async with self._house.database.session() as session:
            made = await tenants.create(
                session, company=company, email=email, password_hash=password_hash, now=now
            )
            tenant = await tenants.get(session, made.tenant_id)
            tenant.state, tenant.plan = state, "business"
            session.add(tenant)
        return await self._sign_in(made.identity_id, email, made.tenant_id)

    async def member(self, tenant_id: UUID | None, role: Role) -> Person:
        """Somebody else of a tenant."""
        assert tenant_id is not None
        email = self._email(role)
        identity_id = await self._identity(email)
        async with self._house.database.session(Scope(tenants=(tenant_id,))) as session:
            session.add(
                Member(
                    id=new_id(),
                    tenant_id=tenant_id,
                    identity_id=identity_id,
                    role=role,
                    name=f"{role.title()} Lin",
                    created_at=self._house.clock.now(),
                )
            )
        return await self._sign_in(identity_id, email, tenant_id)

    async def operator(self) -> Person:
        """Somebody who runs the platform."""
        email = self._email("operator")
        identity_id = await self._identity(email, operator=True)
        return await self._sign_in(identity_id, email, None)

    def _email(self, who: str) -> str:
        self._made += 1
        return f"{who}{self._made}@example.com"

    async def _identity(self, email: str, *, operator: bool = False) -> UUID:
        password_hash = await passwords.hash_password(PASSWORD)
        async with self._house.database.session() as session:
            identity = await create_identity(
                session,
                email=email,
                password_hash=password_hash,
                operator=operator,
                now=self._house.clock.now(),
            )
        return identity.id

    async def _sign_in(self, identity_id: UUID, email: str, tenant_id: UUID | None) -> Person:
        now, family = self._house.clock.now(), new_id()
        async with self._house.database.session() as session:
            await tokens.issue_refresh(
                session, identity_id=identity_id, tenant_id=tenant_id, family_id=family, now=now
            )
        scope = Scope(tenants=(tenant_id,) if tenant_id else ())
        async with self._house.database.session(scope) as session:
            found = await session.exec(select(Member.id).where(Member.identity_id == identity_id))
            member_id = found.one_or_none()
        token = tokens.make_access(
            self._house.keys,
            identity_id=identity_id,
            tenant_id=tenant_id,
            family_id=family,
            now=now,
        )
        return Person(
            client=self._client,
            identity_id=identity_id,
            email=email,
            tenant_id=tenant_id,
            member_id=member_id,
            family_id=family,
            token=token,
        )


@pytest.fixture
def people(house: House, client: httpx2.AsyncClient) -> People:
    return People(house, client)


@pytest.fixture
async def writing(parts: Parts) -> AsyncIterator[None]:
    """The writers run, as in every process that serves."""
    running = asyncio.create_task(parts.commits.run())
    yield
    parts.commits.stop()
    await running
