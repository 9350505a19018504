"""A tenant's whole life on a real cluster, and its customers' conversations through it.

The agent's own image runs in a pod of a real node, or the agent is a process that stands for a pod
of two other nodes; the control plane is the real processes over a real PostgreSQL. While somebody
breaks what can be broken, customers write all along; at the end everything that was
acknowledged must have been kept, and of the tenant nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import asyncpg
import pytest

from adapters.simulators.wecom import WeCom
from control_plane.fleet.provision.kubernetes_manifests import PLACE
from tests.cluster.api import ApiError
from tests.cluster.handle import Cluster
from tests.cluster.house import PARTS, PATIENCE_S, House
from tests.cluster.nodes import Nodes
from tests.cluster.tenant import UNKNOWN, Tenant, busy, done
from tests.e2e.conftest import until
from tests.faults import witness
from tests.faults.checker import at_rest, check
from tests.faults.installation import OPERATOR, sign_in
from tests.model_provider import providing

NOT_FOUND = 404
KINDS = (
    *("api/v1/namespaces", "api/v1/pods", "api/v1/serviceaccounts", "api/v1/resourcequotas"),
    *("api/v1/limitranges", "apis/networking.k8s.io/v1/networkpolicies"),
    *("apis/apps/v1/deployments", "apis/apps/v1/replicasets"),
)
"""All that a tenant is made of."""


@pytest.fixture
async def tenant(
    cluster: Cluster,
    nodes: Nodes,
    cluster_prefix: str,
    app_url: str,
    superuser: asyncpg.Connection,
    tmp_path: Path,
) -> AsyncIterator[Tenant]:
    """Registered and approved, its bot made and its channels configured."""
    await witness.install(superuser)
    async with AsyncExitStack() as stack:
        wecom = await stack.enter_async_context(WeCom())
        provider = await stack.enter_async_context(providing())
        ways = [
            stack.enter_context(cluster.expose(port))
            for port in (int(wecom.url.rpartition(":")[2]), provider.port)
        ]
        house = House(cluster, nodes, cluster_prefix, tmp_path)
        await stack.enter_async_context(house.up(app_url))
        said = await house.command("operator", OPERATOR)
        tenant = Tenant(
            house=house,
            nodes=nodes,
            api=await stack.enter_async_context(cluster.api()),
            wecom=wecom,
            provider=provider,
            prefix=cluster_prefix,
            boss=await stack.enter_async_context(house.client()),
            operator=await stack.enter_async_context(house.client()),
        )
        await sign_in(tenant.operator, {"email": OPERATOR, "password": said.split()[-1]})
        await tenant.register()
        await tenant.furnish(f"http://{ways[0]}", f"http://{ways[1]}/v1")
        try:
            yield tenant
        finally:
            for name in PARTS:
                print(f"--- {name}", house.log(name)[-1500:], sep="\n")


# --- the steps: each leaves a bot that answers -------------------------------------------------


async def is_answered(tenant: Tenant) -> None:
    """A pod runs the agent, and customers of both platforms are answered through it."""
    await tenant.is_connected()
    pod = await tenant.pod()

    assert pod["spec"]["nodeName"] in tenant.nodes.names
    assert pod["spec"]["containers"][0]["image"] == tenant.nodes.image
    await tenant.answers()


async def is_changed_hot(tenant: Tenant) -> None:
    """The same container goes on with another model, as another person."""
    before = await tenant.start()
    for model, name in (("first", "小叶"), ("second", "小茶")):
        number = await tenant.publish(tenant.document(model, persona={"name": name}))

        async def applied(number: int = number) -> bool:
            return bool((await tenant.standing())["applied"] == number)

        await until(applied, "the agent runs the new configuration", PATIENCE_S)
        tenant.provider.answer = f"去 隔壁 的 {model} 店。"
        await tenant.tells(UNKNOWN, f"去隔壁的{model}店。")
        assert [each.body["model"] for each in tenant.provider.asked[-2:]] == [model] * 2
        assert tenant.guest.page.shown[-1]["sender"]["name"] == name

    assert await tenant.start() == before


async def refuses_a_bad_one(tenant: Tenant) -> None:
    """What only the agent can see is refused there, and the bot goes on; then one goes back."""
    before, good = await tenant.start(), await tenant.standing()
    limits = {"limits": {"spool_max_bytes": 2**50}}
    bad = await tenant.publish(tenant.document("first", **limits))

    async def refused() -> bool:
        return bool((await tenant.standing())["rejected"] == bad)

    await until(refused, "the agent refuses the configuration", PATIENCE_S)
    await tenant.is_connected(phase="degraded")
    await tenant.answers()
    standing = await tenant.standing()
    assert (standing["applied"], standing["last_good"]) == (good["applied"], good["applied"])
    assert [each["path"] for each in standing["errors"]] == ["/limits/spool_max_bytes"]
    assert await tenant.start() == before

    rolled_back = {"number": good["applied"]}
    done(await tenant.boss.post(f"/instances/{tenant.bot}/rollback", json=rolled_back))
    await tenant.is_connected()


async def outlives_its_pod(tenant: Tenant) -> None:
    """Deleted by hand."""
    before = await tenant.pod()
    await tenant.api.delete(tenant.path("pods", before["metadata"]["name"]))

    await tenant.another_pod(than=before)
    await tenant.answers()


async def is_put_right_when_edited(tenant: Tenant) -> None:
    """What is watched at once; walls with the first round of whoever looks next.

    With its account went its pod's proof, so it gets another pod.
    """
    pod = await tenant.pod()
    own = tenant.path("deployments", tenant.agent, "apis/apps/v1")
    await tenant.api.merge(own, {"spec": {"replicas": 0}})
    await tenant.another_pod(than=pod)
    await tenant.answers()

    home = f"/api/v1/namespaces/{tenant.namespace}"
    door = tenant.path("networkpolicies", "let-out", "apis/networking.k8s.io/v1")
    account = tenant.path("serviceaccounts", tenant.agent)
    label = "pod-security.kubernetes.io/enforce"
    before = [await tenant.api.get(where) for where in (door, home, account)]
    await tenant.api.merge(door, {"spec": {"egress": [{}]}})
    await tenant.api.merge(home, {"metadata": {"labels": {label: "privileged"}}})
    await tenant.api.delete(account)

    async def put_right() -> bool:
        try:
            now = [await tenant.api.get(where) for where in (door, home, account)]
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return False
        same_door = now[0]["spec"] == before[0]["spec"]
        same_home = now[1]["metadata"]["labels"] == before[1]["metadata"]["labels"]
        return same_door and same_home

    pod = await tenant.pod()
    tenant.house.kill("controller")
    await until(put_right, "what was edited by hand is as it was", PATIENCE_S)
    await tenant.another_pod(than=pod)
    await tenant.answers()


async def outlives_its_node(tenant: Tenant) -> None:
    """Drained: no pod may come to it any more, and the one that is there is asked to go.

    The next one comes to another node, or waits until this one takes pods again.
    """
    before = await tenant.pod()
    name, left = before["metadata"]["name"], before["spec"]["nodeName"]
    node = f"/api/v1/nodes/{left}"
    eviction = {
        "apiVersion": "policy/v1beta1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": tenant.namespace},
    }
    await tenant.api.merge(node, {"spec": {"unschedulable": True}})
    try:
        await tenant.api.post(f"{tenant.path('pods', name)}/eviction", eviction)
        if tenant.nodes.names == (left,):
            await waits_for_a_node(tenant)
        else:
            pod = await tenant.another_pod(than=before)
            assert pod["spec"]["nodeName"] in set(tenant.nodes.names) - {left}
    finally:
        await tenant.api.merge(node, {"spec": {"unschedulable": None}})
    await tenant.another_pod(than=before)
    await tenant.answers()


async def waits_for_a_node(tenant: Tenant) -> None:
    async def so() -> bool:
        conditions = (await tenant.instance())["conditions"]
        said = [each["message"] for each in conditions if each["type"] == "WorkloadRunning"]
        return "unschedulable" in str(said)

    await until(so, "the bot says that it waits for a node", PATIENCE_S)


async def is_rolled_out_by_waves(tenant: Tenant) -> None:
    """Another release reaches the canaries' pods first; one that does not start goes back."""
    group = f"/tenants/{tenant.id}/rollout-group"
    done(await tenant.operator.put(group, json={"group": "canary"}))
    before = await tenant.pod()
    given = {"image": tenant.nodes.another, "settings": {"log_level": "debug"}}
    good = await tenant.rolls_out(given, ready_within_s=120)

    assert (good["state"], good["members"]["good"]) == ("done", 1)
    assert len(good["began"]) == len(good["waves"])
    pod = await tenant.another_pod(than=before)
    assert pod["spec"]["containers"][0]["image"] == tenant.nodes.another
    options = pod["spec"]["containers"][0]["env"]
    assert {"name": "BOTYARD_AGENT_LOG_LEVEL", "value": "debug"} in options
    await tenant.answers()

    image = {"image": "registry.invalid/no-agent:1"}
    bad = await tenant.rolls_out(image, ready_within_s=10)
    assert (bad["state"], bad["members"]["failed"]) == ("rolled_back", 1)
    await tenant.is_connected()
    pod = await tenant.pod()
    assert pod["spec"]["containers"][0]["image"] == tenant.nodes.another
    await tenant.answers()


async def sleeps_and_is_woken(tenant: Tenant) -> None:
    """Put to sleep by its people; the next customer wakes it and is answered."""
    before = await tenant.pod()
    done(await tenant.boss.post(f"/instances/{tenant.bot}/hibernate"))
    await tenant.another_pod(than=before)
    await tenant.is_connected()
    await tenant.answers()

    timeline = done(await tenant.boss.get(f"/instances/{tenant.bot}/timeline"))["items"]
    assert "instance.hibernate" in {each["type"] for each in timeline}


async def is_suspended_and_resumed(tenant: Tenant) -> None:
    """No pod while it is suspended; its walls stay."""
    done(await tenant.operator.post(f"/tenants/{tenant.id}/suspend"))

    async def no_pod() -> bool:
        return await tenant.pods() == []

    await until(no_pod, "a suspended tenant's pod is gone", PATIENCE_S)
    await tenant.api.get(tenant.path("serviceaccounts", tenant.agent))

    done(await tenant.operator.post(f"/tenants/{tenant.id}/resume"))
    await tenant.is_connected()
    await tenant.answers()


STEPS: tuple[Callable[[Tenant], Awaitable[None]], ...] = (
    is_answered,
    is_changed_hot,
    refuses_a_bad_one,
    outlives_its_pod,
    is_put_right_when_edited,
    outlives_its_node,
    is_rolled_out_by_waves,
    sleeps_and_is_woken,
    is_suspended_and_resumed,
)


class TestJourney:
    async def test_of_a_tenant_loses_nothing_and_leaves_nothing(
        self, tenant: Tenant, superuser: asyncpg.Connection
    ) -> None:
        end = asyncio.Event()
        async with busy(tenant, Random(1), end):
            for step in STEPS:
                began = time.monotonic()
                await step(tenant)
                print(f"{step.__name__}: {time.monotonic() - began:.1f} s")
            end.set()
            await self.nothing_is_lost(tenant, superuser)
        await self.nothing_is_left(tenant)

    async def nothing_is_lost(self, tenant: Tenant, connection: asyncpg.Connection) -> None:
        async def still() -> bool:
            pages = [each.page for each in tenant.guests]
            return not any(page.unacknowledged for page in pages) and await at_rest(connection)

        await until(still, "an end of all work", PATIENCE_S)
        found = await check(connection, tenant.people, {})
        print(dict(sorted(found.counts.items())))
        assert found.wrong == []
        assert tenant.wecom.silenced == []
        assert found.counts["turns answered"] > 0
        assert (
            set(found.counts) & {"turns handed_over", "bot's failed", "bot's unconfirmed"} == set()
        )

    async def nothing_is_left(self, tenant: Tenant) -> None:
        done(await tenant.operator.delete(f"/tenants/{tenant.id}"))

        async def deleted() -> bool:
            said = await tenant.operator.get(f"/tenants/{tenant.id}")
            return bool(done(said)["state"] == "deleted")

        await until(deleted, "the tenant is deleted", PATIENCE_S)
        place = f"{PLACE}={tenant.prefix.rstrip('-')}"
        for kind in KINDS:
            found = await tenant.api.get(f"/{kind}", labelSelector=place)
            assert found["items"] == [], kind
