"""A cluster as the tests hold it: where it is, what was written to it, and what runs where."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.substrate import build, image, keeper
from tests.cluster.substrate.plan import KIND, NODE_ADDRESS, SIMULATED, Plan
from tests.cluster.substrate.relay import COMMAND

CHECKOUT = Path(__file__).parents[2]
GIVEN = "BOTYARD_TEST_KUBECONFIG"
AGENT = "BOTYARD_TEST_AGENT_IMAGE"
"""The agent's image on a cluster that is given, if its nodes have one."""

ITSELF = "system:"
"""How the users of a cluster's own parts begin."""

LOOPBACK = "127.0.0.1"

K3S = "rancher/k3s:v1.33.5-k3s1"


@dataclass(frozen=True, kw_only=True)
class Write:
    """A request that changes something, from the API server's audit log."""

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    status: int


class Cluster:
    """One that can be used. Not everything is there everywhere; what is not is None."""

    def __init__(self, kubeconfig: Path, *, plan: Plan | None = None, agent: str | None = None):
        self.kubeconfig = kubeconfig
        self.agent_image = agent
        self._plan = plan

    @property
    def real(self) -> bool:
        """Whether pods really run in it."""
        return self._plan is None or self._plan.real

    @property
    def simulated(self) -> bool:
        """Whether it has a node of which the simulator says what runs there."""
        return self._plan is not None

    def place(self, node: str) -> dict[str, Any]:
        """What to put into a pod's spec for the REAL or the SIMULATED node."""
        if self._plan is None:
            return {}
        tolerations = [{"key": KIND, "operator": "Exists"}] if node == SIMULATED else []
        return {"nodeSelector": {KIND: node}, "tolerations": tolerations}

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Api]:
        """A client that may do everything."""
        async with Api.at(self.kubeconfig) as api:
            yield api

    # --- what was written --------------------------------------------------------------------

    @property
    def audited(self) -> bool:
        return self._plan is not None

    def mark(self) -> int:
        """A place in the audit log: now."""
        return self._log.stat().st_size

    def audit(self, since: int, *, prefix: str = "") -> list[Write]:
        """What was written since a mark, in namespaces that begin so, but by the cluster itself."""
        with self._log.open("rb") as log:
            log.seek(since)
            found = [_write(json.loads(line)) for line in log]
        return [
            write
            for write in found
            if not write.user.startswith(ITSELF) and write.namespace.startswith(prefix)
        ]

    @property
    def _log(self) -> Path:
        return self.own.audit_log

    # --- where pods are ----------------------------------------------------------------------

    @property
    def own(self) -> Plan:
        """Where everything of it is; only of a cluster of ours."""
        assert self._plan is not None, "this cluster is somebody else's"
        return self._plan

    @property
    def address(self) -> str:
        """Of this machine in the pods' network, which without a real node is its loopback."""
        return NODE_ADDRESS if self.own.real else LOOPBACK

    def inside(self, *command: str) -> list[str]:
        """The command, to run in the pods' network, where the API server is, too."""
        if not self.own.real:
            return list(command)
        return ["nsenter", f"--net={self._network}", "--", *command]

    @contextmanager
    def reach(self, address: str, port: int) -> Iterator[int]:
        """A port of this machine's loopback that leads to an address in the pods' network."""
        if not self.own.real and address == LOOPBACK:
            yield port
            return
        with _relay("-", "127.0.0.1:0", self._network, f"{address}:{port}") as here:
            yield here

    @contextmanager
    def expose(self, port: int) -> Iterator[str]:
        """An address in the pods' network that leads to a port of this machine's loopback."""
        here = f"{LOOPBACK}:{port}"
        if not self.own.real:
            yield here
            return
        with _relay(self._network, f"{NODE_ADDRESS}:0", "-", here) as there:
            yield f"{NODE_ADDRESS}:{there}"

    @property
    def _network(self) -> str:
        assert self.own.real, "this cluster has no network of its own"
        return f"/proc/{self.own.init_pid}/ns/net"

    def cgroup(self, controller: str, uid: str) -> Path:
        """The control group of a pod on the real node."""
        hierarchy = Path("/sys/fs/cgroup") / controller
        top = hierarchy if hierarchy.exists() else hierarchy.parent
        return next((top / self.own.cgroup).rglob(f"*{uid}"))


def _write(event: dict[str, Any]) -> Write:
    of = event.get("objectRef", {})
    resource = "/".join(filter(None, (of.get("resource"), of.get("subresource"))))
    return Write(
        verb=event["verb"],
        resource=resource,
        # A namespace is in itself.
        namespace=of.get("namespace") or (of.get("name", "") if resource == "namespaces" else ""),
        name=of.get("name", ""),
        user=event["user"]["username"],
        agent=event.get("userAgent", ""),
        status=event.get("responseStatus", {}).get("code", 0),
    )


@contextmanager
def _relay(listen_in: str, listen_at: str, connect_in: str, connect_to: str) -> Iterator[int]:
    words = [*keeper.DIE_WITH_US, *COMMAND, listen_in, listen_at, connect_in, connect_to]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


# --- where one comes from --------------------------------------------------------------------


@contextmanager
def first_that_works(folder: Path) -> Iterator[Cluster]:
    """One that is given, K3s in a container, or a local one in this folder."""
    with ExitStack() as stack:
        if given := os.environ.get(GIVEN):
            cluster = at(Path(given))
        elif _has_docker():
            cluster = stack.enter_context(_in_a_container(folder))
        else:
            cluster = local(stack.enter_context(keeper.used(folder)))
        yield cluster


def at(kubeconfig: Path) -> Cluster:
    """A cluster that runs already; one of `python -m tests.cluster up` is known for what it is."""
    if (kubeconfig.parent / "plan.json").exists():
        return local(Plan.read(kubeconfig.parent))
    return Cluster(kubeconfig, agent=os.environ.get(AGENT))


def local(plan: Plan) -> Cluster:
    """A cluster of ours, with the agent of this checkout on its real node."""
    agent = load_agent(plan) if plan.real else None
    return Cluster(plan.kubeconfig, plan=plan, agent=agent)


def load_agent(plan: Plan) -> str:
    """Import the agent's image unless the node has it; its name."""
    packed = image.pack(CHECKOUT)
    ctr = [f"{plan.programs}/usr/bin/ctr", f"--address={plan.containerd_socket}", "-n=k8s.io"]
    with build.locked(plan.root / "images.lock"):
        listed = subprocess.run(
            [*ctr, "images", "ls", "-q"], capture_output=True, text=True, check=True
        )
        if packed.reference not in listed.stdout.split():
            words = [*ctr, "images", "import", str(packed.archive)]
            subprocess.run(words, capture_output=True, check=True)
    return packed.reference


def _has_docker() -> bool:
    """A client alone is none."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@contextmanager
def _in_a_container(folder: Path) -> Iterator[Cluster]:
    from testcontainers.community.k3s import K3SContainer

    packed = image.pack(CHECKOUT)
    folder.mkdir(parents=True, exist_ok=True)
    with K3SContainer(K3S) as k3s:
        kubeconfig = folder / f"k3s-{os.getpid()}"
        kubeconfig.write_text(k3s.config_yaml(), encoding="utf-8")
        container = k3s.get_wrapped_container()
        with packed.archive.open("rb") as archive:
            words = ["exec", "-i", container.id, "ctr", "-n", "k8s.io", "images", "import", "-"]
            subprocess.run(["docker", *words], stdin=archive, capture_output=True, check=True)
        yield Cluster(kubeconfig, agent=packed.reference)
