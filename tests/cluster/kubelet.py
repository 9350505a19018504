"""What a kubelet is to the API server: a node that beats, and the pods that come to it.

What becomes of a pod there is up to whoever makes the node.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx2

from tests.cluster.api import Api, ApiError, Json
from tests.cluster.substrate.plan import KIND

BEAT_S = 10
"""A node that says nothing for 40 s is taken for dead."""

LOOK_AGAIN_S = 0.2
"""After a watch that ended, or a call that did not come through."""

CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "10Ti"}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
GONE = {404, 409}
"""Somebody deleted it, or made another of that name."""


class Life(Protocol):
    """A pod, once it has come to a node."""

    async def live(self) -> None:
        """Until it is cancelled."""

    async def end(self, grace_s: float) -> None:
        """Returns when nothing of it is left on the node."""


class Node:
    """What a kubelet is to the API server; `begin` makes a pod that has come."""

    def __init__(
        self,
        api: Api,
        name: str,
        *,
        kind: str,
        taint: bool,
        begin: Callable[[Json], Life],
        log_port: int | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._kind = kind
        self._taint = taint
        self._begin = begin
        self._log_port = log_port
        self._pods: dict[str, tuple[Life, asyncio.Task[None]]] = {}
        self._going: dict[str, tuple[Life, asyncio.Task[None]]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._follow())

    async def _register(self) -> None:
        taints = [{"key": KIND, "value": self._kind, "effect": "NoSchedule"}] if self._taint else []
        labels = {
            KIND: self._kind,
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
        }
        body = {"metadata": {"name": self._name, "labels": labels}, "spec": {"taints": taints}}
        await unless({409}, self._api.post("/api/v1/nodes", body))

    async def _beat(self) -> None:
        while True:
            spec = {"holderIdentity": self._name, "leaseDurationSeconds": 40}
            spec |= {"renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
            body = {"metadata": {"name": self._name}, "spec": spec}
            with suppress(httpx2.TransportError):
                try:
                    await self._api.merge(f"{LEASES}/{self._name}", body)
                except ApiError:
                    # The first time, or the namespace is not there yet.
                    await unless(GONE, self._api.post(LEASES, body))
                await unless(
                    GONE, self._api.merge(f"/api/v1/nodes/{self._name}/status", self._status())
                )
            await asyncio.sleep(BEAT_S)

    def _status(self) -> Json:
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        versions = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion")
        ids = ("machineID", "systemUUID", "bootID", "kubeProxyVersion")
        system = dict.fromkeys((*versions, *ids), self._kind)
        logs = {"daemonEndpoints": {"kubeletEndpoint": {"Port": self._log_port}}}
        return {
            "status": (logs if self._log_port else {})
            | {
                "capacity": CAPACITY,
                "allocatable": CAPACITY,
                "conditions": [condition | {"lastHeartbeatTime": now()}],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "nodeInfo": system | {"operatingSystem": "linux", "architecture": "amd64"},
            }
        }

    async def _follow(self) -> None:
        """List, then watch, and again when the server ends it or has forgotten our place."""
        selector = f"spec.nodeName={self._name}"
        while True:
            with suppress(httpx2.TransportError):
                listed = await self._api.get("/api/v1/pods", fieldSelector=selector)
                there = {pod["metadata"]["uid"] for pod in listed["items"]}
                for uid in {*self._pods, *self._going} - there:
                    self._lost(uid)
                for pod in listed["items"]:
                    self._seen(pod)
                version = listed["metadata"]["resourceVersion"]
                async for event in self._api.watch(
                    "/api/v1/pods", fieldSelector=selector, resourceVersion=version
                ):
                    if event["type"] == "ERROR":
                        break
                    self._seen(event["object"], gone=event["type"] == "DELETED")
            await asyncio.sleep(LOOK_AGAIN_S)

    def _seen(self, pod: Json, *, gone: bool = False) -> None:
        uid, ending = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        if gone:
            self._lost(uid)
        elif not ending and uid not in self._pods:
            life = self._begin(pod)
            self._pods[uid] = life, self._background(life.live())
        elif ending and uid not in self._going:
            life, task = self._pods.pop(uid, None) or (self._begin(pod), None)
            if task:
                task.cancel()
            self._going[uid] = life, self._background(self._end(life, pod))

    def _lost(self, uid: str) -> None:
        """The server has forgotten it: nothing of it may go on."""
        for kept in (self._pods, self._going):
            if found := kept.pop(uid, None):
                life, task = found
                task.cancel()
                self._background(life.end(0))

    async def _end(self, life: Life, pod: Json) -> None:
        await life.end(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        # In the body: beside one, the server does not read the query.
        at_once = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await unless(GONE, insist(lambda: self._api.delete(path_of(pod), at_once)))

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)
        return task

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()):
            print(f"{self._name} failed with a pod: {error!r}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Container:
    """How the containers of a pod stand; `ended` is the last one's code, if one did."""

    state: Json
    ready: bool = False
    started: bool = False
    restarts: int = 0
    ended: int | None = None


async def tell(api: Api, pod: Json, phase: str, address: str, container: Container) -> None:
    """Write a pod's status."""
    last = {} if container.ended is None else {"terminated": terminated(container.ended)}
    containers = [
        {
            "name": each["name"],
            "image": each["image"],
            "imageID": each["image"],
            "ready": container.ready,
            "started": container.started,
            "restartCount": container.restarts,
            "state": container.state,
            "lastState": last,
        }
        for each in pod["spec"]["containers"]
    ]
    ready = container.ready
    conditions = {"Initialized": True, "Ready": ready, "ContainersReady": ready}
    status = {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": str(value), "lastTransitionTime": now()}
            for kind, value in (conditions | {"PodScheduled": True}).items()
        ],
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now(),
        "containerStatuses": containers,
    }
    body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
    await unless(GONE, insist(lambda: api.merge(f"{path_of(pod)}/status", body)))


def is_ready(live: Json) -> bool:
    """Whether a node or a pod is."""
    conditions = live["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def unless(statuses: set[int], call: Coroutine[Any, Any, Json]) -> None:
    """Make a call and pass over these answers."""
    try:
        await call
    except ApiError as error:
        if error.status not in statuses:
            raise


async def insist(call: Callable[[], Awaitable[Json]]) -> Json:
    """Until the server has answered, as a kubelet does."""
    while True:
        try:
            return await call()
        except httpx2.TransportError:
            await asyncio.sleep(LOOK_AGAIN_S)


def path_of(pod: Json) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"


def terminated(code: int) -> Json:
    reason = "Completed" if code == 0 else "Error"
    return {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
