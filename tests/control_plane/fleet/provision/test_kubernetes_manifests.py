"""The documents of an agent: exactly these, valid by the schemas of a current Kubernetes."""

import json
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from control_plane.fleet.provision.base import Allowance, Release
from control_plane.fleet.provision.kubernetes_manifests import (
    Document,
    Placement,
    Wish,
    agent_name,
    deployment,
    documents,
    terms_of,
    walls,
    wish_of,
)
from tests.cluster.schemas import check

EXACTLY = Path(__file__).with_name("kubernetes_documents.json")
TENANT, INSTANCE = UUID(int=0xA), UUID(int=0xB)
PLACEMENT = Placement(
    name="botyard",
    image="registry.example/botyard-agent:1",
    control_url="https://botyard-api.botyard-system.svc:8080",
    control_namespace="botyard-system",
    control_networks=(ip_network("192.0.2.0/28"),),
    metrics_namespace="monitoring",
    outbound_allow=(ip_network("10.9.0.0/16"),),
)
WISH = Wish(
    tenant_id=TENANT,
    instance_id=INSTANCE,
    generation=3,
    allowance=Allowance(
        cpu=500, memory=256 * 2**20, bots=2, egress=("*.corp.example", "10.2.0.0/16", "fd00:2::/64")
    ),
)


def of_kind(made: list[Document], kind: str, name: str | None = None) -> Document:
    return next(
        each for each in made if each["kind"] == kind and name in (None, each["metadata"]["name"])
    )


class TestDocuments:
    def test_are_exactly_these_in_this_order(self) -> None:
        assert documents(WISH, PLACEMENT) == json.loads(EXACTLY.read_text())

    @pytest.mark.parametrize("number", range(8))
    def test_fit_the_schemas_of_a_current_kubernetes(self, number: int) -> None:
        check(documents(WISH, PLACEMENT)[number])

    @pytest.mark.parametrize(
        "where",
        [(), ("spec",), ("spec", "strategy"), ("spec", "template", "spec", "containers", 0)],
    )
    def test_a_field_that_kubernetes_does_not_know_would_fail(self, where: tuple) -> None:
        made = deployment(WISH, PLACEMENT)
        inner = made
        for step in where:
            inner = inner[step]
        inner["unheardOf"] = True
        with pytest.raises(ValidationError, match="unheardOf"):
            check(made)

    def test_expose_nothing(self) -> None:
        kinds = {each["kind"] for each in documents(WISH, PLACEMENT)}
        assert not kinds & {"Service", "Ingress", "Secret", "Role", "RoleBinding"}

    def test_hold_nothing_of_another_tenant(self) -> None:
        other = replace(WISH, tenant_id=uuid4(), instance_id=uuid4())
        text = json.dumps(documents(other, PLACEMENT))
        for mine in (TENANT, INSTANCE):
            assert str(mine) not in text
            assert mine.hex not in text

    def test_of_two_tenants_share_no_name(self) -> None:
        names = set()
        for tenant_id in (TENANT, uuid4(), uuid4()):
            for made in documents(replace(WISH, tenant_id=tenant_id), PLACEMENT):
                meta = made["metadata"]
                names.add((made["kind"], meta.get("namespace"), meta["name"]))
        assert len(names) == 3 * len(documents(WISH, PLACEMENT))

    def test_names_leave_room_for_what_kubernetes_appends(self) -> None:
        widest = replace(PLACEMENT, name="a" * 30)
        # A ReplicaSet appends 11 characters, a pod 6.
        assert len(agent_name(INSTANCE)) + 17 <= 63
        assert len(widest.namespace(TENANT)) <= 63

    def test_say_what_they_were_made_from(self) -> None:
        made = documents(WISH, PLACEMENT)
        assert wish_of(made[-1]) == WISH
        assert terms_of(made[0]) == WISH.terms
        assert documents(wish_of(made[-1]), PLACEMENT) == made

    @pytest.mark.parametrize("spoiled", ["", "{}", "nothing", '{"generation": "x"}', "\ud800"])
    def test_a_spoiled_wish_is_none(self, spoiled: str) -> None:
        made = deployment(WISH, PLACEMENT)
        made["metadata"]["annotations"]["botyard.dev/wish"] = spoiled
        assert wish_of(made) is None
        assert terms_of(made) is None

    def test_only_the_agents_own_change_with_the_generation(self) -> None:
        before = documents(WISH, PLACEMENT)
        after = documents(replace(WISH, generation=4), PLACEMENT)
        changed = [one["kind"] for one, other in zip(before, after, strict=True) if one != other]
        assert changed == ["Deployment"]

    def test_two_agents_of_a_tenant_stand_behind_the_same_walls(self) -> None:
        other = replace(WISH, instance_id=uuid4(), generation=9)
        assert walls(other.terms, PLACEMENT) == walls(WISH.terms, PLACEMENT)


class TestARelease:
    RELEASE = Release(number=7, image="agent:2", settings=(("log_level", "debug"),))

    def test_gives_the_pod_its_image_and_its_options(self) -> None:
        made = deployment(replace(WISH, release=self.RELEASE), PLACEMENT)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "agent:2"
        assert {"name": "BOTYARD_AGENT_LOG_LEVEL", "value": "debug"} in container["env"]
        assert wish_of(made) == replace(WISH, release=self.RELEASE)
        check(made)

    def test_without_an_image_leaves_the_places_own(self) -> None:
        made = deployment(replace(WISH, release=Release(number=8)), PLACEMENT)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        assert container["image"] == PLACEMENT.image

    def test_changes_nothing_but_the_deployment(self) -> None:
        before = documents(WISH, PLACEMENT)
        after = documents(replace(WISH, release=self.RELEASE), PLACEMENT)
        changed = [one["kind"] for one, other in zip(before, after, strict=True) if one != other]
        assert changed == ["Deployment"]

    def test_that_is_none_is_not_in_what_is_written(self) -> None:
        wish = deployment(WISH, PLACEMENT)["metadata"]["annotations"]["botyard.dev/wish"]
        assert "release" not in wish


class TestQuota:
    def test_leaves_room_for_one_surge_pod(self) -> None:
        hard = of_kind(documents(WISH, PLACEMENT), "ResourceQuota")["spec"]["hard"]
        assert hard["pods"] == "3"
        assert hard["limits.memory"] == str(3 * 256 * 2**20)
        assert hard["limits.cpu"] == "1500m"

    def test_is_a_number_also_where_a_plan_says_any(self) -> None:
        endless = replace(WISH, allowance=replace(WISH.allowance, bots=2**53))
        hard = of_kind(documents(endless, PLACEMENT), "ResourceQuota")["spec"]["hard"]
        assert int(hard["limits.memory"]) < 2**63


class TestNetwork:
    def rules(self, wish: Wish = WISH, placement: Placement = PLACEMENT) -> list[Document]:
        return of_kind(documents(wish, placement), "NetworkPolicy", "let-out")["spec"]["egress"]

    def test_a_plan_opens_its_networks_and_not_its_names(self) -> None:
        opened = {block["ipBlock"]["cidr"] for block in self.rules()[-1]["to"]}
        assert opened == {"10.2.0.0/16", "10.9.0.0/16", "fd00:2::/64"}
        assert "corp" not in json.dumps(self.rules())

    def test_without_any_the_private_networks_stay_closed(self) -> None:
        plain = replace(WISH, allowance=replace(WISH.allowance, egress=()))
        rules = self.rules(plain, replace(PLACEMENT, outbound_allow=()))
        assert len(rules) == 3
        assert all(rule.get("ports") for rule in rules)

    @pytest.mark.parametrize(
        "address", ["169.254.169.254/32", "10.0.0.1/32", "100.64.0.1/32", "fd00::1/128"]
    )
    def test_the_public_internet_has_no_private_corner(self, address: str) -> None:
        network = ip_network(address)
        for block in (block["ipBlock"] for block in self.rules()[2]["to"]):
            if ip_network(block["cidr"]).version == network.version:
                closed = [ip_network(each) for each in block["except"]]
                assert any(network.subnet_of(each) for each in closed)


class TestPlacement:
    @pytest.mark.parametrize("name", ["", "-a", "a-", "A", "1a", "a" * 31, "a.b", "a\n"])
    def test_refuses_a_name_that_no_namespace_can_have(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            replace(PLACEMENT, name=name)

    def test_must_say_where_the_control_plane_is(self) -> None:
        with pytest.raises(ValueError, match="control plane"):
            replace(PLACEMENT, control_namespace=None, control_networks=())
