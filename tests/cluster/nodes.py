"""The nodes that a test's pods come to: the cluster's real one, or two of processes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Api
from tests.cluster.handle import CHECKOUT, Cluster
from tests.cluster.kubelet import GONE, LEASES, is_ready, unless
from tests.cluster.substrate.keeper import DIE_WITH_US
from tests.cluster.substrate.plan import REAL

IMAGES = "localhost/botyard-agent"
START_WITHIN_S = 60


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """`kind` is their label, `image` and `another` are names of the agent's image there."""

    kind: str
    names: tuple[str, ...]
    image: str
    another: str


def real(cluster: Cluster) -> Nodes:
    """The one that runs containers; it has one image."""
    assert cluster.agent_image is not None
    image = cluster.agent_image
    return Nodes(kind=REAL, names=(REAL,), image=image, another=image)


@asynccontextmanager
async def of_processes(cluster: Cluster, prefix: str, folder: Path) -> AsyncIterator[Nodes]:
    """Two that run agents as processes; they are gone, and their agents with them, at the end."""
    log = folder / "nodes.log"
    nodes = Nodes(
        kind=f"{prefix}processes",
        names=(f"{prefix}one", f"{prefix}two"),
        image=f"{IMAGES}:one",
        another=f"{IMAGES}:another",
    )
    plan = cluster.own
    words = [sys.executable, "-m", "tests.cluster.processes"]
    words += [str(plan.root / "simulator.kubeconfig"), str(plan.pki / f"{REAL}.crt")]
    words += ["--kind", nodes.kind, "--images", IMAGES, "--folder", str(folder / "pods")]
    async with cluster.api() as api:
        process = _start(cluster.inside(*words, *nodes.names), log)
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await _are_ready(api, nodes.names)
            yield nodes
        finally:
            process.kill()
            process.wait()
            print("--- nodes", log.read_text(encoding="utf-8")[-1500:], sep="\n")
            for name in nodes.names:
                await unless(GONE, api.delete(f"/api/v1/nodes/{name}"))
                await unless(GONE, api.delete(f"{LEASES}/{name}"))


def _start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as said:
        return subprocess.Popen(
            [*DIE_WITH_US, *words], stdout=said, stderr=subprocess.STDOUT, cwd=CHECKOUT
        )


async def _are_ready(api: Api, names: tuple[str, ...]) -> None:
    waited = set(names)
    async for event in api.watch("/api/v1/nodes"):
        if is_ready(event["object"]):
            waited.discard(event["object"]["metadata"]["name"])
        if not waited:
            return
