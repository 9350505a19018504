"""Agents as pods of a real API server: what is written for them, and what is read of them.

The cluster is the tests' own (`tests.cluster`), on the node whose kubelet is played. Both sides
write as many new tenants' objects, eight each; they go when the figures are taken.
"""

import asyncio
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config as loading
from kubernetes.aio.client import Configuration

from benchmarks.ground import ROUNDS, figure
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import PAGE, Cluster, path, path_of
from control_plane.fleet.provision.kubernetes_manifests import (
    MANAGER,
    Document,
    Placement,
    Wish,
    documents,
)
from control_plane.fleet.provision.kubernetes_seen import Pod, read_pod
from control_plane.kit.ids import new_id
from tests.cluster import handle
from tests.cluster.substrate.packages import UnavailableError
from tests.cluster.substrate.plan import KIND, SIMULATED

NAMES = ("fleet_objects_applied", "fleet_pods_decoded")
# New tenants of one half of a round, and of them at a time.
TENANTS, AT_ONCE = 32, 8
# Pages decoded in one half of a round.
PAGES = 10
PATIENCE_S = 60.0
# Neither side is to wait for a bucket of its own.
_RATE = 100_000

Send = Callable[[Document], Awaitable[None]]


async def figures() -> dict[str, dict[str, object]]:
    """Objects applied a second, and lists of pods read, beside doing it bare."""
    with tempfile.TemporaryDirectory(prefix="botyard-bench-") as made:
        try:
            with handle.first_that_works(Path(made) / "cluster") as cluster:
                return await _on(cluster)
        except UnavailableError as error:
            print(f"No Kubernetes, so nothing is measured on one: {error}")
            return {}


async def _on(cluster: handle.Cluster) -> dict[str, dict[str, object]]:
    where = Placement(
        name=f"bench{new_id().hex[-8:]}",
        image="agent:1",
        control_url="http://127.0.0.1:1",
        control_namespace="botyard-system",
        nodes=((KIND, SIMULATED),) if cluster.simulated else (),
        taints=(KIND,),
    )
    way = await Cluster.open(kubeconfig=cluster.kubeconfig, context=None, rate=_RATE, burst=_RATE)
    provisioner = KubernetesProvisioner(way, where)
    hints = provisioner.changes()
    try:
        async with _bare(cluster.kubeconfig) as send:
            applied = await _applied(provisioner, way, where, send)
        page = await _page(way, where)
        return {"fleet_objects_applied": applied, "fleet_pods_decoded": _decoded(page)}
    finally:
        await _remove(way, where)
        await provisioner.close()
        del hints


# --- written ---------------------------------------------------------------------------------


async def _applied(
    provisioner: KubernetesProvisioner, way: Cluster, where: Placement, send: Send
) -> dict[str, object]:
    async def raw(spec: InstanceSpec) -> None:
        home, *rest = documents(Wish.of(spec), where)
        await send(home)
        await asyncio.gather(*map(send, rest))

    await _rate(provisioner.ensure, way, where)
    ours, beside = [], []
    for _ in range(ROUNDS):
        ours.append(await _rate(provisioner.ensure, way, where))
        beside.append(await _rate(raw, way, where))
    peer = "raw parallel applies of the same objects"
    return figure(ours, beside, unit="objects/s", peer=peer, goal=">=0.8")


async def _rate(
    make: Callable[[InstanceSpec], Awaitable[object]], way: Cluster, where: Placement
) -> float:
    """Objects a second, once the pods of those before have come: their making is no part of it."""
    homes = await way.list(path("Namespace"), where.selector)
    await _pods(way, where, len(homes.items))
    room = asyncio.Semaphore(AT_ONCE)

    async def one(spec: InstanceSpec) -> None:
        async with room:
            await make(spec)

    specs = [
        InstanceSpec(instance_id=new_id(), tenant_id=new_id(), generation=1) for _ in range(TENANTS)
    ]
    objects = sum(len(documents(Wish.of(spec), where)) for spec in specs)
    began = time.perf_counter()
    await asyncio.gather(*map(one, specs))
    return objects / (time.perf_counter() - began)


class _bare:  # noqa: N801 - used as a function
    """Server-side apply with nothing around it."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = str(kubeconfig)

    async def __aenter__(self) -> Send:
        configuration: Any = Configuration()
        load: Any = loading
        await load.load_kube_config(
            config_file=self._kubeconfig, client_configuration=configuration
        )
        trust = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            trust.load_cert_chain(configuration.cert_file, configuration.key_file)
        auth = await configuration.auth_settings()
        headers = {item["key"]: item["value"] for item in auth.values()}
        headers["content-type"] = "application/apply-patch+yaml"
        connector = aiohttp.TCPConnector(limit=0, ssl=trust)
        self._http = aiohttp.ClientSession(connector=connector, headers=headers)
        query = urlencode({"fieldManager": MANAGER, "force": "true"})

        async def send(document: Document) -> None:
            address = f"{configuration.host}{path_of(document)}?{query}"
            async with self._http.patch(address, data=msgspec.json.encode(document)) as answer:
                assert answer.status < 300, await answer.text()
                await answer.read()

        return send

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()


async def _remove(way: Cluster, where: Placement) -> None:
    homes = await way.list(path("Namespace"), where.selector)
    names = [home["metadata"]["name"] for home in homes.items]
    await asyncio.gather(*(way.delete(path("Namespace", name=name), {}) for name in names))


# --- read ------------------------------------------------------------------------------------


async def _pods(way: Cluster, where: Placement, many: int) -> list[Document]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await way.list(path("Pod"), where.selector)).items
            if len(found) >= many:
                return found
            await asyncio.sleep(0.2)


async def _page(way: Cluster, where: Placement) -> bytes:
    """A full page of pods as the server tells them."""
    found = await _pods(way, where, TENANTS)
    items = [found[n % len(found)] for n in range(PAGE)]
    return msgspec.json.encode({"kind": "PodList", "metadata": {}, "items": items})


def _decoded(page: bytes) -> dict[str, object]:
    def ours() -> list[Pod]:
        return [read_pod(live) for live in msgspec.json.decode(page)["items"]]

    took = [(_milliseconds(ours), _milliseconds(lambda: json.loads(page))) for _ in range(ROUNDS)]
    mine, bare = zip(*took, strict=True)
    kib = len(page) / PAGE / 1024
    peer = f"json.loads of the same, {kib:.1f} KiB a pod"
    return figure(mine, bare, unit=f"ms of CPU for {PAGE} pods", peer=peer, goal="<=1.5")


def _milliseconds(read: Callable[[], object]) -> float:
    each = []
    for _ in range(PAGES):
        began = time.process_time()
        read()
        each.append(time.process_time() - began)
    return statistics.median(each) * 1000
