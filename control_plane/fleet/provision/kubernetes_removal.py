"""Removes an agent, step by step, and says what the next step waits for.

Pods first: a namespace that still holds pods takes its controller up to a minute and a half.
Nothing is remembered here; what is left in the cluster says how far it got.
"""

from uuid import UUID

from control_plane.fleet.provision.base import ABSENT, Workload, WorkloadState
from control_plane.fleet.provision.kubernetes_api import Cluster, path
from control_plane.fleet.provision.kubernetes_manifests import (
    ENDING,
    INSTANCE,
    TENANT,
    Document,
    Placement,
    agent_name,
)

_POD_GRACE_S = 1
"""At once, and yet not forced: a pod that is forced away may go on running on a lost node."""

_LONG_S = 3600
"""For a pod that does not say how long it may take."""

_MAX_WORDS = 300


class Removal:
    """Takes an agent away from one cluster."""

    def __init__(self, cluster: Cluster, placement: Placement) -> None:
        self._cluster = cluster
        self._placement = placement

    async def go_on(self, instance_id: UUID) -> Workload:
        """One step further; absent once nothing is left."""
        mine = f"{self._placement.selector},{INSTANCE}={instance_id}"
        deployments = (await self._cluster.list(path("Deployment"), mine)).items
        pods = (await self._cluster.list(path("Pod"), mine)).items
        if deployments or pods:
            await self._end(deployments, pods)
            left = [f"pod {each['metadata']['name']}" for each in pods] or ["its Deployment"]
            return _waits(", ".join(left))
        ending = f"{self._placement.selector},{ENDING}={instance_id}"
        for home in (await self._cluster.list(path("Namespace"), ending)).items:
            return await self._empty(home)
        for account in (await self._cluster.list(path("ServiceAccount"), mine)).items:
            home_name = account["metadata"]["namespace"]
            if await self._only(instance_id, home_name):
                return await self._leave(instance_id, home_name)
            where = path("ServiceAccount", home_name, agent_name(instance_id))
            await self._cluster.delete(where, {})
        return ABSENT

    async def sweep(self, tenant_id: UUID) -> None:
        """A namespace of ours goes once no agent has anything in it."""
        mine = f"{self._placement.selector},{TENANT}={tenant_id}"
        for home in (await self._cluster.list(path("Namespace"), mine)).items:
            name = home["metadata"]["name"]
            for kind in ("Deployment", "Pod", "ServiceAccount"):
                inside = await self._cluster.list(
                    path(kind, name), f"{self._placement.selector},{INSTANCE}"
                )
                if inside.items:
                    return
            await self._empty(home)

    async def _end(self, deployments: list[Document], pods: list[Document]) -> None:
        for each in deployments:
            meta = each["metadata"]
            if "deletionTimestamp" not in meta:
                where = path("Deployment", meta["namespace"], meta["name"])
                # Foreground: whoever would make new pods ends before the pods do.
                await self._cluster.delete(
                    where,
                    {"propagationPolicy": "Foreground", "preconditions": {"uid": meta["uid"]}},
                )
        for each in pods:
            meta = each["metadata"]
            # One that nobody ends yet would be made again while its Deployment still looks.
            ends = "deletionTimestamp" in meta or not deployments
            if ends and meta.get("deletionGracePeriodSeconds", _LONG_S) > _POD_GRACE_S:
                where = path("Pod", meta["namespace"], meta["name"])
                await self._cluster.delete(
                    where,
                    {"gracePeriodSeconds": _POD_GRACE_S, "preconditions": {"uid": meta["uid"]}},
                )

    async def _only(self, instance_id: UUID, home: str) -> bool:
        """Whether nobody else of the tenant lives there."""
        accounts = await self._cluster.list(
            path("ServiceAccount", home), f"{self._placement.selector},{INSTANCE}"
        )
        return all(
            each["metadata"]["labels"][INSTANCE] == str(instance_id) for each in accounts.items
        )

    async def _leave(self, instance_id: UUID, home: str) -> Workload:
        """Mark the namespace before it goes: its objects go first, and who asks must find it."""
        change = {"metadata": {"labels": {ENDING: str(instance_id)}}}
        marked = await self._cluster.patch(path("Namespace", name=home), change)
        if marked is None:
            return ABSENT
        return await self._empty(marked)

    async def _empty(self, home: Document) -> Workload:
        meta = home["metadata"]
        if "deletionTimestamp" not in meta:
            where = path("Namespace", name=meta["name"])
            await self._cluster.delete(where, {"preconditions": {"uid": meta["uid"]}})
        said = [
            item["message"]
            for item in (home.get("status") or {}).get("conditions") or []
            if item.get("status") == "True" and item.get("message")
        ]
        return _waits(": ".join([f"namespace {meta['name']}", *said]))


def _waits(what: str) -> Workload:
    return Workload(state=WorkloadState.STOPPING, waits_for=f"waits for {what}"[:_MAX_WORDS])
