"""`botyard up`: everything on one machine, from an empty folder, with one command."""

import asyncio
import fcntl
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import structlog

from control_plane.access import reseal
from control_plane.app import create_app
from control_plane.db import leases
from control_plane.db.embedded import EmbeddedPostgres
from control_plane.db.migrate import migrate, role_of
from control_plane.db.postgres_process import EmbeddedPostgresError
from control_plane.fleet.provision.base import Provisioner, ProvisionError
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.fleet.upkeep import KEEP_ANSWERED
from control_plane.kit.backoff import full_jitter
from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_token
from control_plane.parts import AtOnce, Background, Parts, Stoppable, build, run_until
from control_plane.seed import FirstRun, first_run
from control_plane.serve import HttpServer, listen, stop_on_signals
from control_plane.settings import Settings

# Time for each agent to finish what it has in hand when everything stops.
AGENT_GRACE = timedelta(seconds=5)
# Newest first, for `up` only; other processes get theirs as a setting.
KEYS_FILE = "secret-keys.json"
# Answers to repeated POSTs are sealed too, and not sealed again: they go by themselves.
KEEP_OLDER_KEYS = (
    f"Keep older keys for {KEEP_ANSWERED.days} days after a new one came first: "
    "kept answers and access tokens need them."
)

log = structlog.get_logger()


class AlreadyUp(Exception):
    """Another `botyard up` uses this data folder."""


class Screen(Protocol):
    """What the person at the terminal sees."""

    def step(self, text: str) -> None: ...

    def ready(self, found: FirstRun | None, url: str) -> None: ...

    def stopping(self) -> None: ...


async def up(settings: Settings, screen: Screen) -> None:
    """Start everything, serve until a signal, stop everything."""
    data_dir = settings.data_dir.absolute()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(data_dir), listen(settings.host, settings.port) as listener:
        # Port 0 means any free one; from here on it is a real one.
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        stopping = asyncio.Event()
        stop_on_signals(stopping)
        screen.step("starting the database")
        async with _database(settings, data_dir) as (postgres, app_url, owner_url):
            screen.step("bringing the schema up to date")
            await migrate(owner_url, grant_to=role_of(app_url))
            parts = build(
                database_url=app_url,
                keys=_keys(settings, data_dir),
                clock=SystemClock(),
                public_url=settings.base_url,
                approval=settings.approval,
                smtp_url=settings.mail_server,
                redis_url=settings.redis_address,
                rates=settings.rates,
                outbound_allow=settings.outbound_networks,
                retention_max_days=settings.retention_max_days,
                media=settings.media_storage,
                sockets=settings.sockets,
                at_once=AtOnce(turns=settings.turns_at_once, lanes=settings.lanes_at_once),
                offline_speech=settings.offline_speech,
            )
            stop_on_signals(stopping, parts.house.draining)
            if postgres is not None:
                # Nobody else can be on our own database: what a killed start held is free again.
                async with parts.house.database.session() as session:
                    await leases.release_all(session)
            try:
                await _serve(settings, data_dir, parts, postgres, listener, stopping, screen)
            finally:
                await parts.close()


async def _serve(
    settings: Settings,
    data_dir: Path,
    parts: Parts,
    postgres: EmbeddedPostgres | None,
    listener: socket.socket,
    stopping: asyncio.Event,
    screen: Screen,
) -> None:
    screen.step("looking for the demo tenant")
    found = await first_run(parts.house, data_dir)
    await _take_newest_key(parts, screen)
    provisioner = ProcessProvisioner(
        data_dir / "instances",
        control_url=settings.control_url or f"http://127.0.0.1:{settings.port}",
        outbound_allow=settings.outbound_allow,
        mint=parts.bootstraps.mint,
        clock=parts.house.clock,
    )
    parts.provisioner = provisioner
    http = HttpServer(
        create_app(parts, web_pages=settings.web_pages),
        listener,
        parts.sockets,
        trusted_proxies=settings.trusted_proxies,
    )
    # The agents end while there is still somebody to tell; the database ends last.
    groups: list[list[Stoppable]] = [
        parts.controllers(provisioner, settings.cell),
        [_Agents(provisioner, screen)],
        [http, parts.realtime],
        [parts.commits, *parts.workers()],
        [Background("bus", parts.bus.run())],
    ]
    if postgres is not None:
        groups[-1].append(Background("postgres", _keep_up(postgres)))
    screen.ready(found, settings.base_url)
    try:
        await run_until(groups, stopping)
    finally:
        await provisioner.close()


class _Agents:
    """The agents of this machine as a part: Ctrl-C stops them, the next start brings them back."""

    name = "agents"

    def __init__(self, provisioner: Provisioner, screen: Screen) -> None:
        self._provisioner = provisioner
        self._screen = screen
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        await self._stopping.wait()
        self._screen.stopping()
        await _stop_agents(self._provisioner)

    def stop(self) -> None:
        self._stopping.set()


async def _stop_agents(provisioner: Provisioner) -> None:
    ids = [item.instance_id async for item in provisioner.inventory() if item.instance_id]
    stops = [provisioner.stop(instance_id, grace=AGENT_GRACE) for instance_id in ids]
    for outcome in await asyncio.gather(*stops, return_exceptions=True):
        if isinstance(outcome, ProvisionError):
            log.warning("agent did not stop", detail=str(outcome))


async def _keep_up(postgres: EmbeddedPostgres) -> None:
    """Start the database again whenever it ends; the connections find it again by themselves."""
    while True:
        code = await postgres.wait()
        log.error("the database ended", exit_code=code)
        for failures in itertools.count():
            pause = full_jitter(failures, base=timedelta(seconds=0.2), cap=timedelta(seconds=10))
            await asyncio.sleep(pause.total_seconds())
            try:
                await postgres.start()
            except EmbeddedPostgresError as error:
                # What is left of the killed one may hold its folder for a moment.
                log.error("the database did not start", detail=str(error)[:512])
            else:
                break


@asynccontextmanager
async def _database(
    settings: Settings, data_dir: Path
) -> AsyncIterator[tuple[EmbeddedPostgres | None, str, str]]:
    """(the embedded server if it is ours, the application's URL, the owner's URL)."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        owner = settings.owner_database_url
        yield None, url, owner.get_secret_value() if owner else url
        return
    postgres = EmbeddedPostgres(data_dir / "postgres")
    await postgres.start()
    try:
        yield postgres, postgres.app_url, postgres.owner_url
    finally:
        await postgres.stop()


def _keys(settings: Settings, data_dir: Path) -> Keyring:
    """The configured keys, or ones made once and kept beside the data that they open."""
    if settings.secret_keys:
        return Keyring([key.get_secret_value() for key in settings.secret_keys])
    if not (data_dir / KEYS_FILE).exists():
        _write_keys(data_dir, [new_token()])
    return Keyring(_read_keys(data_dir))


def add_key(data_dir: Path) -> int:
    """A new newest key for the next start; how many there are now."""
    keys = [new_token(), *_read_keys(data_dir)]
    _write_keys(data_dir, keys)
    return len(keys)


def _read_keys(data_dir: Path) -> list[str]:
    keys: list[str] = json.loads((data_dir / KEYS_FILE).read_text(encoding="utf-8"))
    return keys


def _write_keys(data_dir: Path, keys: list[str]) -> None:
    """Whole or not at all: without these the data cannot be opened."""
    partial = (data_dir / KEYS_FILE).with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(keys, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(data_dir / KEYS_FILE)


async def _take_newest_key(parts: Parts, screen: Screen) -> None:
    """Seal everything by the newest key, in the background, when there is an older one."""
    database, keys = parts.house.database, parts.house.keys
    if len(keys) == 1:
        return
    found = await reseal.census(database, keys)
    if found.older:
        screen.step(f"sealing {found.older} of {found.total} secrets by the newest key")
        await reseal.call_all(database)
    else:
        screen.step(f"no secret needs an older key any more. {KEEP_OLDER_KEYS}")


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """One `up` per data folder; the kernel lets go of the lock whatever kills us."""
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyUp(f"another botyard uses {data_dir}") from None
    try:
        yield
    finally:
        os.close(descriptor)
