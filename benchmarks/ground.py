"""What the message figures stand on: a database that syncs, tenants with an agent, processes.

Everything runs on this machine, product and peer in turns, so that a busy hour hits both alike.
"""

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil
from sqlalchemy.engine import make_url

from control_plane.channels import service as channels
from control_plane.channels.schemas import ChannelIn
from control_plane.db.embedded import EmbeddedPostgres, EmbeddedSettings
from control_plane.db.migrate import migrate, role_of
from control_plane.db.session import Scope, driver, enter
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.instances import service as instances
from control_plane.instances.sessions import activate
from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from control_plane.tenants import service as tenants
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import BootstrapRequest

ROOT = Path(__file__).parents[1]
# `SCALE=full`: more rounds of what takes long.
FULL = os.environ.get("SCALE") == "full"
# Product and peer take turns; the medians of this many rounds count.
ROUNDS = 5
# A start that takes longer is broken, not slow.
PATIENCE_S = 60.0
KEY = "the-key-of-these-benchmarks-has-enough-characters"
# Far above what a run sends: a tenant over its quota would hand over instead of answer.
_NO_QUOTA = '{"messages_month": 1000000000}'


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One tenant's agent, after its bootstrap, and its one channel."""

    tenant_id: UUID
    instance_id: UUID
    session_id: UUID
    secret: str = field(repr=False)
    channel_id: UUID
    token: str = field(repr=False)


@dataclass(kw_only=True)
class Process:
    """A child process and what it has cost so far."""

    pid: int
    port: int

    @property
    def cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@dataclass(kw_only=True)
class Ground:
    """The database and the parts of this process on it."""

    folder: Path
    parts: Parts
    app_url: str = field(repr=False)
    superuser_url: str = field(repr=False)

    async def connect(self) -> asyncpg.Connection:
        """A bare connection that no wall stops, for peers."""
        return await asyncpg.connect(self.superuser_url)

    async def tenant(self, *, endpoint: str = "http://127.0.0.1:9", **channel: Any) -> Agent:
        """An active tenant with an instance, a channel and an active agent session."""
        house, now = self.parts.house, self.parts.house.clock.now()
        body = ChannelIn(**({"kind": "webchat", "name": "Site"} | channel))
        async with house.database.session() as session:
            made = await tenants.create(
                session,
                company="Tea House",
                email=f"{new_id()}@example.com",
                password_hash="-",
                now=now,
                plan="business",
            )
            await enter(session, Scope(tenants=(made.tenant_id,)))
            await tenants.move(session, made.tenant_id, "approve", actor=None, now=now)
            bot = await instances.create(
                session, tenant_id=made.tenant_id, name="Bot", actor=None, now=now
            )
            account = await channels.create(
                session, house.keys, instance_id=bot.id, body=body, actor=None, now=now
            )
            await (await driver(session)).execute(
                "UPDATE tenants SET quota_overrides = $2 WHERE id = $1", made.tenant_id, _NO_QUOTA
            )
        session_id, secret = await self._bootstrap(made.tenant_id, bot.id, endpoint)
        return Agent(
            tenant_id=made.tenant_id,
            instance_id=bot.id,
            session_id=session_id,
            secret=secret,
            channel_id=account.id,
            token=account.public_token,
        )

    def ticket(self, tenant_id: UUID, instance_id: UUID) -> str:
        """The single-use token of an agent's start."""
        spec = InstanceSpec(instance_id=instance_id, tenant_id=tenant_id, generation=1)
        return self.parts.bootstraps.mint(spec)

    async def activate(self, agent: Agent, session_id: UUID) -> None:
        """Let another session act for the agent's instance, as the fleet does."""
        async with self.parts.house.database.session(Scope(tenants=(agent.tenant_id,))) as session:
            await activate(session, instance_id=agent.instance_id, session_id=session_id)

    async def _bootstrap(
        self, tenant_id: UUID, instance_id: UUID, endpoint: str
    ) -> tuple[UUID, str]:
        request = BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="benchmark",
            endpoint=endpoint,
            journal_id=new_id(),
            generation=1,
        )
        bootstraps = self.parts.bootstraps
        given = await bootstraps.exchange(instance_id, self.ticket(tenant_id, instance_id), request)
        async with self.parts.house.database.session(Scope(tenants=(tenant_id,))) as session:
            await activate(session, instance_id=instance_id, session_id=given.session_id)
        return given.session_id, given.webhook_secrets[0]

    @contextlib.asynccontextmanager
    async def product(self, command: str, **settings: str) -> AsyncIterator[Process]:
        """A process of the product, such as `api`."""
        port = free_port()
        given = {
            "DATABASE_URL": self.app_url,
            "SECRET_KEYS": KEY,
            "PORT": str(port),
            "PROBE_PORT": str(port),
            "DATA_DIR": str(self.folder / "data"),
            "MEDIA_URL": "",
            "RATES__CALLBACKS": "1000000/second",
        } | settings
        environment = {f"BOTYARD_{name}": value for name, value in given.items() if value}
        run = "from control_plane.cli import main; main()"
        async with spawned(["-c", run, command], port, environment) as process:
            yield process


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """A fresh database on the disk, migrated, that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="botyard-bench-") as made:
        async with ground_in(Path(made)) as base:
            yield base


@contextlib.asynccontextmanager
async def ground_in(place: Path, settings: EmbeddedSettings | None = None) -> AsyncIterator[Ground]:
    """The database of a folder, made or found there, migrated, and stopped with the block."""
    postgres = EmbeddedPostgres(place / "postgres", settings=settings)
    server = await postgres.start()
    try:
        await migrate(postgres.owner_url, grant_to=role_of(postgres.app_url))
        parts = build(
            database_url=postgres.app_url,
            keys=Keyring([KEY]),
            clock=SystemClock(),
            public_url="http://127.0.0.1",
            media=folder(place / "media"),
        )
        superuser = make_url(server.url("postgres", server.superuser_password, "botyard"))
        try:
            yield Ground(
                folder=place,
                parts=parts,
                app_url=postgres.app_url,
                superuser_url=superuser.set(drivername="postgresql").render_as_string(
                    hide_password=False
                ),
            )
        finally:
            await parts.close()
    finally:
        await postgres.stop()


@contextlib.asynccontextmanager
async def spawned(
    command: Sequence[str], port: int, environment: dict[str, str] | None = None
) -> AsyncIterator[Process]:
    """A Python process that serves `port`, from its first accepted connection to its end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | (environment or {}),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None if os.environ.get("BENCH_SHOW") else asyncio.subprocess.DEVNULL,
    )
    try:
        await _serves(child, port)
        yield Process(pid=child.pid, port=port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), 20)
        except TimeoutError:
            child.kill()
            await child.wait()


async def _serves(child: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if child.returncode is not None:
                raise RuntimeError(f"the process ended with {child.returncode}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def figure(
    values: Sequence[float], beside: Sequence[float], *, unit: str, peer: str, goal: str
) -> dict[str, object]:
    """Medians, and the median of the rounds' ratios: rounds differ more than their halves do."""
    ratio = statistics.median(a / b for a, b in zip(values, beside, strict=True))
    return {
        "value": round(statistics.median(values), 3),
        "unit": unit,
        "beside": peer,
        "beside_value": round(statistics.median(beside), 3),
        "ratio": round(ratio, 3),
        "goal": goal,
    }
