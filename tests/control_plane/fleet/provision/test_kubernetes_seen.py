"""How an agent stands, read from what the API server says."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from control_plane.fleet.provision.base import ABSENT, Allowance, Workload, WorkloadState
from control_plane.fleet.provision.kubernetes_manifests import (
    Document,
    Placement,
    Wish,
    deployment,
)
from control_plane.fleet.provision.kubernetes_seen import (
    Deployed,
    Pod,
    newest,
    read_deployment,
    read_pod,
    workload,
)

PLACEMENT = Placement(
    name="botyard", image="agent:1", control_url="http://api", control_namespace="botyard-system"
)
WISH = Wish(
    tenant_id=UUID(int=1),
    instance_id=UUID(int=2),
    generation=3,
    allowance=Allowance(cpu=250, memory=2**27),
)
NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:05:00Z"
RUNNING = {"state": {"running": {"startedAt": NOON}}, "restartCount": 0}
WAITING = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
KILLED = {"state": {"terminated": {"exitCode": 137, "finishedAt": LATER}}, "restartCount": 1}
BACKING_OFF = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3, "finishedAt": LATER}},
    "restartCount": 2,
}
STARTED_AGAIN = {
    "state": {"running": {"startedAt": LATER}},
    "lastState": {"terminated": {"exitCode": 3, "finishedAt": NOON}},
    "restartCount": 3,
}


def live_deployment(wish: Wish = WISH, **status: object) -> Document:
    live = deployment(wish, PLACEMENT)
    live["metadata"] |= {"uid": "d", "generation": 1, "resourceVersion": "7"}
    return live | {"status": status}


def deployed(wish: Wish = WISH, **status: object) -> Deployed:
    return read_deployment(live_deployment(wish, **status), PLACEMENT)


def pod(container: Document | None = None, *, name: str = "p", **more: object) -> Pod:
    template = deployment(WISH, PLACEMENT)["spec"]["template"]
    status = {"phase": more.pop("phase", "Running")}
    if container is not None:
        status["containerStatuses"] = [container]
    if "conditions" in more:
        status["conditions"] = more.pop("conditions")
    labels = template["metadata"]["labels"] | more.pop("labels", {})
    meta = {
        "name": name,
        "namespace": "n",
        "uid": name,
        "labels": labels,
        "creationTimestamp": NOON,
    }
    return read_pod({"metadata": meta | more, "status": status})


def state(container: Document) -> Workload:
    return workload(deployed(), [pod(container)])


class TestWorkload:
    def test_without_anything_is_absent(self) -> None:
        assert workload(None, []) == ABSENT

    def test_of_a_running_container_says_what_it_was_made_for(self) -> None:
        assert state(RUNNING) == Workload(
            state=WorkloadState.RUNNING,
            generation=3,
            allowance=WISH.allowance,
            ref="p.0",
            started_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
        )

    def test_without_a_pod_yet_is_starting_and_says_why(self) -> None:
        refused = {
            "type": "ReplicaFailure",
            "status": "True",
            "message": 'pods "x" is forbidden: exceeded quota: botyard',
        }
        seen = workload(deployed(conditions=[refused]), [])
        assert (seen.state, seen.ref) == (WorkloadState.STARTING, None)
        assert "exceeded quota" in seen.waits_for

    def test_whose_image_is_not_there_says_so(self) -> None:
        seen = state(WAITING)
        assert seen.state is WorkloadState.STARTING
        assert seen.waits_for == "ImagePullBackOff: no such image"
        assert seen.exited_at is None

    def test_that_no_node_has_room_for_says_so(self) -> None:
        full = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
        seen = workload(deployed(), [pod(conditions=[full], phase="Pending")])
        assert seen.waits_for == "0/3 nodes are available"

    @pytest.mark.parametrize(
        ("container", "ref", "code"), [(KILLED, "p.1", -9), (BACKING_OFF, "p.2", 3)]
    )
    def test_that_ended_is_started_again_by_its_node(
        self, container: Document, ref: str, code: int
    ) -> None:
        seen = state(container)
        assert (seen.state, seen.ref, seen.exit_code) == (WorkloadState.STARTING, ref, code)
        assert seen.exited_at == datetime(2026, 1, 1, 12, 5, tzinfo=UTC)

    def test_that_was_started_again_is_another_start(self) -> None:
        seen = state(STARTED_AGAIN)
        assert (seen.state, seen.ref, seen.exit_code) == (WorkloadState.RUNNING, "p.3", None)

    def test_of_an_older_generation_that_goes_is_starting(self) -> None:
        older = pod(RUNNING, labels={"botyard.dev/shape": "another"})
        seen = workload(deployed(), [older])
        assert (seen.state, seen.generation) == (WorkloadState.STARTING, 3)
        assert seen.waits_for == "waits for pod p to go"

    def test_counts_the_pod_that_stays(self) -> None:
        going = pod(RUNNING, name="old", deletionTimestamp=NOON)
        evicted = pod(name="evicted", phase="Failed", creationTimestamp=LATER)
        staying = pod(RUNNING, name="new")
        assert newest([going, staying, evicted]) == staying
        assert workload(deployed(), [going, staying, evicted]).ref == "new.0"

    def test_that_is_stopped_ends_without_a_failure(self) -> None:
        down = deployed(replace(WISH, up=False, ended="p.0"))
        going = workload(down, [pod(RUNNING, deletionTimestamp=NOON)])
        assert (going.state, going.waits_for) == (WorkloadState.STOPPING, "waits for pod p")
        gone = workload(down, [])
        assert (gone.state, gone.exit_code, gone.ref) == (WorkloadState.EXITED, 0, "p.0")

    def test_that_is_deleted_says_what_is_left(self) -> None:
        seen = workload(replace(deployed(), going=True), [pod(RUNNING)])
        assert seen == Workload(
            state=WorkloadState.STOPPING, waits_for="waits for its Deployment, pod p"
        )
        assert workload(None, [pod(RUNNING)]).waits_for == "waits for pod p"

    def test_whose_wish_was_spoiled_is_older_than_any(self) -> None:
        live = live_deployment()
        live["metadata"]["annotations"] = {}
        seen = workload(read_deployment(live, PLACEMENT), [pod(RUNNING)])
        assert (seen.generation, seen.aligned) == (0, False)


class TestAlignment:
    def test_holds_for_what_we_made(self) -> None:
        assert deployed().aligned

    def test_ends_with_an_edit_by_hand(self) -> None:
        live = live_deployment()
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
        assert not read_deployment(live, PLACEMENT).aligned

    def test_ends_when_this_place_would_make_it_otherwise_now(self) -> None:
        newer = replace(PLACEMENT, image="agent:2")
        assert not read_deployment(live_deployment(), newer).aligned
