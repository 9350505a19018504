"""Agents as pods, beyond what every provisioner promises; on a real API server."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from control_plane.fleet.provision.base import (
    ABSENT,
    SMALLEST,
    InstanceSpec,
    Ownership,
    Transient,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.kubernetes import KubernetesProvisioner
from control_plane.fleet.provision.kubernetes_api import path_of
from control_plane.fleet.provision.kubernetes_manifests import Wish, documents
from tests.control_plane.fleet.provision.pods import PATIENCE_S, PodBench

LOOKS = 10
TENANTS = 50


@pytest.fixture
def spec() -> InstanceSpec:
    some = replace(SMALLEST, bots=3, egress=("10.2.0.0/16",))
    return InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1, allowance=some)


@pytest.fixture
async def running(pods: PodBench, spec: InstanceSpec) -> KubernetesProvisioner:
    """A provisioner whose agent runs."""
    provisioner = pods.caller()
    await provisioner.ensure(spec)
    await pods.settled(provisioner, spec.instance_id)
    return provisioner


async def seen(provisioner: KubernetesProvisioner, instance_id: UUID) -> Workload:
    return (await provisioner.observe([instance_id]))[instance_id]


async def until(provisioner: KubernetesProvisioner, instance_id: UUID, as_expected) -> Workload:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await seen(provisioner, instance_id)
            if as_expected(found):
                return found
            await asyncio.sleep(0.1)


def paths(pods: PodBench, spec: InstanceSpec) -> list[str]:
    return [path_of(each) for each in documents(Wish.of(spec), pods.placement)]


class TestAConvergedAgent:
    """F1."""

    async def test_costs_no_write_however_often_it_is_looked_at(
        self, pods: PodBench, running, spec: InstanceSpec, cluster, cluster_prefix: str
    ) -> None:
        if not cluster.audited:
            pytest.skip("this cluster keeps no audit log for us")
        before = cluster.mark()
        await pods.caller().ensure(spec)
        for _ in range(LOOKS):
            assert (await seen(running, spec.instance_id)).aligned
            await running.ensure(spec)
        assert cluster.audit(before, prefix=cluster_prefix) == []

    async def test_costs_no_read_either_while_it_is_watched(
        self, pods: PodBench, running, spec: InstanceSpec
    ) -> None:
        changes = running.changes()
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(changes) == spec.instance_id
        await until(running, spec.instance_id, lambda _: running._mirrored(spec.instance_id))
        calls = []
        send = running._cluster._send

        async def counting(*asked: object) -> object:
            calls.append(asked)
            return await send(*asked)

        running._cluster._send = counting
        for _ in range(LOOKS):
            assert (await seen(running, spec.instance_id)).state is WorkloadState.RUNNING
        assert calls == []


EDITS = {
    "namespaces": {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
    "resourcequotas": {"spec": {"hard": {"pods": "100"}}},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "64"}}]}},
    "networkpolicies": {"spec": {"podSelector": {"matchLabels": {"nobody": "has"}}}},
    "serviceaccounts": {"automountServiceAccountToken": True},
    "deployments": {"spec": {"template": {"spec": {"hostNetwork": True}}}},
}


class TestDrift:
    """F2."""

    @pytest.mark.parametrize("number", range(8))
    async def test_an_edit_by_hand_is_repaired(
        self, pods: PodBench, running, spec: InstanceSpec, cluster, number: int
    ) -> None:
        wished = documents(Wish.of(spec), pods.placement)[number]
        where = path_of(wished)
        async with cluster.api() as api:
            await api.merge(where, EDITS[where.split("/")[-2]])
            assert not running._standing.holds(wished, await api.get(where))
            await running.ensure(spec)
            assert running._standing.holds(wished, await api.get(where))

    @pytest.mark.parametrize("number", range(1, 8))
    async def test_what_was_deleted_by_hand_comes_back(
        self, pods: PodBench, running, spec: InstanceSpec, cluster, number: int
    ) -> None:
        where = paths(pods, spec)[number]
        async with cluster.api() as api:
            uid = (await api.get(where))["metadata"]["uid"]
            await api.delete(where)
            await running.ensure(spec)
            assert (await api.get(where))["metadata"]["uid"] != uid

    async def test_is_seen_by_who_watches(
        self, running, spec: InstanceSpec, pods: PodBench, cluster
    ) -> None:
        running.changes()
        await until(running, spec.instance_id, lambda _: running._mirrored(spec.instance_id))
        async with cluster.api() as api:
            edit = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}}
            await api.merge(paths(pods, spec)[-1], edit)
        await until(running, spec.instance_id, lambda found: not found.aligned)
        await running.ensure(spec)
        await until(running, spec.instance_id, lambda found: found.aligned)

    async def test_around_an_agent_is_seen_by_the_resync(
        self, running, spec: InstanceSpec, pods: PodBench, cluster
    ) -> None:
        async with cluster.api() as api:
            await api.delete(paths(pods, spec)[3])
        changes = running.changes()
        await until(running, spec.instance_id, lambda found: not found.aligned)
        async with asyncio.timeout(PATIENCE_S):
            assert await anext(changes) == spec.instance_id
        await running.ensure(spec)
        assert (await seen(running, spec.instance_id)).aligned

    async def test_a_container_that_was_slipped_in_goes(
        self, running, spec: InstanceSpec, pods: PodBench, cluster
    ) -> None:
        where = paths(pods, spec)[-1]
        async with cluster.api() as api:
            slipped = {"name": "miner", "image": "miner:1"}
            template = {"spec": {"containers": [slipped]}}
            document = {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "spec": {"template": template},
            }
            await api.apply(where, document, manager="somebody")
            assert len((await api.get(where))["spec"]["template"]["spec"]["containers"]) == 2
            assert not (await seen(running, spec.instance_id)).aligned
            await running.ensure(spec)
            assert len((await api.get(where))["spec"]["template"]["spec"]["containers"]) == 1

    async def test_a_spoiled_wish_is_made_anew(
        self, running, spec: InstanceSpec, pods: PodBench, cluster
    ) -> None:
        async with cluster.api() as api:
            edit = {"metadata": {"annotations": {"botyard.dev/wish": "{"}}}
            await api.merge(paths(pods, spec)[-1], edit)
        spoiled = await seen(running, spec.instance_id)
        assert (spoiled.generation, spoiled.aligned) == (0, False)
        await running.ensure(spec)
        assert (await seen(running, spec.instance_id)).generation == 1


class TestAnAgentThatDoesNotStart:
    async def test_says_that_the_quota_is_full(self, pods: PodBench, spec: InstanceSpec) -> None:
        provisioner = pods.caller()
        tenants = replace(spec, allowance=replace(SMALLEST, bots=1))
        each = [replace(tenants, instance_id=uuid4()) for _ in range(3)]
        for one in each:
            await provisioner.ensure(one)
        last = await until(provisioner, each[-1].instance_id, lambda found: found.waits_for)
        assert last.state is WorkloadState.STARTING
        assert "exceeded quota" in last.waits_for


class TestRemoval:
    """F3."""

    async def test_keeps_the_tenants_other_agents(
        self, running, pods: PodBench, spec: InstanceSpec
    ) -> None:
        other = replace(spec, instance_id=uuid4())
        await running.ensure(other)
        kept = await pods.settled(running, other.instance_id)
        async with asyncio.timeout(PATIENCE_S):
            while (await running.destroy(spec.instance_id)) != ABSENT:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert [owned async for owned in running.inventory()] == [
            Ownership(instance_id=other.instance_id, ref=kept.ref)
        ]

    async def test_goes_on_wherever_the_last_caller_died(
        self, running, pods: PodBench, spec: InstanceSpec, cluster
    ) -> None:
        said = []
        async with asyncio.timeout(PATIENCE_S):
            callers = [pods.caller() for _ in range(4)]
            while (left := await callers[len(said) % 4].destroy(spec.instance_id)) != ABSENT:
                said.append(left.waits_for)
                await asyncio.sleep(0.3)
        assert said[0].startswith("waits for pod")
        assert said[-1].startswith("waits for namespace")
        async with cluster.api() as api:
            names = {
                each["metadata"]["name"] for each in (await api.get("/api/v1/namespaces"))["items"]
            }
        assert pods.placement.namespace(spec.tenant_id) not in names

    async def test_a_start_waits_until_the_former_namespace_is_gone(
        self, running, pods: PodBench, spec: InstanceSpec, cluster
    ) -> None:
        async with cluster.api() as api:
            await api.delete(paths(pods, spec)[0])
        with pytest.raises(Transient, match="former namespace"):
            await running.ensure(spec)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await running.ensure(spec)
                    break
                except Transient:
                    await asyncio.sleep(0.3)
        assert (await pods.settled(running, spec.instance_id)).state is WorkloadState.RUNNING


class TestInventory:
    async def test_shows_a_namespace_where_nobody_lives(
        self, pods: PodBench, spec: InstanceSpec
    ) -> None:
        provisioner = pods.caller()
        home = documents(Wish.of(spec), pods.placement)[0]
        await provisioner._cluster.apply(home)
        (owned,) = [owned async for owned in provisioner.inventory()]
        assert (owned.instance_id, owned.tenant_id) == (None, spec.tenant_id)

    async def test_shows_an_agent_of_which_only_the_account_is_left(
        self, running, pods: PodBench, spec: InstanceSpec, cluster
    ) -> None:
        async with cluster.api() as api:
            await api.delete(paths(pods, spec)[-1], {"propagationPolicy": "Background"})
        await until(running, spec.instance_id, lambda found: found == ABSENT)
        (owned,) = [owned async for owned in running.inventory()]
        assert (owned.instance_id, owned.tenant_id) == (spec.instance_id, spec.tenant_id)


async def counts(pods: PodBench) -> list[int]:
    """Namespaces, Deployments, their replica sets and pods that there are."""
    kinds = ("api/v1/namespaces", "apis/apps/v1/deployments", "apis/apps/v1/replicasets")
    selector = pods.placement.selector
    async with pods.cluster.api() as api:
        found = [
            await api.get(f"/{kind}", labelSelector=selector) for kind in (*kinds, "api/v1/pods")
        ]
    return [len(each["items"]) for each in found]


class TestManyTenants:
    async def test_start_at_once_with_as_many_writes_as_there_are_objects_and_then_none(
        self, pods: PodBench, spec: InstanceSpec, cluster, cluster_prefix: str
    ) -> None:
        if not cluster.audited:
            pytest.skip("this cluster keeps no audit log for us")
        provisioner = pods.caller()
        provisioner.changes()
        specs = [replace(spec, instance_id=uuid4(), tenant_id=uuid4()) for _ in range(TENANTS)]
        before = cluster.mark()
        await asyncio.gather(*(provisioner.ensure(each) for each in specs))
        for each in specs:
            await until(
                provisioner, each.instance_id, lambda found: found.state is WorkloadState.RUNNING
            )
        made = cluster.audit(before, prefix=cluster_prefix)
        assert len(made) == TENANTS * len(paths(pods, spec))
        assert {write.verb for write in made} == {"patch"}
        assert await counts(pods) == [TENANTS] * 4

        before = cluster.mark()
        for _ in range(LOOKS):
            seen = await provisioner.observe([each.instance_id for each in specs])
            assert all(found.aligned for found in seen.values())
            await asyncio.gather(*(provisioner.ensure(each) for each in specs))
        assert cluster.audit(before, prefix=cluster_prefix) == []
        assert await counts(pods) == [TENANTS] * 4

    async def test_a_stop_keeps_all_but_the_pod(
        self, running, pods: PodBench, spec: InstanceSpec, cluster
    ) -> None:
        await running.stop(spec.instance_id, grace=timedelta(seconds=1))
        await until(running, spec.instance_id, lambda found: found.state is WorkloadState.EXITED)
        async with cluster.api() as api:
            for where in paths(pods, spec):
                await api.get(where)
