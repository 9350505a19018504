"""What live objects say of an agent: pure, from the server's JSON to a `Workload`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from control_plane.fleet.provision.base import ABSENT, Workload, WorkloadState
from control_plane.fleet.provision.kubernetes_compare import covers
from control_plane.fleet.provision.kubernetes_manifests import (
    INSTANCE,
    SHAPE,
    TENANT,
    Document,
    Placement,
    Wish,
    deployment,
    wish_of,
)

MAX_WORDS = 300
"""Characters of the server's words that are shown."""

_SIGNALLED = 128
"""The runtime adds this to the number of a signal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    """A Deployment of ours; `generation` is the server's count of its changes.

    `shape` is that of the pods that it makes now.
    """

    instance_id: UUID
    tenant_id: UUID
    namespace: str
    uid: str
    generation: int
    shape: str
    wish: Wish | None
    aligned: bool
    going: bool
    trouble: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a container ended."""

    code: int | None
    at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pod:
    """A pod of ours; `running_since` and `ended` tell of its newest container."""

    instance_id: UUID
    namespace: str
    name: str
    uid: str
    shape: str
    created_at: datetime
    restarts: int
    running_since: datetime | None
    ended: Ended | None
    going: bool
    failed: bool
    waits_for: str

    @property
    def ref(self) -> str:
        """One start: the same pod starts its container again."""
        return f"{self.uid}.{self.restarts}"

    @property
    def begun(self) -> bool:
        return self.running_since is not None or self.ended is not None


def read_deployment(
    live: Document,
    placement: Placement,
    holds: Callable[[Document, Document], bool] = covers,
) -> Deployed:
    """A Deployment, compared with what its own wish would make now."""
    meta, wish = live["metadata"], wish_of(live)
    conditions = (live.get("status") or {}).get("conditions") or []
    trouble = [
        item.get("message") or item.get("reason") or ""
        for item in conditions
        if item.get("type") == "ReplicaFailure" and item.get("status") == "True"
    ]
    return Deployed(
        instance_id=UUID(meta["labels"][INSTANCE]),
        tenant_id=UUID(meta["labels"][TENANT]),
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=meta.get("generation") or 0,
        shape=(live["spec"]["template"]["metadata"].get("labels") or {}).get(SHAPE, ""),
        wish=wish,
        aligned=wish is not None and holds(deployment(wish, placement), live),
        going="deletionTimestamp" in meta,
        trouble=trouble[0][:MAX_WORDS] if trouble else "",
    )


def read_pod(live: Document) -> Pod:
    """A pod and how its container stands."""
    meta, status = live["metadata"], live.get("status") or {}
    container: Document = next(iter(status.get("containerStatuses") or []), {})
    state, last = container.get("state") or {}, container.get("lastState") or {}
    running, waiting = state.get("running"), state.get("waiting") or {}
    ended = state.get("terminated") or (None if running else last.get("terminated"))
    return Pod(
        instance_id=UUID(meta["labels"][INSTANCE]),
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        shape=meta["labels"].get(SHAPE, ""),
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        restarts=container.get("restartCount") or 0,
        running_since=_time(running.get("startedAt")) if running else None,
        ended=_ended(ended) if ended else None,
        going="deletionTimestamp" in meta,
        failed=status.get("phase") == "Failed",
        waits_for=_words(waiting) or _unscheduled(status),
    )


def newest(pods: Collection[Pod]) -> Pod | None:
    """The pod that counts: one that stays before one that goes, then the youngest."""
    return max(
        pods,
        key=lambda pod: (not pod.going, not pod.failed, pod.created_at, pod.uid),
        default=None,
    )


def workload(deployed: Deployed | None, pods: Collection[Pod]) -> Workload:
    """How an agent stands."""
    pod = newest(pods)
    if deployed is None or deployed.going:
        left = [*(["its Deployment"] if deployed else []), *(f"pod {pod.name}" for pod in pods)]
        going = Workload(state=WorkloadState.STOPPING, waits_for=f"waits for {', '.join(left)}")
        return going if left else ABSENT
    wish = deployed.wish
    seen = Workload(
        state=WorkloadState.STARTING,
        generation=wish.generation if wish else 0,
        allowance=wish.allowance if wish else None,
        aligned=deployed.aligned,
        outdated=not deployed.aligned,
    )
    if wish is not None and not wish.up:
        if pod is None:
            # It ended because we asked: no failure, whatever it said at its end.
            return replace(seen, state=WorkloadState.EXITED, ref=wish.ended, exit_code=0)
        waits = f"waits for pod {pod.name}"
        return replace(seen, state=WorkloadState.STOPPING, ref=pod.ref, waits_for=waits)
    if pod is None or pod.going or pod.failed or pod.shape != deployed.shape:
        waits = f"waits for pod {pod.name} to go" if pod else deployed.trouble
        return replace(seen, waits_for=waits)
    return _of_pod(seen, pod)


def _of_pod(seen: Workload, pod: Pod) -> Workload:
    if pod.running_since is not None:
        return replace(seen, state=WorkloadState.RUNNING, ref=pod.ref, started_at=pod.running_since)
    if pod.ended is None:
        return replace(seen, ref=pod.ref, waits_for=pod.waits_for)
    return replace(
        seen,
        ref=pod.ref,
        exit_code=pod.ended.code,
        exited_at=pod.ended.at,
        waits_for=pod.waits_for,
    )


def _ended(state: Document) -> Ended:
    code = state.get("exitCode")
    if code is not None and code > _SIGNALLED:
        code = _SIGNALLED - code
    return Ended(code=code, at=_time(state.get("finishedAt")))


def _words(waiting: Document) -> str:
    said = [waiting.get("reason"), waiting.get("message")]
    return ": ".join(word for word in said if word)[:MAX_WORDS]


def _unscheduled(status: Document) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")[:MAX_WORDS]
    return ""


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
