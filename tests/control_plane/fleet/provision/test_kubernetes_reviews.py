"""A pod's token proves one start of one agent, to us alone, for as long as the pod lives."""

import base64
import json
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from control_plane.fleet.bootstrap import Proof
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.provision.kubernetes_manifests import AUDIENCE, PORT, agent_name
from control_plane.fleet.provision.kubernetes_reviews import MAX_TOKEN, Reviews, claims, pod_of
from control_plane.kit.errors import Unavailable
from tests.control_plane.fleet.provision.pods import PodBench

SPEC = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=7)
USER = "system:serviceaccount:home:agent"


class Desk:
    """Where a pod's token is made and shown."""

    def __init__(self, pods: PodBench, reviews: Reviews, spec: InstanceSpec) -> None:
        self.pods, self.reviews, self.spec = pods, reviews, spec

    async def token(
        self, *, audience: str = AUDIENCE, bound: bool = True, instance_id: UUID | None = None
    ) -> str:
        """As the node would have it made."""
        meta = (await self.pods.pod(instance_id or self.spec.instance_id))["metadata"]
        pod = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        account = agent_name(instance_id or self.spec.instance_id)
        wanted = {"audiences": [audience], "expirationSeconds": 600}
        wanted |= {"boundObjectRef": pod} if bound else {}
        where = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        async with self.pods.cluster.api() as api:
            made = await api.post(
                where,
                {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": wanted,
                },
            )
        return made["status"]["token"]

    async def show(self, token: str, **who: object) -> Proof | None:
        asked = {
            "instance_id": self.spec.instance_id,
            "tenant_id": self.spec.tenant_id,
            "cell": "",
            **who,
        }
        return await self.reviews.vouch(token=token, **asked)


@pytest.fixture
async def desk(pods: PodBench):
    spec = replace(SPEC, instance_id=uuid4(), tenant_id=uuid4())
    provisioner = pods.caller()
    await provisioner.ensure(spec)
    await pods.settled(provisioner, spec.instance_id)
    way = await pods.way()
    yield Desk(pods, Reviews({"": (way, pods.placement)}), spec)
    await way.close()


class TestAPodsToken:
    """F5."""

    async def test_proves_instance_tenant_generation_and_address(self, desk: Desk) -> None:
        pod = await desk.pods.pod(desk.spec.instance_id)
        address = pod["status"]["podIP"]
        assert await desk.show(await desk.token()) == Proof(
            tenant_id=desk.spec.tenant_id,
            instance_id=desk.spec.instance_id,
            generation=7,
            endpoint=f"https://{address}:{PORT}",
            place=pod["metadata"]["uid"],
        )

    async def test_may_be_shown_again_by_a_container_that_starts_again(self, desk: Desk) -> None:
        token = await desk.token()
        assert await desk.show(token) == await desk.show(token) is not None

    async def test_for_somebody_else_is_none(self, desk: Desk) -> None:
        assert await desk.show(await desk.token(audience="vault")) is None

    async def test_that_belongs_to_no_pod_is_none(self, desk: Desk) -> None:
        assert await desk.show(await desk.token(bound=False)) is None

    async def test_of_another_agent_is_none(self, desk: Desk) -> None:
        token = await desk.token()
        assert await desk.show(token, instance_id=uuid4()) is None
        assert await desk.show(token, tenant_id=uuid4()) is None

    async def test_ends_with_its_pod(self, desk: Desk) -> None:
        token = await desk.token()
        meta = (await desk.pods.pod(desk.spec.instance_id))["metadata"]
        where = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        async with desk.pods.cluster.api() as api:
            await api.delete(where, {"gracePeriodSeconds": 0})
        assert await desk.show(token) is None

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "a" * (MAX_TOKEN + 1), "a.b.c\n"])
    async def test_that_is_none_proves_nothing(self, desk: Desk, token: str) -> None:
        assert await desk.show(token) is None

    async def test_in_a_cell_without_a_cluster_proves_nothing(self, desk: Desk) -> None:
        assert await desk.show(await desk.token(), cell="elsewhere") is None

    async def test_cannot_be_told_while_the_cluster_is_away(self, desk: Desk) -> None:
        token = await desk.token()
        cluster, _ = desk.reviews._clusters[""]
        cluster._configuration.host = "https://127.0.0.1:1"
        with pytest.raises(Unavailable):
            await desk.show(token)


def token_of(claimed: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claimed).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


class TestClaims:
    def test_are_what_a_token_says_of_itself(self) -> None:
        assert claims(token_of({"sub": USER, "aud": [AUDIENCE]}), USER)

    @pytest.mark.parametrize(
        "claimed",
        [
            {"sub": f"{USER}x", "aud": [AUDIENCE]},
            {"sub": USER, "aud": ["another"]},
            {"sub": USER, "aud": 7},
            {"sub": USER},
            [],
            "x",
        ],
    )
    def test_of_anything_else_are_none(self, claimed: object) -> None:
        assert not claims(token_of(claimed), USER)

    async def test_of_a_stranger_are_not_asked_about(self, desk: Desk) -> None:
        cluster, _ = desk.reviews._clusters[""]
        cluster._configuration.host = "https://127.0.0.1:1"
        assert await desk.show(token_of({"sub": USER, "aud": [AUDIENCE]})) is None


def said(**changes: object) -> dict:
    extra = {
        "authentication.kubernetes.io/pod-name": ["p"],
        "authentication.kubernetes.io/pod-uid": ["u"],
    }
    review = {
        "authenticated": True,
        "audiences": [AUDIENCE],
        "user": {"username": USER, "extra": extra},
    }
    return review | changes


class TestPodOf:
    def test_names_the_pod(self) -> None:
        assert pod_of(said(), USER) == ("p", "u")

    @pytest.mark.parametrize(
        "changes",
        [
            {"authenticated": False},
            {"authenticated": "true"},
            {"audiences": None},
            {"audiences": ["https://kubernetes.default.svc"]},
            {"user": {"username": USER}},
            {"user": {"username": "system:serviceaccount:home:default"}},
            {"user": None},
        ],
    )
    def test_is_none_for_anything_else(self, changes: dict) -> None:
        assert pod_of(said(**changes), USER) is None
