"""Keeps a cluster while somebody uses it, and clears it away afterwards.

Users hold a shared lock on `lease`; the kernel lets go of it when they die. The keeper starts the
cluster, looks whether anybody is left, and leaves nothing: no process, mount, network, control
group or file.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from tests.cluster.substrate import build, cgroups, daemons
from tests.cluster.substrate.packages import UnavailableError
from tests.cluster.substrate.plan import Plan
from tests.cluster.substrate.relay import COMMAND

CHECKOUT = Path(__file__).parents[3]
LOOK_EVERY_S = 0.5
START_WITHIN_S = 240
STOP_WITHIN_S = 60
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]


# --- its users -------------------------------------------------------------------------------


@contextmanager
def used(folder: Path) -> Iterator[Plan]:
    """The cluster of a folder: started for its first user, gone after its last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with build.locked(folder.with_name(f"{folder.name}.lock")):
            lease = stack.enter_context(_join(folder))
            if not (folder / "ready").exists():
                start(folder)
            raise_failure(folder)
        yield Plan.read(folder)
        last = _take(lease)
    if last:
        wait(lambda: not folder.exists() or (folder / "failed").exists(), STOP_WITHIN_S)


def start(folder: Path, *, stay: bool = False) -> None:
    """Start a keeper; returns when its cluster can be used."""
    raise_failure(folder)
    build.programs()
    build.daemons()
    words = [sys.executable, "-m", "tests.cluster.substrate.keeper", str(folder)]
    with (folder / "keeper.log").open("wb") as log:
        # On its own, since others may use the cluster longer than we do.
        subprocess.run(
            ["setsid", "--fork", *words, *(["--stay"] if stay else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CHECKOUT,
            check=True,
        )
    failed = folder / "failed"
    wait(lambda: failed.exists() or (folder / "ready").exists(), START_WITHIN_S)
    raise_failure(folder)


def stop(folder: Path) -> None:
    """End a cluster that stays; returns when nothing is left of it."""
    if pid := _keeper(folder):
        os.kill(pid, signal.SIGTERM)
        wait(lambda: not _keeper(folder), STOP_WITHIN_S)
    if folder.exists():
        # It failed, or its keeper was killed and could not.
        if (folder / "plan.json").exists():
            cgroups.remove(Plan.read(folder).cgroup)
        shutil.rmtree(folder)


def _keeper(folder: Path) -> int | None:
    """Its process id, if it lives: then nobody else can have the lock."""
    try:
        with (folder / "keeper.pid").open(encoding="ascii") as file:
            return None if _take(file) else int(file.read())
    except FileNotFoundError:
        return None


def wait(there: Callable[[], bool], within_s: float) -> None:
    """Until other processes have done something that shows in files only."""
    deadline = time.monotonic() + within_s
    while not there():
        if time.monotonic() > deadline:
            raise UnavailableError(f"it took more than {within_s} s")
        time.sleep(LOOK_EVERY_S / 5)


def raise_failure(folder: Path) -> None:
    failed = folder / "failed"
    if failed.exists():
        raise UnavailableError(failed.read_text(encoding="utf-8") or "the cluster did not start")


def _join(folder: Path) -> IO[str]:
    """The lease, held. One that its keeper has just cleared away counts for nothing."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "lease"
        lease = path.open("w", encoding="utf-8")
        fcntl.flock(lease, fcntl.LOCK_SH)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(lease.fileno())):
            return lease
        lease.close()


def _take(lease: IO[str]) -> bool:
    """Whether nobody else uses the cluster."""
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- the keeper ------------------------------------------------------------------------------


def keep(folder: Path, *, stay: bool) -> None:
    """Until nobody uses it, somebody says so, or it dies of itself."""
    running: list[subprocess.Popen[bytes]] = []
    # Held to the very end, so that nobody joins what is being cleared away.
    with (
        (folder / "keeper.pid").open("w", encoding="ascii") as own,
        (folder / "lease").open("w", encoding="utf-8") as lease,
    ):
        fcntl.flock(own, fcntl.LOCK_EX)
        own.write(str(os.getpid()))
        own.flush()
        plan = _plan(folder)
        try:
            plan.write()
            daemons.prepare(plan)
            if plan.real:
                cgroups.make(plan.cgroup)
            _run(plan, running)
            while stay or not plan.ready.exists() or not _take(lease):
                if any(process.poll() is not None for process in running):
                    raise_failure(folder)
                    raise UnavailableError("the cluster ended by itself")
                time.sleep(LOOK_EVERY_S)
        finally:
            _end(plan, running)
        # After a failure the logs stay, for whoever reads why.
        shutil.rmtree(folder)


def _run(plan: Plan, running: list[subprocess.Popen[bytes]]) -> None:
    def started(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*DIE_WITH_US, *words], stdin=subprocess.DEVNULL, cwd=CHECKOUT)
        running.append(process)
        return process

    init = [sys.executable, "-m", "tests.cluster.substrate.init", plan.folder]
    if not plan.real:
        started(*init)
        return
    outer = started(*UNSHARE, *init).pid
    children = Path(f"/proc/{outer}/task/{outer}/children")
    wait(lambda: bool(children.read_text(encoding="ascii").strip()), START_WITHIN_S)
    inner = children.read_text(encoding="ascii").strip()
    (plan.root / "init.pid").write_text(inner, encoding="ascii")
    here = f"127.0.0.1:{plan.port}"
    started(*COMMAND, "-", here, f"/proc/{inner}/ns/net", here)


def _end(plan: Plan, running: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(running):
        process.kill()
        process.wait()
    if plan.real:
        cgroups.remove(plan.cgroup)


def _plan(folder: Path) -> Plan:
    port, etcd_port, etcd_peer_port = _free_ports(3)
    return Plan(
        folder=str(folder),
        daemons=str(build.daemons()),
        programs=str(build.programs()),
        port=port,
        etcd_port=etcd_port,
        etcd_peer_port=etcd_peer_port,
        real=why_no_real_node() is None,
        token=secrets.token_urlsafe(32),
    )


def why_no_real_node() -> str | None:
    """What this machine lacks to run pods."""
    if os.geteuid() != 0:
        return "only root can run pods"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        return "namespaces cannot be made here"
    if not all(os.access(hierarchy, os.W_OK) for hierarchy in cgroups.hierarchies()):
        return "control groups cannot be made here"
    return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    place = Path(sys.argv[1])
    try:
        keep(place, stay="--stay" in sys.argv)
    except Exception as error:
        (place / "failed").write_text(str(error), encoding="utf-8")
        raise
