"""PostgreSQL as a child process, for when no database address is given.

The server listens on a private Unix socket only, asks everyone for a password and, on Linux, shuts
down when its parent dies; elsewhere a killed parent leaves it running and the next start says so.
The parent is the *thread* that called `start`: call it from one that lives as long as the server.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import pwd
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast
from urllib.parse import quote

import asyncpg

from control_plane.db.postgres_process import (
    Child,
    DiskFullError,
    EmbeddedPostgresError,
    FolderInUseError,
    FolderUnusableError,
    Launcher,
    StartFailedError,
    locate_binaries,
    serves,
)

SUPERUSER = "postgres"
OWNER = "botyard_owner"
APP = "botyard"
DATABASE = "botyard"
ROLES = {
    OWNER: "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB CREATEROLE NOREPLICATION",
    APP: "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION",
}
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
# A socket's path has room for 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES = 103
# Measured idle: 10 MiB in 6 processes instead of 19 MiB in 9.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "io_method": "sync",
    "autovacuum_max_workers": "1",
    "fsync": "on",
    "logging_collector": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    # The line that says "ready" is read, so it must be in English.
    "lc_messages": "C",
}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FOLDER_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
# Existing accounts to run as when root cannot have a user namespace.
UNPRIVILEGED = ("postgres", "nobody")
# How often to look again for what sends no event: a lock, a process that is not our child.
LOOK_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class EmbeddedSettings:
    """Limits of the embedded database."""

    bin_dir: Path | None = None
    """Folder with `initdb` and `postgres`; none: those of an installed wheel."""
    start_timeout: timedelta = timedelta(seconds=60)
    """A new cluster takes 1 s and recovery seconds; a slow disk many times that."""
    takeover_timeout: timedelta = timedelta(seconds=15)
    """How long a server whose parent was killed may take to end before we start ours."""
    stop_timeout: timedelta = timedelta(seconds=20)
    """A fast shutdown writes one checkpoint; after this it is cut short, and recovery does it."""
    minimum_free_bytes: int = 128 * 1024 * 1024
    """A new cluster takes 40 MiB, and each further WAL segment 16 MiB."""
    shared_buffers_mib: int = 32
    """Pages that it keeps itself: little, since what it stands beside needs the memory, too."""


@dataclass(frozen=True)
class Server:
    """A server that accepts connections."""

    socket_dir: Path
    pid: int
    superuser_password: str = field(repr=False)

    def url(self, user: str, password: str, database: str) -> str:
        """The address of a database for SQLAlchemy; it holds the password, so never log it."""
        host = quote(str(self.socket_dir))
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        name = quote(database, safe="")
        return f"postgresql+asyncpg://{credentials}@/{name}?host={host}&port={PORT}"


class EmbeddedPostgres:
    """The server of one folder; everything it needs to come back is in there."""

    def __init__(self, folder: Path, *, settings: EmbeddedSettings | None = None) -> None:
        self._folder = folder.absolute()
        self._settings = settings or EmbeddedSettings()
        self._child: Child | None = None
        self._server: Server | None = None
        self._passwords: dict[str, str] = {}

    @property
    def owner_url(self) -> str:
        """The address for migrations."""
        return self._url(OWNER)

    @property
    def app_url(self) -> str:
        """The address for everything else."""
        return self._url(APP)

    async def start(self) -> Server:
        """Start the server, creating the cluster when there is none, and see to the roles."""
        if self._child is not None and self._child.alive:
            raise EmbeddedPostgresError("the embedded database is already running; stop it first")
        self._child = self._server = None
        seconds = self._settings.start_timeout.total_seconds()
        try:
            with _explained(self._folder):
                async with asyncio.timeout(seconds):
                    self._server = await self._start()
                return self._server
        except BaseException as error:
            lines = self._child.last_lines if self._child else ""
            await self.stop()
            if isinstance(error, TimeoutError):
                raise _failure(
                    f"it was not ready after {seconds:g} s", lines, self._folder
                ) from None
            raise

    async def stop(self) -> None:
        """Stop the server and everything it started; does nothing when it is not running."""
        child, self._child, self._server = self._child, None, None
        if child is not None:
            await child.stop(self._settings.stop_timeout.total_seconds())
            _forget_temporary_socket_dir(self._folder)

    async def wait(self) -> int:
        """Wait for the end of the running server: its exit code. `start` may follow."""
        if self._child is None:
            raise EmbeddedPostgresError("the embedded database is not running; start it first")
        return await self._child.ended()

    def _url(self, role: str) -> str:
        if self._server is None:
            raise EmbeddedPostgresError("the embedded database is not running; start it first")
        return self._server.url(role, self._passwords[role], DATABASE)

    async def _start(self) -> Server:
        bin_dir = locate_binaries(self._settings.bin_dir)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = self._folder / "data"
        patience = self._settings.takeover_timeout.total_seconds()
        async with _locked(self._folder / "lock", patience) as lock:
            launcher = Launcher(bin_dir, await _identity(bin_dir, data))
            if not data.exists():
                _require_room(self._folder, self._settings.minimum_free_bytes)
                await _create_cluster(self._folder, launcher, lock)
            elif data.stat().st_uid == 0:
                launcher.give(data)
            password = _superuser_password(self._folder)
            socket_dir = _socket_dir(self._folder, launcher)
            await _clear_leftovers(data, socket_dir, patience)
            arguments = _arguments(data, socket_dir, self._settings.shared_buffers_mib)
            process = await launcher.spawn("postgres", *arguments, lock=lock)
            self._child = Child(process, self._folder / "postgres.log")
        if not await self._child.accepting():
            raise _failure("it ended at once", self._child.last_lines, self._folder)
        self._passwords = _role_passwords(self._folder)
        server = Server(socket_dir, self._child.pid, password)
        await _ensure_roles(server, self._passwords)
        return server


@contextlib.asynccontextmanager
async def _locked(path: Path, patience: float) -> AsyncIterator[int]:
    """Hold the folder's lock.

    The server inherits it, and so does each of its processes: whoever gets the lock knows that
    nothing is left of any server before, whatever the pid files say.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not await _until(lambda: _try_lock(lock), patience):
            raise FolderInUseError(
                f"another process uses the database in {path.parent}: "
                "stop it, or choose another data folder"
            )
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _until(condition: Callable[[], bool], patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            while not condition():  # noqa: ASYNC110 - nothing tells us about other processes
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        return False
    return True


async def _identity(bin_dir: Path, data: Path) -> str:
    """As whom to run: ourselves, except that PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return "same"
    if owner := _ordinary_owner(data):
        return owner
    code, output = await Launcher(bin_dir, "namespace").run("postgres", "--version")
    if code == 0:
        return "namespace"
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in UNPRIVILEGED:
        if name in accounts:
            return f"{accounts[name].pw_uid}:{accounts[name].pw_gid}"
    raise StartFailedError(
        "PostgreSQL does not run as root, and here root may not create a user namespace "
        f"and there is no user {' or '.join(UNPRIVILEGED)}: start as an ordinary user\n{output}"
    )


def _ordinary_owner(data: Path) -> str | None:
    """Who made the cluster, unless it was root: it stays theirs, or they could not use it again."""
    if not data.exists() or (found := data.stat()).st_uid == 0:
        return None
    return f"{found.st_uid}:{found.st_gid}"


def _require_room(folder: Path, minimum: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < minimum:
        raise DiskFullError(
            f"{free >> 20} MiB are free at {folder} and a new database needs {minimum >> 20} MiB: "
            "free some space, or choose another data folder"
        )


async def _create_cluster(folder: Path, launcher: Launcher, lock: int) -> None:
    """Create the cluster aside and rename it, so that a half-made one is never taken for whole."""
    unfinished = folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    launcher.give(unfinished)
    password_file = folder / "superuser-password"
    _write_secret(password_file, secrets.token_urlsafe(24))
    code, output = await launcher.run(
        "initdb",
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        lock=lock,
    )
    if code != 0:
        raise _failure("a new cluster could not be made", output, folder)
    unfinished.rename(folder / "data")
    _flush(folder)


def _superuser_password(folder: Path) -> str:
    path = folder / "superuser-password"
    try:
        return path.read_text()
    except FileNotFoundError:
        raise FolderUnusableError(
            f"{path} is missing, and nobody gets into the database without it: "
            "restore it from a backup"
        ) from None


def _socket_dir(folder: Path, launcher: Launcher) -> Path:
    chosen = folder / "run"
    # A comma reads as a list of hosts, a quote ends a setting, and a long path does not fit into a
    # socket's address: these get a folder below the temporary one.
    if set(str(chosen)) & set(',"') or len(os.fsencode(chosen / SOCKET)) > SOCKET_PATH_BYTES:
        chosen = _temporary_socket_dir(folder / "socket-dir", {os.geteuid(), launcher.uid})
    chosen.mkdir(mode=0o700, exist_ok=True)
    launcher.give(chosen)
    return chosen


def _temporary_socket_dir(record: Path, owners: set[int]) -> Path:
    """The recorded folder, if it is still the private one we made there, or else a new one."""
    with contextlib.suppress(FileNotFoundError):
        recorded = Path(record.read_text())
        found = recorded.lstat()
        if found.st_mode == stat.S_IFDIR | 0o700 and found.st_uid in owners:
            return recorded
    made = Path(tempfile.mkdtemp(prefix="botyard-"))
    record.write_text(str(made))
    return made


def _forget_temporary_socket_dir(folder: Path) -> None:
    record = folder / "socket-dir"
    with contextlib.suppress(OSError):
        Path(record.read_text()).rmdir()
        record.unlink()


async def _clear_leftovers(data: Path, socket_dir: Path, patience: float) -> None:
    """Remove pid files of a server that is gone: by now their pid may be anybody's."""
    if sys.platform != "linux":
        return  # `serves` cannot tell here, so PostgreSQL's own more cautious check decides
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        first_line = pid_file.read_text().partition("\n")[0].strip()
        pid = int(first_line) if first_line.isdecimal() else 0
        # Not one of ours, or it would hold the lock; somebody may have started it by hand.
        if not await _until(lambda: not serves(pid, data), patience):
            raise FolderInUseError(
                f"a PostgreSQL server (pid {pid}) runs on {data}: stop it with pg_ctl"
            )
    for leftover in (pid_file, socket_dir / SOCKET, socket_dir / f"{SOCKET}.lock"):
        leftover.unlink(missing_ok=True)


def _arguments(data: Path, socket_dir: Path, shared_buffers_mib: int) -> list[str]:
    settings = SERVER_SETTINGS | {
        "unix_socket_directories": f'"{socket_dir}"',
        "shared_buffers": f"{shared_buffers_mib}MB",
    }
    return ["-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]


def _role_passwords(folder: Path) -> dict[str, str]:
    path = folder / "credentials.json"
    if not path.exists():
        _write_secret(path, json.dumps({role: secrets.token_urlsafe(24) for role in ROLES}))
    return cast("dict[str, str]", json.loads(path.read_text()))


async def _ensure_roles(server: Server, passwords: dict[str, str]) -> None:
    connection = await asyncpg.connect(
        host=str(server.socket_dir),
        port=PORT,
        user=SUPERUSER,
        password=server.superuser_password,
        database="postgres",
        # A statement that fails must not leave its password in the server's log.
        server_settings={"log_min_error_statement": "panic"},
    )
    try:
        for role, attributes in ROLES.items():
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            verb = "ALTER" if exists else "CREATE"
            template = f"{verb} ROLE %I {attributes} PASSWORD %L"
            await connection.execute(
                await connection.fetchval(
                    "SELECT format($1::text, $2::text, $3::text)", template, role, passwords[role]
                )
            )
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    finally:
        await connection.close()


def _write_secret(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise _failure(str(error), error.strerror or "", folder) from error
    except asyncpg.PostgresError as error:
        raise _failure("the roles could not be made", str(error), folder) from error


def _failure(what: str, output: str, folder: Path) -> EmbeddedPostgresError:
    if any(os.strerror(code) in output for code in DISK_FULL):
        return DiskFullError(
            f"the disk that holds {folder} is full: free some space, then start again"
        )
    if any(os.strerror(code) in output for code in FOLDER_UNUSABLE):
        return FolderUnusableError(
            f"{folder} cannot be used ({what}): make it writable for the user who starts Botyard, "
            f"or choose another data folder\n{output}"
        )
    return StartFailedError(f"the embedded database did not start: {what}; it said:\n{output}")
