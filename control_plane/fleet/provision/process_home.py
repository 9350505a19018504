"""The folder of one agent process: its record, its two locks, its token, its data and its log.

`lock` is held by whoever works on the instance. `alive` is locked before a start and inherited by
the agent, so the kernel itself says whether one lives, even when its starter died before it could
write down the pid.
"""

import fcntl
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from control_plane.fleet.provision.base import Allowance
from control_plane.fleet.provision.process_table import ProcessKey


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How it ended; no code where another than its parent noticed."""

    code: int | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Record:
    """One start. Without `process` it was meant, and may have happened."""

    ref: str
    generation: int
    started_at: datetime
    allowance: Allowance | None = None
    process: ProcessKey | None = None
    stopping: bool = False
    exit: Exit | None = None


_UNREADABLE = Record(ref="unreadable", generation=0, started_at=datetime.fromtimestamp(0, UTC))
"""Stands for a record that a power cut spoiled: older than any wish, perhaps alive."""


class Home:
    """Files of one instance; every method may be repeated after a crash."""

    def __init__(self, folder: Path, instance_id: UUID) -> None:
        self.instance_id = instance_id
        self.path = path = folder / str(instance_id)
        self.bootstrap = path / "bootstrap"
        self.agent = path / "agent"
        self.log = path / "log" / "agent.log"
        self.mark = ("--data-dir", str(self.agent))
        """Arguments that no other program on this machine has: how an agent is recognised."""
        self._record = path / "state.json"
        self._lock = path / "lock"
        self._alive = path / "alive"

    def create(self) -> None:
        for folder in (self.path, self.agent, self.log.parent):
            folder.mkdir(mode=0o700, exist_ok=True)

    def read(self) -> Record | None:
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _UNREADABLE

    def write(self, record: Record) -> Record:
        _replace(self._record, msgspec.json.encode(record))
        return record

    def write_token(self, token: str) -> None:
        _replace(self.bootstrap, token.encode())

    def open_log(self) -> int:
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def try_lock(self) -> int | None:
        """The right to work on this instance, until closed; None while another has it."""
        return _try_lock(self._lock)

    def try_claim(self) -> int | None:
        """The right to start an agent; None while one lives."""
        return _try_lock(self._alive)

    def occupied(self) -> bool:
        """Whether an agent lives here; call it under the lock."""
        if (claim := self.try_claim()) is None:
            return True
        os.close(claim)
        return False

    def remove(self) -> None:
        """Remove everything, the lock last: who waits for it must not meet half a folder."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != self._lock:
                entry.unlink()
        self._lock.unlink()
        with suppress(OSError):  # somebody has begun to use the folder again
            self.path.rmdir()


def name_of(folder: Path) -> str:
    """What tells this folder of agents from all others, whoever opens it and however often."""
    path = folder / "name"
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii")
    mine = folder / f"name.{secrets.token_hex(8)}"
    mine.touch(mode=0o600)
    mine.write_text(secrets.token_hex(16), encoding="ascii")
    with suppress(FileExistsError):
        # Whole or not at all, and of several the first.
        path.hardlink_to(mine)
    mine.unlink()
    return path.read_text(encoding="ascii")


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    new.replace(path)


def _try_lock(path: Path) -> int | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been removed, and made anew by another, before we got the lock.
        if path.stat().st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
