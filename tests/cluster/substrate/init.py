"""The first process of a cluster: starts the daemons, says when they are ready, ends with them.

With a real node it is the first of a process namespace too: when it ends, however it ends, the
kernel ends everything else in there, pods included, and with the last process the mounts and the
network are gone.
"""

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.cluster.substrate import daemons
from tests.cluster.substrate.plan import NODE_ADDRESS, REAL, SIMULATED, Plan

WITHIN_S = 120
"""For one step of the start; seconds on an idle machine."""

LOOK_EVERY_S = 0.1
SYSCTLS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")
"""What a kubelet sets for the whole machine; the one here sets copies."""

PLACES = ("/run", "/var/lib", "/var/log")
"""Where a node writes whatever it is told; here into memory of its own."""


class Cluster:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._running: dict[int, str] = {}
        self._tls = ssl.create_default_context(cafile=str(plan.pki / "ca.crt"))
        (plan.root / "log").mkdir()

    def up(self) -> None:
        """Returns when pods can be scheduled."""
        plan = self._plan
        self._start("etcd", daemons.etcd(plan))
        self._start("api-server", daemons.api_server(plan))
        if plan.real:
            self._start("containerd", daemons.containerd(plan))
        self._wait("the API server", lambda: self._get("/readyz") is not None)
        self._start("controller-manager", daemons.controller_manager(plan))
        self._start("scheduler", daemons.scheduler(plan))
        if plan.real:
            self._wait("containerd", plan.containerd_socket.exists)
            self._start("kubelet", daemons.kubelet(plan))
        self._start("simulator", _simulator(plan))
        self._wait("the account of pods", self._has_account)
        for node in (REAL, SIMULATED) if plan.real else (SIMULATED,):
            self._wait(f"the {node} node", lambda node=node: self._is_ready(node))  # type: ignore[misc]

    def watch_over(self) -> NoReturn:
        """Until one of the daemons ends."""
        while True:
            self._buried(*os.wait())

    def down(self) -> None:
        """Nothing of it is needed any more."""
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, command: list[str]) -> None:
        path = os.pathsep.join(
            [f"{self._plan.programs}/usr/bin", f"{self._plan.programs}/usr/sbin", os.defpath]
        )
        with (self._plan.root / "log" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": path, "HOME": str(self._plan.root)},
            )
        self._running[process.pid] = name

    def _wait(self, what: str, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not there():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} was not there within {WITHIN_S} s")
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._buried(pid, status)
            time.sleep(LOOK_EVERY_S)

    def _buried(self, pid: int, status: int) -> None:
        """Orphans of containers come here too."""
        if name := self._running.pop(pid, None):
            code = os.waitstatus_to_exitcode(status)
            said = (self._plan.root / "log" / f"{name}.log").read_text(errors="replace")
            raise SystemExit(f"{name} ended with {code}:\n{said[-2000:]}")

    def _get(self, path: str) -> bytes | None:
        headers = {"Authorization": f"Bearer {self._plan.token}"}
        request = urllib.request.Request(f"{self._plan.server}{path}", headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=10) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except OSError:
            return None

    def _has_account(self) -> bool:
        return self._get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _is_ready(self, node: str) -> bool:
        found = self._get(f"/api/v1/nodes?fieldSelector=metadata.name={node}") or b""
        return b'"KubeletReady"' in found


def _simulator(plan: Plan) -> list[str]:
    # Where pods can really run, nobody gets simulated ones unasked.
    kubeconfig = plan.root / "simulator.kubeconfig"
    taint = ["--taint"] if plan.real else []
    return [sys.executable, "-m", "tests.cluster.simulator", str(kubeconfig), *taint]


def _prepare_node(plan: Plan) -> None:
    """A network of its own, and copies of what a kubelet changes."""
    for words in (
        ["link", "set", "lo", "up"],
        ["link", "add", "pods", "type", "bridge"],
        ["addr", "add", f"{NODE_ADDRESS}/24", "dev", "pods"],
        ["link", "set", "pods", "up"],
    ):
        subprocess.run(["ip", *words], check=True)
    for place in PLACES:
        subprocess.run(["mount", "-t", "tmpfs", "node", place], check=True)
    for name in SYSCTLS:
        copy = plan.root / name.replace("/", "-")
        copy.write_text((Path("/proc/sys") / name).read_text(encoding="ascii"), encoding="ascii")
        subprocess.run(["mount", "--bind", str(copy), f"/proc/sys/{name}"], check=True)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main(folder: Path) -> None:
    plan = Plan.read(folder)
    signal.signal(signal.SIGTERM, _stop)
    if plan.real:
        _prepare_node(plan)
    cluster = Cluster(plan)
    try:
        cluster.up()
        plan.ready.touch()
        cluster.watch_over()
    except SystemExit as end:
        if isinstance(end.code, str):
            (plan.root / "failed").write_text(end.code, encoding="utf-8")
        raise
    finally:
        cluster.down()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
