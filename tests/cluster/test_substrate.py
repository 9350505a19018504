"""The cluster that other tests stand on does what they take for granted."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from kubernetes.aio import client as official
from kubernetes.aio import config

from tests.cluster.api import Api, ApiError, Json
from tests.cluster.handle import Cluster
from tests.cluster.kubelet import is_ready, path_of
from tests.cluster.substrate.image import PYTHON
from tests.cluster.substrate.plan import REAL, SIMULATED

WITHIN_S = 90
AUDIENCE = "botyard-control-plane"
MEMORY = 64 * 2**20
CPU_OF_1000 = 250
SERVE = (PYTHON, "-m", "http.server", "8080")
VISIT = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


class Ground:
    """One namespace, and short words for what tests do in it."""

    def __init__(self, cluster: Cluster, api: Api, namespace: str) -> None:
        self.cluster = cluster
        self.api = api
        self.namespace = namespace
        self.core = f"/api/v1/namespaces/{namespace}"
        self.deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    def container(self, *command: str, **more: Any) -> Json:
        image = self.cluster.agent_image or "localhost/nothing:1"
        words = list(command or ("sleep", "infinity"))
        return {"name": "bot", "image": image, "command": words, **more}

    def pod(self, node: str, container: Json, **more: Any) -> Json:
        meta = {"name": "bot", "annotations": more.pop("annotations", {})}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        spec |= {"automountServiceAccountToken": False}
        return {"metadata": meta, "spec": spec | self.cluster.place(node) | more}

    def deployment(self, node: str, container: Json) -> Json:
        pod = self.pod(node, container)
        pod["metadata"] = {"labels": {"app": "bot"}}
        spec = {"selector": {"matchLabels": {"app": "bot"}}, "template": pod}
        kind = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bot"}}
        return kind | {"spec": spec}

    async def run(self, pod: Json, until: Callable[[Json], bool]) -> Json:
        made = await self.api.post(f"{self.core}/pods", pod)
        return await self.until(f"{self.core}/pods", made["metadata"]["name"], until)

    async def until(self, path: str, name: str, there: Callable[[Json], bool]) -> Json:
        """An object, as soon as it is as wanted."""
        selector = f"metadata.name={name}"
        async with asyncio.timeout(WITHIN_S):
            async for event in self.api.watch(path, fieldSelector=selector):
                if event["type"] != "DELETED" and there(event["object"]):
                    found: Json = event["object"]
                    return found
        raise AssertionError(f"the server ended the watch of {name}")

    async def log(self, pod: Json) -> str:
        return await self.api.text(f"{path_of(pod)}/log")


@pytest.fixture
async def ground(cluster: Cluster, cluster_prefix: str) -> AsyncIterator[Ground]:
    async with cluster.api() as api:
        name = f"{cluster_prefix}ground"
        await api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        ground = Ground(cluster, api, name)
        # Pods are refused until it is there.
        await ground.until(f"{ground.core}/serviceaccounts", "default", lambda _: True)
        yield ground


def needs(cluster: Cluster, node: str) -> None:
    if node == REAL and (not cluster.real or cluster.agent_image is None):
        pytest.skip("this cluster has no node that runs the agent's image")
    if node == SIMULATED and not cluster.simulated:
        pytest.skip("this cluster has no simulated node")


@pytest.fixture(params=[REAL, SIMULATED])
def node(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    needs(cluster, request.param)
    return str(request.param)


@pytest.fixture
def real(cluster: Cluster) -> None:
    needs(cluster, REAL)


@pytest.fixture
def simulated(cluster: Cluster) -> None:
    needs(cluster, SIMULATED)


def ended(pod: Json) -> bool:
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def state(pod: Json) -> Json:
    found: Json = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
    return found


class TestDeployment:
    async def test_becomes_available_and_goes_with_its_pods(
        self, ground: Ground, node: str
    ) -> None:
        probe = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
        container = ground.container(*SERVE, readinessProbe=probe)
        await ground.api.post(ground.deployments, ground.deployment(node, container))

        await ground.until(
            ground.deployments, "bot", lambda one: one["status"].get("availableReplicas") == 1
        )
        pods = await ground.api.get(f"{ground.core}/pods")
        assert [pod["spec"]["nodeName"] for pod in pods["items"]] == [node]

        await ground.api.delete(f"{ground.deployments}/bot", {"propagationPolicy": "Foreground"})
        async with asyncio.timeout(WITHIN_S):
            version = pods["metadata"]["resourceVersion"]
            async for event in ground.api.watch(f"{ground.core}/pods", resourceVersion=version):
                if event["type"] == "DELETED":
                    break
        assert (await ground.api.get(f"{ground.core}/pods"))["items"] == []


class TestServerSideApply:
    async def test_says_who_else_owns_a_field(self, ground: Ground) -> None:
        path = f"{ground.core}/configmaps/words"

        def words(**data: str) -> Json:
            kind = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}}
            return kind | {"data": data}

        await ground.api.apply(path, words(hello="你好"), manager="one")
        with pytest.raises(ApiError) as refused:
            await ground.api.apply(path, words(hello="您好"), manager="another")
        taken = await ground.api.apply(path, words(hello="您好"), manager="another", force=True)

        assert refused.value.status == httpx2.codes.CONFLICT
        assert taken["data"] == {"hello": "您好"}

    async def test_of_what_is_already_so_changes_nothing(self, ground: Ground) -> None:
        document = ground.deployment(SIMULATED, ground.container()) | {}
        document["spec"]["replicas"] = 0
        path = f"{ground.deployments}/bot"
        await ground.api.apply(path, document, manager="one")
        settled = await ground.until(
            ground.deployments, "bot", lambda one: one["status"].get("observedGeneration") == 1
        )

        again = await ground.api.apply(path, document, manager="one")

        assert again["metadata"]["generation"] == settled["metadata"]["generation"]
        assert again["metadata"]["resourceVersion"] == settled["metadata"]["resourceVersion"]


class TestWatch:
    async def test_goes_on_from_a_list(self, ground: Ground) -> None:
        path = f"{ground.core}/configmaps"
        listed = await ground.api.get(path)
        await ground.api.post(path, {"metadata": {"name": "words"}})
        await ground.api.merge(f"{path}/words", {"data": {"hello": "你好"}})
        await ground.api.delete(f"{path}/words")

        seen = []
        async with asyncio.timeout(WITHIN_S):
            version = listed["metadata"]["resourceVersion"]
            async for event in ground.api.watch(path, resourceVersion=version):
                seen += [event["type"]] * (event["object"]["metadata"]["name"] == "words")
                if event["type"] == "DELETED":
                    break

        assert seen == ["ADDED", "MODIFIED", "DELETED"]


class TestOfficialClient:
    async def test_gets_along_with_this_server(self, ground: Ground) -> None:
        configuration = official.Configuration()
        path = str(ground.cluster.kubeconfig)
        await config.load_kube_config(path, client_configuration=configuration)
        async with official.ApiClient(configuration) as api:
            found = await official.CoreV1Api(api).read_namespace(ground.namespace)

        assert found.metadata is not None
        assert found.metadata.name == ground.namespace


class TestToken:
    async def test_in_a_pod_is_for_our_audience_and_bound_to_the_pod(
        self, ground: Ground, real: None
    ) -> None:
        token = {"audience": AUDIENCE, "expirationSeconds": 600, "path": "token"}
        volume = {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}}
        mount = {"name": "identity", "mountPath": "/identity"}
        container = ground.container("cat", "/identity/token", volumeMounts=[mount])
        document = ground.pod(REAL, container, volumes=[volume], restartPolicy="Never")
        # Root owns the token, unless the pod has a group.
        document["spec"]["securityContext"] = {"runAsNonRoot": True, "fsGroup": 10001}

        pod = await ground.run(document, ended)

        status = await self.review(ground.api, await ground.log(pod), AUDIENCE)
        assert status["user"]["username"] == f"system:serviceaccount:{ground.namespace}:default"
        extra = status["user"]["extra"]
        assert extra["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]

    async def test_is_refused_for_another_audience_and_without_its_pod(
        self, ground: Ground, simulated: None
    ) -> None:
        pod = await ground.run(ground.pod(SIMULATED, ground.container()), is_ready)
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
        made = await ground.api.post(
            f"{ground.core}/serviceaccounts/default/token",
            {"spec": {"audiences": [AUDIENCE], "boundObjectRef": bound}},
        )
        token = made["status"]["token"]

        assert (await self.review(ground.api, token, AUDIENCE))["authenticated"]
        assert not (await self.review(ground.api, token, "another")).get("authenticated")
        await ground.api.delete(path_of(pod), {"gracePeriodSeconds": 0})
        await self.refused(ground.api, token)

    async def refused(self, api: Api, token: str) -> None:
        """The server remembers its last answer for ten seconds."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                status = await self.review(api, token, AUDIENCE)
                if not status.get("authenticated"):
                    return
                await asyncio.sleep(0.5)

    async def review(self, api: Api, token: str, audience: str) -> Json:
        spec = {"token": token, "audiences": [audience]}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        status: Json = (await api.post(path, review))["status"]
        return status


class TestRealPod:
    async def test_has_the_limits_of_its_spec(self, ground: Ground, real: None) -> None:
        limits = {"memory": str(MEMORY), "cpu": f"{CPU_OF_1000}m"}
        container = ground.container(resources={"limits": limits, "requests": limits})

        pod = await ground.run(ground.pod(REAL, container), is_ready)

        group = ground.cluster.cgroup("memory", pod["metadata"]["uid"])
        held = [group / "memory.max", group / "memory.limit_in_bytes"]
        assert [int(file.read_text()) for file in held if file.exists()] == [MEMORY]

    async def test_runs_the_agent_and_says_what_it_printed(
        self, ground: Ground, real: None
    ) -> None:
        container = ground.container(PYTHON, "-m", "instance_agent", "--help")

        pod = await ground.run(ground.pod(REAL, container, restartPolicy="Never"), ended)

        assert pod["status"]["phase"] == "Succeeded"
        assert "One tenant's bot" in await ground.log(pod)

    async def test_that_needs_more_memory_is_ended(self, ground: Ground, real: None) -> None:
        greedy = ground.container(
            PYTHON, "-c", "bytearray(2**28)", resources={"limits": {"memory": str(MEMORY)}}
        )

        pod = await ground.run(ground.pod(REAL, greedy, restartPolicy="Never"), ended)

        assert state(pod)["terminated"]["reason"] == "OOMKilled"

    async def test_without_its_image_says_so(self, ground: Ground, real: None) -> None:
        container = ground.container() | {"image": "localhost/missing:1"}
        container["imagePullPolicy"] = "Never"

        pod = await ground.run(
            ground.pod(REAL, container), lambda pod: "waiting" in state(pod) and started(pod)
        )

        assert state(pod)["waiting"]["reason"] == "ErrImageNeverPull"

    async def test_is_reached_from_here_and_reaches_us(
        self, ground: Ground, real: None, greeter: int
    ) -> None:
        if ground.cluster.audited is False:
            pytest.skip("only a cluster of ours has a network that we can enter")
        pod = await ground.run(ground.pod(REAL, ground.container(*SERVE)), is_ready)
        address = pod["status"]["podIP"]
        with ground.cluster.reach(address, 8080) as port:
            answer = await visited(port)
        with ground.cluster.expose(greeter) as place:
            visitor = ground.container(PYTHON, "-c", VISIT, f"http://{place}/")
            document = ground.pod(REAL, visitor, restartPolicy="Never")
            document["metadata"]["name"] = "visitor"
            guest = await ground.run(document, ended)

        assert answer == httpx2.codes.OK
        assert await ground.log(guest) == "welcome\n"


async def visited(port: int) -> int:
    """The pod is ready when it was started, and listens a little later."""
    async with asyncio.timeout(WITHIN_S), httpx2.AsyncClient() as client:
        while True:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/")).status_code
            except httpx2.TransportError:
                await asyncio.sleep(0.1)


@pytest.fixture
async def greeter() -> AsyncIterator[int]:
    """A port of this machine that says welcome."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nwelcome")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1]


def started(pod: Json) -> bool:
    return state(pod)["waiting"].get("reason") != "ContainerCreating"


@pytest.mark.usefixtures("simulated")
class TestSimulatedPod:
    @pytest.mark.parametrize(
        ("annotation", "value", "there"),
        [
            ("waiting", "ImagePullBackOff", lambda pod: "waiting" in state(pod)),
            ("exits", "3", lambda pod: pod["status"]["phase"] == "Failed"),
            ("exits", "0", lambda pod: pod["status"]["phase"] == "Succeeded"),
            ("never-ready", "yes", lambda pod: "running" in state(pod) and not is_ready(pod)),
            ("ready-after", "0.1", is_ready),
            ("crash-after", "0.1", lambda pod: restarts(pod) > 1),
        ],
    )
    async def test_does_what_its_annotation_asks(
        self, ground: Ground, annotation: str, value: str, there: Callable[[Json], bool]
    ) -> None:
        wish = {f"simulator/{annotation}": value}
        document = ground.pod(SIMULATED, ground.container(), annotations=wish)

        assert await ground.run(document, there)


def restarts(pod: Json) -> int:
    return int(pod["status"].get("containerStatuses", [{}])[0].get("restartCount", 0))


class TestAudit:
    @pytest.fixture(autouse=True)
    def ours(self, cluster: Cluster) -> None:
        if not cluster.audited:
            pytest.skip("this cluster keeps no audit log for us")

    async def test_knows_every_write_and_no_read(self, ground: Ground) -> None:
        path = f"{ground.core}/configmaps"
        mark = ground.cluster.mark()
        await ground.api.post(path, {"metadata": {"name": "words"}})
        await ground.api.get(f"{path}/words")
        with pytest.raises(ApiError):
            await ground.api.post(path, {"metadata": {"name": "words"}})
        await ground.api.delete(f"{path}/words")

        written = ground.cluster.audit(mark, prefix=ground.namespace)

        assert [(each.verb, each.resource, each.status) for each in written] == [
            ("create", "configmaps", 201),
            ("create", "configmaps", 409),
            ("delete", "configmaps", 200),
        ]

    async def test_does_not_count_what_the_cluster_does_itself(self, ground: Ground) -> None:
        await ground.api.post(ground.deployments, ground.deployment(SIMULATED, ground.container()))
        mark = ground.cluster.mark()
        await ground.until(
            ground.deployments, "bot", lambda one: one["status"].get("replicas", 0) == 1
        )

        assert ground.cluster.audit(mark, prefix=ground.namespace) == []
