"""`botyard doctor`: look at a set-up and say in plain words what is wrong and what to do."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from control_plane.db import postgres_process
from control_plane.settings import Settings

MIN_PYTHON = (3, 11)
MIN_NODE = 20
# Database, logs and media of a small set-up, with room for write-ahead log.
MIN_FREE_BYTES = 1024**3
# Signatures are refused beyond five minutes; people notice earlier.
MAX_CLOCK_OFF_S = 60
# Seconds to wait for whoever holds the database or the port.
_PATIENCE_S = 3.0
# Earlier than this a clock was never set.
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at; `advice` only matters when it is not `ok`."""

    about: str
    ok: bool
    says: str
    advice: str = ""


Check = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> list[Finding]:
    """Everything that can be wrong, in the order in which it would be noticed."""
    checks: list[Check] = [_python, _node, _pages, _disk, _folder, _port, _clock, _database]
    return [await check(settings) for check in checks]


async def _python(_settings: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        about="Python",
        ok=sys.version_info >= MIN_PYTHON,
        says=version,
        advice="Install Python 3.11 or newer and run make up again.",
    )


async def _node(_settings: Settings) -> Finding:
    advice = f"Install Node {MIN_NODE} or newer; it builds the web pages."
    path = shutil.which("node")
    if path is None:
        return Finding(about="Node", ok=False, says="not found", advice=advice)
    try:
        said = await asyncio.to_thread(
            subprocess.run, [path, "--version"], capture_output=True, text=True, check=False
        )
        version = said.stdout.strip()
    except OSError:  # a program of another machine, or a script without its interpreter
        version = ""
    major = version.removeprefix("v").partition(".")[0]
    new_enough = major.isdigit() and int(major) >= MIN_NODE
    return Finding(about="Node", ok=new_enough, says=version or "does not start", advice=advice)


async def _pages(settings: Settings) -> Finding:
    built = all((settings.web_pages / name / "index.html").is_file() for name in ("app", "webchat"))
    return Finding(
        about="Web pages",
        ok=built,
        says="built" if built else f"not built in {settings.web_pages}",
        advice="Run make up, which builds them.",
    )


async def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_existing(settings.data_dir.absolute())).free
    return Finding(
        about="Disk",
        ok=free >= MIN_FREE_BYTES,
        says=f"{free / 1024**3:.1f} GiB free",
        advice="Free some space, or choose another folder with --data-dir.",
    )


async def _folder(settings: Settings) -> Finding:
    data_dir = settings.data_dir.absolute()
    parent = _existing(data_dir)
    try:
        probe = parent / f".botyard-doctor-{id(settings)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(
            about="Data folder",
            ok=False,
            says=f"{parent}: {error.strerror}",
            advice="Choose a folder that you may write to with --data-dir.",
        )
    return Finding(about="Data folder", ok=True, says=str(data_dir))


async def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return Finding(
                about="Port",
                ok=False,
                says=f"{settings.host}:{settings.port}: {error.strerror}",
                advice="Stop whoever uses it (it may be Botyard itself), or choose another --port.",
            )
    return Finding(about="Port", ok=True, says=f"{settings.host}:{settings.port} is free")


async def _clock(settings: Settings) -> Finding:
    """Against the file system and the database; a machine alone cannot know better."""
    now = datetime.now(UTC)
    off = _EPOCH - now
    newest = _newest(settings.data_dir.absolute())
    if newest is not None:
        off = max(off, newest - now)
    wrong = off.total_seconds() > MAX_CLOCK_OFF_S
    return Finding(
        about="Clock",
        ok=not wrong,
        says=f"{now:%Y-%m-%d %H:%M:%S} UTC" + (f", behind by {off}" if wrong else ""),
        advice="Set the clock (for example with NTP): signatures are refused when it is off.",
    )


async def _database(settings: Settings) -> Finding:
    if settings.database_url is None:
        return _embedded()
    advice = "Check BOTYARD_DATABASE_URL and that the server is running and reachable."
    try:
        url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
        connection = await asyncpg.connect(
            url.render_as_string(hide_password=False), timeout=_PATIENCE_S
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError, ArgumentError) as error:
        says = f"cannot connect: {type(error).__name__}"
        return Finding(about="Database", ok=False, says=says, advice=advice)
    try:
        row = await connection.fetchrow(
            "SELECT rolsuper OR rolbypassrls AS mighty, now() AS at, "
            "current_setting('server_version') AS version "
            "FROM pg_roles WHERE rolname = current_user"
        )
    finally:
        await connection.close()
    return _judge_server(row["mighty"], row["at"], row["version"])


def _judge_server(mighty: bool, at: datetime, version: str) -> Finding:
    off = abs((datetime.now(UTC) - at).total_seconds())
    if mighty:
        return Finding(
            about="Database",
            ok=False,
            says="its role passes every wall between tenants",
            advice="Use a role that is neither superuser nor BYPASSRLS.",
        )
    if off > MAX_CLOCK_OFF_S:
        says = f"its clock and ours differ by {off:.0f} s"
        return Finding(about="Database", ok=False, says=says, advice="Set both clocks.")
    return Finding(about="Database", ok=True, says=f"PostgreSQL {version}")


def _embedded() -> Finding:
    try:
        binaries = postgres_process.locate_binaries(None)
    except postgres_process.EmbeddedPostgresError as error:
        return Finding(about="Database", ok=False, says="no server", advice=str(error))
    return Finding(about="Database", ok=True, says=f"embedded, from {binaries}")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _newest(folder: Path) -> datetime | None:
    """The youngest file of ours: the clock was right at least then."""
    times = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()]
    return datetime.fromtimestamp(max(times), UTC) if times else None
