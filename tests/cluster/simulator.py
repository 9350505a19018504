"""A node without a kubelet: says that pods run, or whatever their annotations ask for.

`python -m tests.cluster.simulator KUBECONFIG [--name NAME] [--taint]`. The API server, the
scheduler and the controllers are real; containers do not exist. A pod's annotations:

simulator/ready-after: seconds     becomes ready later
simulator/never-ready: "yes"       runs and is never ready
simulator/crash-after: seconds     its containers end with 1 and are started again, each time
simulator/exits: code              its containers end at once, for good
simulator/waiting: reason          waits for ever, as with ImagePullBackOff
"""

import argparse
import asyncio
import ipaddress
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from tests.cluster.api import Api, ApiError, Json
from tests.cluster.substrate.plan import KIND, SIMULATED

BEAT_S = 10
"""A node that says nothing for 40 s is taken for dead."""

BACK_OFF_S = 0.2
"""How long a crashed container waits, and how long a pod takes to end."""

CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "10000", "ephemeral-storage": "10Ti"}
ADDRESSES = ipaddress.ip_network("10.128.0.0/9")
GONE = {404, 409}
"""Somebody deleted it, or made another of that name."""

TOO_OLD = 410


class Node:
    def __init__(self, api: Api, name: str, *, taint: bool) -> None:
        self._api = api
        self._name = name
        self._taint = taint
        self._addresses: Iterator[Any] = ADDRESSES.hosts()
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._follow())

    async def _register(self) -> None:
        taints = [{"key": KIND, "value": SIMULATED, "effect": "NoSchedule"}] if self._taint else []
        labels = {
            KIND: SIMULATED,
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
        }
        body = {"metadata": {"name": self._name, "labels": labels}, "spec": {"taints": taints}}
        await unless({409}, self._api.post("/api/v1/nodes", body))

    async def _beat(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            spec = {"holderIdentity": self._name, "leaseDurationSeconds": 40}
            spec |= {"renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
            body = {"metadata": {"name": self._name}, "spec": spec}
            with suppress(httpx2.TransportError):
                try:
                    await self._api.merge(f"{leases}/{self._name}", body)
                except ApiError:
                    # The first time, or the namespace is not there yet.
                    await unless(GONE, self._api.post(leases, body))
                await unless(
                    GONE, self._api.merge(f"/api/v1/nodes/{self._name}/status", self._status())
                )
            await asyncio.sleep(BEAT_S)

    def _status(self) -> Json:
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        versions = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion")
        ids = ("machineID", "systemUUID", "bootID", "kubeProxyVersion")
        system = dict.fromkeys((*versions, *ids), SIMULATED)
        return {
            "status": {
                "capacity": CAPACITY,
                "allocatable": CAPACITY,
                "conditions": [condition | {"lastHeartbeatTime": _now()}],
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
                for pod in listed["items"]:
                    self._seen(pod)
                version = listed["metadata"]["resourceVersion"]
                async for event in self._api.watch(
                    "/api/v1/pods", fieldSelector=selector, resourceVersion=version
                ):
                    if event["type"] == "ERROR":
                        break
                    self._seen(event["object"], gone=event["type"] == "DELETED")
            await asyncio.sleep(BACK_OFF_S)

    def _seen(self, pod: Json, *, gone: bool = False) -> None:
        uid, ending = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        if gone or ending:
            if task := self._pods.pop(uid, None):
                task.cancel()
            if not gone:
                self._background(self._end(pod))
        elif uid not in self._pods:
            self._pods[uid] = asyncio.create_task(Pod(self._api, pod, self._address()).live())

    def _address(self) -> str:
        return str(next(self._addresses))

    async def _end(self, pod: Json) -> None:
        await asyncio.sleep(min(pod["metadata"].get("deletionGracePeriodSeconds", 0), BACK_OFF_S))
        # In the body: beside one, the server does not read the query.
        now = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await unless(GONE, self._api.delete(path_of(pod), now))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class Pod:
    """One pod's life, told by patches of its status."""

    def __init__(self, api: Api, pod: Json, address: str) -> None:
        self._api = api
        self._pod = pod
        self._address = address
        self._wish = pod["metadata"].get("annotations", {})
        self._restarts = 0

    async def live(self) -> None:
        if reason := self._asked("waiting"):
            await self._say("Pending", {"waiting": {"reason": reason, "message": "simulated"}})
            return
        if code := self._asked("exits"):
            phase = "Succeeded" if code == "0" else "Failed"
            await self._say(phase, {"terminated": _terminated(int(code))})
            return
        running = {"running": {"startedAt": _now()}}
        if seconds := self._asked("ready-after"):
            await self._say("Running", running)
            await asyncio.sleep(float(seconds))
        await self._say("Running", running, ready=self._asked("never-ready") is None)
        while seconds := self._asked("crash-after"):
            await asyncio.sleep(float(seconds))
            self._restarts += 1
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "simulated"}}
            await self._say("Running", waiting)
            await asyncio.sleep(BACK_OFF_S)
            await self._say("Running", {"running": {"startedAt": _now()}}, ready=True)

    def _asked(self, name: str) -> str | None:
        wish: str | None = self._wish.get(f"simulator/{name}")
        return wish

    async def _say(self, phase: str, state: Json, *, ready: bool = False) -> None:
        last = {"terminated": _terminated(1)} if self._restarts else {}
        containers = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "simulated",
                "ready": ready,
                "started": "running" in state,
                "restartCount": self._restarts,
                "state": state,
                "lastState": last,
            }
            for container in self._pod["spec"]["containers"]
        ]
        conditions = {"Initialized": True, "Ready": ready, "ContainersReady": ready}
        status = {
            "phase": phase,
            "conditions": [
                {"type": kind, "status": str(value), "lastTransitionTime": _now()}
                for kind, value in (conditions | {"PodScheduled": True}).items()
            ],
            "hostIP": "127.0.0.1",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": _now(),
            "containerStatuses": containers,
        }
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        await unless(GONE, self._api.merge(f"{path_of(self._pod)}/status", body))


async def unless(statuses: set[int], call: Coroutine[Any, Any, Json]) -> None:
    """Make a call and pass over these answers."""
    try:
        await call
    except ApiError as error:
        if error.status not in statuses:
            raise


def path_of(pod: Json) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"


def _terminated(code: int) -> Json:
    reason = "Completed" if code == 0 else "Error"
    return {"exitCode": code, "reason": reason, "startedAt": _now(), "finishedAt": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def main(kubeconfig: Path, name: str, *, taint: bool) -> None:
    async with Api.at(kubeconfig) as api:
        await Node(api, name, taint=taint).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--name", default=SIMULATED)
    parser.add_argument("--taint", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.kubeconfig, given.name, taint=given.taint))
