"""Agents as pods of a real API server, on a node whose kubelet the bench plays."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from control_plane.fleet.provision.base import Provisioner, Workload, WorkloadState
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import Cluster as Way
from control_plane.fleet.provision.kubernetes_manifests import INSTANCE, Placement
from tests.cluster.handle import Cluster
from tests.cluster.substrate.plan import KIND

PATIENCE_S = 60
"""A namespace takes up to half a minute to go."""

_UNDER_WAY = {WorkloadState.STARTING, WorkloadState.STOPPING}
_PODS = "/api/v1/pods"


def placement(prefix: str, node: str | None, **more: object) -> Placement:
    return Placement(
        **{
            "name": prefix.rstrip("-"),
            "image": "agent:1",
            "control_url": "http://127.0.0.1:1",
            "control_namespace": "botyard-system",
            "nodes": ((KIND, node),) if node else (),
            "taints": (KIND,),
            **more,
        }
    )


class PodBench:
    """Kubernetes as the conformance suite sees it."""

    refits_in_place = False
    has_logs = False
    after_a_death = WorkloadState.STARTING

    def __init__(self, cluster: Cluster, where: Placement) -> None:
        self.cluster = cluster
        self.placement = where
        self._began = datetime.now(UTC)
        self._callers: list[Provisioner] = []
        self._dead: set[str] = set()

    async def open(self) -> None:
        self._ways = [await self.way() for _ in range(12)]

    async def way(self) -> Way:
        return await Way.open(
            kubeconfig=self.cluster.kubeconfig, context=None, rate=1000, burst=1000
        )

    def caller(self) -> KubernetesProvisioner:
        provisioner = KubernetesProvisioner(self._ways.pop(), self.placement)
        self._callers.append(provisioner)
        return provisioner

    def is_now(self, moment: datetime) -> bool:
        """The server's clock goes by seconds, and on."""
        return self._began - timedelta(seconds=1) <= moment <= datetime.now(UTC)

    async def settled(self, provisioner: Provisioner, instance_id: UUID) -> Workload:
        """Once nothing is under way; containers that died are started again by their node."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = (await provisioner.observe([instance_id]))[instance_id]
                if seen.exited_at is not None:
                    await self._start_again(instance_id)
                elif seen.state not in _UNDER_WAY:
                    return seen
                await asyncio.sleep(0.1)

    async def kill(self, instance_id: UUID) -> None:
        container = await self._container(instance_id)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        container["state"] = {"terminated": {"exitCode": 137, "finishedAt": now}}
        await self._report(instance_id, container)

    async def say(self, instance_id: UUID, line: str) -> None:
        """Nobody writes logs here."""

    async def close(self) -> None:
        for provisioner in self._callers:
            await provisioner.close()
        for way in self._ways:
            await way.close()

    async def _start_again(self, instance_id: UUID) -> None:
        container = await self._container(instance_id)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        container["lastState"] = container["state"]
        container["state"] = {"running": {"startedAt": now}}
        container["restartCount"] += 1
        await self._report(instance_id, container)

    async def pod(self, instance_id: UUID) -> dict:
        async with self.cluster.api() as api:
            found = await api.get(_PODS, labelSelector=f"{INSTANCE}={instance_id}")
        (pod,) = [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]
        return pod

    async def _container(self, instance_id: UUID) -> dict:
        return (await self.pod(instance_id))["status"]["containerStatuses"][0]

    async def _report(self, instance_id: UUID, container: dict) -> None:
        meta = (await self.pod(instance_id))["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        async with self.cluster.api() as api:
            await api.merge(path, {"status": {"containerStatuses": [container]}})
