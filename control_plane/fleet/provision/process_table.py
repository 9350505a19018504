"""Processes of this machine, named by pid and birth, so that a reused pid is never taken for them.

Where the kernel has pidfds (Linux) an exit is an event and a signal cannot miss; elsewhere we look
every `EXIT_LOOK_S` seconds and compare the birth right before a signal.
"""

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

EXIT_LOOK_S = 0.25
"""Cadence of the look for exits where there is no pidfd."""

PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
"""Linux 6.9: the pidfd names a process group; older kernels answer EINVAL."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessKey:
    """One process for good: `birth` is the boot and the kernel's start time."""

    pid: int
    birth: str


@dataclass(frozen=True)
class _Entry:
    birth: str
    dead: bool
    group: int


def birth_of(pid: int) -> str | None:
    """When this process was born, as text to compare; None when there is none."""
    entry = _entry(pid)
    return entry.birth if entry is not None else None


def find_group_leader(arguments: Sequence[str]) -> ProcessKey | None:
    """The living leader of a process group whose command line holds these arguments in a row."""
    for key, entry in _find(arguments):
        if entry.group == key.pid:
            return key
    return None


async def kill_all(arguments: Sequence[str], *, seconds: float) -> None:
    """End every process whose command line holds these arguments in a row."""
    for key, _ in _find(arguments):
        if (process := HeldProcess.hold(key, lambda: None)) is not None:
            process.send(signal.SIGKILL)
            await process.wait(seconds)
            process.close()


class HeldProcess:
    """A process that we watch: calls `on_exit` once, and takes the exit code where it may."""

    def __init__(self, key: ProcessKey, fd: int | None, on_exit: Callable[[], None]) -> None:
        self.key = key
        self.exit_code: int | None = None
        self._fd = fd
        self._on_exit = on_exit
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if fd is None:
            self._look()
        else:
            self._loop.add_reader(fd, self._finish)

    @classmethod
    def hold(cls, key: ProcessKey, on_exit: Callable[[], None]) -> "HeldProcess | None":
        """Watch this process; None when it is gone or its pid belongs to another."""
        try:
            fd = _open_pidfd(key.pid)
        except ProcessLookupError:
            return None
        if birth_of(key.pid) != key.birth:
            if fd is not None:
                os.close(fd)
            return None
        return cls(key, fd, on_exit)

    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        if not self._gone.is_set() and self._has_exited():
            self._finish()
        return not self._gone.is_set()

    def send(self, number: signal.Signals) -> None:
        """Signal its process group, or it alone where it leads none."""
        with suppress(ProcessLookupError):
            try:
                self._signal_group(number)
            except ProcessLookupError:
                if self._fd is not None:
                    signal.pidfd_send_signal(self._fd, number)

    async def wait(self, seconds: float) -> bool:
        """Wait for its exit; False when it still runs after this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return not self.alive()
        return True

    def close(self) -> None:
        """Stop watching; the process is left as it is."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _look(self) -> None:
        if self._has_exited():
            self._finish()
        else:
            self._timer = self._loop.call_later(EXIT_LOOK_S, self._look)

    def _has_exited(self) -> bool:
        if self._fd is not None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            return bool(poll.poll(0))
        entry = _entry(self.key.pid)
        return entry is None or entry.dead or entry.birth != self.key.birth

    def _finish(self) -> None:
        if self._gone.is_set():
            return
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
        # What it started ends with it, before reaping: until then nobody can get its group's id.
        with suppress(ProcessLookupError):
            self._signal_group(signal.SIGKILL)
        self.exit_code = self._reap()
        self._gone.set()
        self._loop.call_soon(self._on_exit)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._fd is not None:
            try:
                signal.pidfd_send_signal(self._fd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
            except ProcessLookupError:
                raise
            except OSError:
                pass  # a kernel before 6.9
            else:
                return
        if birth_of(self.key.pid) == self.key.birth:
            os.killpg(self.key.pid, number)

    def _reap(self) -> int | None:
        if birth_of(self.key.pid) != self.key.birth:
            return None
        try:
            pid, status = os.waitpid(self.key.pid, os.WNOHANG)
        except ChildProcessError:
            return None  # not our child: an earlier run of this program started it
        return os.waitstatus_to_exitcode(status) if pid else None


def _open_pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None  # an old kernel, or a sandbox that forbids the call


def _entry(pid: int) -> _Entry | None:
    return _entry_from_proc(pid) if _has_proc() else _entry_from_ps(pid)


def _find(arguments: Sequence[str]) -> list[tuple[ProcessKey, _Entry]]:
    pids = _pids_from_proc(arguments) if _has_proc() else _pids_from_ps(arguments)
    found = [(pid, entry) for pid in pids if (entry := _entry(pid)) and not entry.dead]
    return [(ProcessKey(pid, entry.birth), entry) for pid, entry in found]


@cache
def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


@cache
def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _entry_from_proc(pid: int) -> _Entry | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything; after it come fields 3 (state), 5 (group), 22.
    fields = stat.rpartition(")")[2].split()
    return _Entry(f"{_boot_id()}/{fields[19]}", fields[0] in "ZX", int(fields[2]))


def _pids_from_proc(arguments: Sequence[str]) -> list[int]:
    wanted = b"\0" + b"\0".join(map(os.fsencode, arguments)) + b"\0"
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


def _entry_from_ps(pid: int) -> _Entry | None:
    line = _ps("-o", "stat=,pgid=,lstart=", "-p", str(pid)).strip()
    if not line:
        return None
    state, group, born = line.split(maxsplit=2)
    return _Entry(born, state.startswith("Z"), int(group))


def _pids_from_ps(arguments: Sequence[str]) -> list[int]:
    wanted = f" {' '.join(arguments)} "
    lines = _ps("-axww", "-o", "pid=,command=").splitlines()
    return [int(line.split(maxsplit=1)[0]) for line in lines if wanted in f"{line} "]


def _ps(*arguments: str) -> str:
    # A fixed locale and time zone, because the birth is compared as text.
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    return subprocess.run(
        ["ps", *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False
    ).stdout
