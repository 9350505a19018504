"""The chart on a real API server: its objects are taken, its rights suffice, its release lives."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from control_plane.fleet.provision.base import (
    ABSENT,
    InstanceSpec,
    Invalid,
    Transient,
    WorkloadState,
)
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import Cluster as Way
from control_plane.fleet.provision.kubernetes_api import path_of as path_of_wish
from control_plane.fleet.provision.kubernetes_manifests import Placement, Wish, documents
from control_plane.fleet.provision.kubernetes_reviews import Reviews
from tests.cluster.api import Api, ApiError, Json
from tests.cluster.handle import Cluster
from tests.cluster.substrate.plan import SIMULATED
from tests.control_plane.fleet.provision.pods import PodBench, placement
from tests.control_plane.fleet.provision.test_kubernetes_reviews import Desk
from tests.helm.conftest import SETS, objects, one
from tests.helm.engine import CHART, Helm, HelmError

PATIENCE_S = 60
NOT_SERVED = {"policy/v1", "autoscaling/v2", "monitoring.coreos.com/v1"}
"""By the API server of the tests, which is older than the chart's least version."""

CORE = {
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
}
OTHERS = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "Job": "jobs",
    "Ingress": "ingresses",
    "NetworkPolicy": "networkpolicies",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}


def path_of(document: Json) -> str:
    meta, version = document["metadata"], document["apiVersion"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    inside = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{root}{inside}/{(CORE | OTHERS)[document['kind']]}/{meta['name']}"


@pytest.fixture
async def home(cluster: Cluster, cluster_prefix: str) -> AsyncIterator[str]:
    """A namespace for a release; what it has in the whole cluster goes with it."""
    name = f"{cluster_prefix}system"
    async with cluster.api() as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        yield name
        for kind in ("clusterroles", "clusterrolebindings"):
            for part in ("api", "controller"):
                where = f"/apis/rbac.authorization.k8s.io/v1/{kind}/{name}-botyard-{part}"
                try:
                    await api.delete(where)
                except ApiError as error:
                    if error.status != 404:
                        raise


class TestObjects:
    @pytest.mark.parametrize("name", SETS)
    async def test_are_taken_as_they_are(
        self, cluster: Cluster, home: str, helm: Helm, name: str
    ) -> None:
        made = objects(helm.render(SETS[name], namespace=home))
        async with cluster.api() as api:
            for document in made:
                if document["apiVersion"] in NOT_SERVED:
                    continue
                taken = await api.apply(path_of(document), document, manager="chart")
                assert taken["metadata"]["name"] == document["metadata"]["name"]


class Release:
    """The release `botyard` in a namespace of the tests' cluster."""

    def __init__(self, helm: Helm, cluster: Cluster, home: str) -> None:
        self._helm, self._cluster, self._home = helm, cluster, home

    async def act(self, action: str, **values: Any) -> Json:
        return await asyncio.to_thread(
            self._helm.release, action, self._cluster.kubeconfig, self._home, **values
        )

    async def deployments(self) -> dict[str, str]:
        """Their images."""
        async with self._cluster.api() as api:
            made = await api.get(f"/apis/apps/v1/namespaces/{self._home}/deployments")
        return {
            each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"]
            for each in made["items"]
        }


@pytest.fixture
def release(helm: Helm, cluster: Cluster, home: str, tmp_path: Path) -> Release:
    """Of our chart, said to be for this old cluster too."""
    chart = tmp_path / "botyard"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    del about["kubeVersion"]
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    return Release(replace(helm, chart=chart), cluster, home)


@dataclass
class Migrations:
    """What was there when each of them ran; and how the next ones end."""

    beside: list[dict[str, str]] = field(default_factory=list)
    fail: bool = False


@pytest.fixture
async def migrations(cluster: Cluster, home: str, release: Release) -> AsyncIterator[Migrations]:
    """Plays the migrations' containers."""
    if not cluster.simulated:
        pytest.skip("this cluster has no simulated node, so nobody plays the containers")
    made = Migrations()
    playing = asyncio.create_task(play(cluster, home, release, made))
    yield made
    playing.cancel()


async def play(cluster: Cluster, home: str, release: Release, made: Migrations) -> None:
    pods = f"/api/v1/namespaces/{home}/pods"
    async with cluster.api() as api:
        async for event in api.watch(pods, labelSelector="app.kubernetes.io/component=migrate"):
            pod = event["object"]
            if event["type"] == "MODIFIED" and pod["status"]["phase"] == "Running":
                made.beside.append(await release.deployments())
                await end(api, home, pod, failed=made.fail)


async def end(api: Api, home: str, pod: Json, *, failed: bool) -> None:
    if failed:
        # Its further tries would take minutes; the job is told that it had them.
        job = f"/apis/batch/v1/namespaces/{home}/jobs/botyard-migrate/status"
        await api.merge(job, {"status": {"conditions": [{"type": "Failed", "status": "True"}]}})
        return
    state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    containers = [
        each | {"ready": False, "state": state} for each in pod["status"]["containerStatuses"]
    ]
    where = f"/api/v1/namespaces/{home}/pods/{pod['metadata']['name']}/status"
    await api.merge(where, {"status": {"phase": "Succeeded", "containerStatuses": containers}})


def simulated(cluster: Cluster, values: Json) -> Json:
    """Without what this API server does not serve; pods go where nothing runs."""
    place = cluster.place(SIMULATED)
    return values | {
        "disruptionBudgets": False,
        "nodeSelector": place["nodeSelector"],
        "tolerations": place["tolerations"],
    }


OLD, NEW = "registry.example/botyard:0.1.0", "registry.example/botyard:9.9.9"
PROCESSES = ("botyard-api", "botyard-worker", "botyard-controller")


class TestARelease:
    """Helm's own install, upgrade, rollback and uninstall, with hooks."""

    async def test_migrates_before_anything_new_starts_and_leaves_nothing(
        self, cluster: Cluster, home: str, release: Release, migrations: Migrations
    ) -> None:
        values = simulated(cluster, SETS["needed"])
        await release.act("install", values=values)
        assert await release.deployments() == dict.fromkeys(PROCESSES, OLD)
        await release.act("upgrade", values=values | {"image": {**values["image"], "tag": "9.9.9"}})
        assert await release.deployments() == dict.fromkeys(PROCESSES, NEW)
        await release.act("rollback")
        assert await release.deployments() == dict.fromkeys(PROCESSES, OLD)
        # A rollback migrates nothing: a schema does not go back.
        assert migrations.beside == [{}, dict.fromkeys(PROCESSES, OLD)]
        await release.act("uninstall")
        assert await release.deployments() == {}

    async def test_stays_as_it_is_when_the_migration_fails(
        self, cluster: Cluster, release: Release, migrations: Migrations
    ) -> None:
        values = simulated(cluster, SETS["needed"])
        await release.act("install", values=values)
        migrations.fail = True
        newer = values | {"image": {**values["image"], "tag": "9.9.9"}}
        with pytest.raises(HelmError, match="botyard-migrate"):
            await release.act("upgrade", values=newer)
        assert await release.deployments() == dict.fromkeys(PROCESSES, OLD)

    async def test_keeps_a_trials_passwords_when_it_is_installed_again(
        self, cluster: Cluster, home: str, release: Release, migrations: Migrations
    ) -> None:
        values = simulated(cluster, SETS["trial"])
        where = f"/api/v1/namespaces/{home}/secrets/botyard-trial"
        async with cluster.api() as api:
            await release.act("install", values=values)
            first = (await api.get(where))["data"]
            await release.act("upgrade", values=values)
            assert (await api.get(where))["data"] == first
            await release.act("uninstall")
            await release.act("install", values=values)
            assert (await api.get(where))["data"] == first
        # Their database is there first, in a trial.
        assert migrations.beside == [dict.fromkeys(PROCESSES, OLD)] * 3


VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
Used = set[tuple[str, str]]


class Recorded(Way):
    """Notes what is asked of the API, by verb and resource, as its rights are written."""

    used: Used

    async def _send(self, method: str, where: str, query: Any, *rest: Any) -> Any:
        words = where.split("/v1/", 1)[1].split("/")
        if words[0] == "namespaces" and len(words) > 2:
            words = words[2:]
        verb = VERBS.get(method) or ("get" if len(words) > 1 else "list")
        resource = "/".join(words[::2])
        self.used.add(("watch" if "watch" in query else verb, resource))
        if "apply-patch+yaml" in rest:
            # What is applied and not there yet is created, which is another right.
            self.used.add(("create", resource))
        return await super()._send(method, where, query, *rest)


@dataclass
class Account:
    """One of the chart's service accounts, with the rights that the chart gives it."""

    kubeconfig: Path
    rights: Used
    used: Used = field(default_factory=set)

    async def way(self) -> Way:
        way = await Recorded.open(kubeconfig=self.kubeconfig, context=None, rate=1000, burst=1000)
        way.used = self.used
        return way


@pytest.fixture
async def accounts(
    cluster: Cluster, home: str, helm: Helm, tmp_path: Path
) -> AsyncIterator[dict[str, Account]]:
    """Those that may do anything in the cluster."""
    made = objects(helm.render(SETS["needed"], namespace=home))
    async with cluster.api() as api:
        for document in made:
            if document["kind"] in {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}:
                await api.apply(path_of(document), document, manager="chart")
        yield {
            part: Account(
                await kubeconfig_of(cluster, api, home, part, tmp_path),
                rights(one(made, "ClusterRole", f"{home}-botyard-{part}")),
            )
            for part in ("api", "controller")
        }


def rights(role: Json) -> Used:
    return {
        (verb, resource)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def kubeconfig_of(cluster: Cluster, api: Api, home: str, part: str, folder: Path) -> Path:
    """The cluster's, with the token that the part's pod would have."""
    account = f"/api/v1/namespaces/{home}/serviceaccounts/botyard-{part}"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await api.post(f"{account}/token", asked))["status"]["token"]
    document = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    for user in document["users"]:
        user["user"] = {"token": token}
    path = folder / f"{part}.kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture
def place(cluster: Cluster, cluster_prefix: str) -> Placement:
    return placement(cluster_prefix, SIMULATED if cluster.simulated else None)


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await done():
                return
            await asyncio.sleep(0.1)


async def running(provisioner: KubernetesProvisioner, spec: InstanceSpec) -> None:
    async def done() -> bool:
        seen = await provisioner.observe([spec.instance_id])
        return seen[spec.instance_id].state is WorkloadState.RUNNING

    await until(done)


async def removed(provisioner: KubernetesProvisioner, spec: InstanceSpec) -> None:
    async def done() -> bool:
        return await provisioner.destroy(spec.instance_id) == ABSENT

    await until(done)


async def looked_around(provisioner: KubernetesProvisioner) -> None:
    async def done() -> bool:
        return provisioner._round is not None

    await until(done)


class TestRights:
    """No more than is used, and no less: the API server of the tests enforces them."""

    async def test_of_a_controller_are_what_the_life_of_agents_takes(
        self, accounts: dict[str, Account], place: Placement
    ) -> None:
        controller = accounts["controller"]
        way = await controller.way()
        provisioner = KubernetesProvisioner(way, place)
        first = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1)
        second = replace(first, instance_id=uuid4())
        provisioner.changes()
        for spec in (first, second):
            await provisioner.ensure(spec)
            await running(provisioner, spec)
        for document in documents(Wish.of(first), place):
            # As it does where somebody added to a list.
            live = await way.get(path_of_wish(document))
            await way.replace(document, version=live["metadata"]["resourceVersion"])
        with suppress(Transient):
            # Of a pod without a container; what counts is that it may ask.
            async for _ in provisioner.logs(first.instance_id, tail=1, follow=False):
                pass
        await provisioner.stop(first.instance_id, grace=timedelta(seconds=1))
        assert {each.instance_id async for each in provisioner.inventory()} == {
            first.instance_id,
            second.instance_id,
        }
        await looked_around(provisioner)
        for spec in (first, second):
            await removed(provisioner, spec)
        await provisioner.close()

        assert controller.used == controller.rights

    async def test_of_an_api_are_what_recognising_and_showing_pods_takes(
        self, cluster: Cluster, accounts: dict[str, Account], place: Placement
    ) -> None:
        api = accounts["api"]
        spec = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1)
        bench = PodBench(cluster, place)
        await bench.open()
        maker = bench.caller()
        await maker.ensure(spec)
        await running(maker, spec)
        provisioner = KubernetesProvisioner(await api.way(), place)
        way = await api.way()
        desk = Desk(bench, Reviews({"": (way, place)}), spec)

        assert await desk.show(await desk.token()) is not None
        with suppress(Transient):
            async for _ in provisioner.logs(spec.instance_id, tail=1, follow=False):
                pass
        # A log that is followed ends with its instance.
        assert [line async for line in provisioner.logs(uuid4(), tail=1, follow=True)] == []
        await removed(maker, spec)
        await provisioner.close()
        await way.close()
        await bench.close()

        assert api.used == api.rights

    async def test_of_an_api_make_and_remove_nothing(
        self, accounts: dict[str, Account], place: Placement
    ) -> None:
        provisioner = KubernetesProvisioner(await accounts["api"].way(), place)
        spec = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1)
        with pytest.raises(Invalid):
            await provisioner.ensure(spec)
        await provisioner.close()

    @pytest.mark.parametrize("part", ["api", "controller"])
    async def test_lead_to_no_secret_and_to_no_further_right(
        self, accounts: dict[str, Account], home: str, part: str
    ) -> None:
        escapes = {"secrets", "roles", "rolebindings", "clusterroles", "clusterrolebindings"}
        escapes |= {"pods/exec", "pods/attach", "serviceaccounts/token", "*"}
        assert not {resource for _, resource in accounts[part].rights} & escapes
        assert not {verb for verb, _ in accounts[part].rights} & {"escalate", "bind", "*"}
        async with Api.at(accounts[part].kubeconfig) as client:
            for where in ("secrets", "configmaps"):
                with pytest.raises(ApiError) as refused:
                    await client.get(f"/api/v1/namespaces/{home}/{where}")
                assert refused.value.status == 403
