"""What the chart comes to: valid objects, told what the processes understand, with few rights."""

import os
import re
import types
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError

from control_plane import parts, serve
from control_plane.access.limits import Rates
from control_plane.settings import PREFIX, Settings, _secret_names
from tests.cluster import schemas
from tests.helm.conftest import NEEDED, SETS, objects, one

Json = dict[str, Any]
PARTS = ("api", "worker", "controller")
OF_OTHERS = {"PodMonitor", "PrometheusRule"}
"""Kinds that Kubernetes' own client does not know."""

VALUES = {
    "database-url": "postgresql+asyncpg://botyard:x@db/botyard",
    "owner-database-url": "postgresql+asyncpg://owner:x@db/botyard",
    "secret-keys": "k" * 32,
    "redis-url": "redis://:x@redis:6379/0",
    "smtp-url": "smtps://x:x@mail.example.com:465",
    "media-key": "key",
    "media-secret": "secret",
}


def pods(documents: list[Json]) -> dict[str, Json]:
    """The pod specs by the names of what makes them."""
    return {
        document["metadata"]["name"]: document["spec"]["template"]
        for document in documents
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


@pytest.fixture(params=SETS)
def made(request, documents) -> list[Json]:
    return documents(request.param)


class TestObjects:
    def test_fit_the_schemas_of_a_current_kubernetes(self, made: list[Json]) -> None:
        for document in made:
            if document["kind"] not in OF_OTHERS:
                schemas.check(document)

    def test_with_a_field_that_kubernetes_does_not_know_would_fail(self, documents) -> None:
        document = one(documents("needed"), "Deployment", "botyard-api")
        container = document["spec"]["template"]["spec"]["containers"][0] | {"imagePolicy": "x"}
        spec = document["spec"]["template"]["spec"] | {"containers": [container]}
        template = document["spec"]["template"] | {"spec": spec}
        with pytest.raises(ValidationError, match="imagePolicy"):
            schemas.check(document | {"spec": document["spec"] | {"template": template}})

    def test_have_names_of_their_own_and_the_release_in_their_labels(self, made) -> None:
        names = [(each["kind"], each["metadata"]["name"]) for each in made]
        assert len(names) == len(set(names))
        for each in made:
            assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "botyard"

    def test_are_in_the_releases_namespace_or_carry_it_in_their_names(self, made) -> None:
        for each in made:
            if each["kind"].startswith("ClusterRole"):
                assert each["metadata"]["name"].startswith("botyard-system-")
            else:
                assert each["metadata"]["namespace"] == "botyard-system"

    def test_that_select_pods_select_some(self, made: list[Json]) -> None:
        labels = [template["metadata"]["labels"] for template in pods(made).values()]
        for each in made:
            spec = each.get("spec", {})
            asked = spec.get("podSelector") or spec.get("selector") or {}
            asked = asked.get("matchLabels", asked)
            if each["kind"] in OF_OTHERS or "matchExpressions" in asked or not asked:
                continue
            assert any(asked.items() <= have.items() for have in labels), each["metadata"]["name"]

    def test_of_a_service_lead_to_ports_that_are_there(self, made: list[Json]) -> None:
        named = {
            port["name"]
            for template in pods(made).values()
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        services = [each for each in made if each["kind"] == "Service"]
        assert {port["targetPort"] for each in services for port in each["spec"]["ports"]} <= named

    def test_of_two_releases_in_one_namespace_share_no_name(self, helm) -> None:
        one, other = (
            {
                (each["kind"], each["metadata"]["name"])
                for each in objects(helm.render(NEEDED, name=name))
            }
            for name in ("botyard", "second")
        )
        assert not one & other

    def test_keep_short_names_for_a_long_release(self, helm) -> None:
        made = objects(helm.render(SETS["trial"], name="a" * 53))
        longest = {each["kind"]: len(each["metadata"]["name"]) for each in made}
        # A label of a StatefulSet's pods appends 11 characters to its name, of a Deployment's 17.
        assert longest["StatefulSet"] <= 52
        assert longest["Deployment"] <= 46
        assert longest["Service"] <= 63


class TestEnvironment:
    @pytest.mark.parametrize("part", PARTS)
    def test_is_valid_and_known_to_the_settings(self, made, part, tmp_path, monkeypatch) -> None:
        spec = pods(made)[f"botyard-{part}"]["spec"]
        given = environment(spec, tmp_path)
        assert unknown(given) == set()
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

        settings = Settings()

        assert settings.database_url is not None
        assert settings.secret_keys
        assert settings.provisioner == "kubernetes"
        assert settings.placement("").control_namespace == "botyard-system"
        # Where probes, the Service and agents look.
        port = spec["containers"][0]["ports"][0]["containerPort"]
        assert {settings.port, settings.probe_port, settings.kubernetes.control_port} == {port}
        assert settings.owner_database_url is None

    def test_reaches_settings_of_every_kind(self, helm, tmp_path, monkeypatch) -> None:
        values = NEEDED | {
            "settings": {"RETENTION_MAX_DAYS": 365, "RATES__SIGN_IN": "9/hour"},
            "agents": {**NEEDED["agents"], "nodes": {"pool": "bots"}, "taints": ["bots"]},
        }
        made = objects(helm.render(values))
        for name, value in environment(pods(made)["botyard-api"]["spec"], tmp_path).items():
            monkeypatch.setenv(name, value)

        settings = Settings()

        assert settings.retention_max_days == 365
        assert str(settings.rates.sign_in) == str(Rates(sign_in="9/hour").sign_in)
        assert settings.kubernetes.nodes == {"pool": "bots"}
        assert settings.kubernetes.taints == ("bots",)

    def test_of_a_migration_has_both_databases(self, made, tmp_path, monkeypatch) -> None:
        given = environment(pods(made)["botyard-migrate"]["spec"], tmp_path)
        assert unknown(given) == set()
        for name, value in given.items():
            monkeypatch.setenv(name, value)

        settings = Settings()

        assert settings.database_url is not None
        assert settings.owner_database_url is not None
        assert settings.secret_keys == []

    def test_holds_no_secret(self, made: list[Json]) -> None:
        """Files only: an environment shows in many places."""
        secret = {f"{PREFIX}{name}".upper() for name in _secret_names(Settings)}
        for template in pods(made).values():
            for container in template["spec"]["containers"]:
                for variable in container.get("env", []):
                    assert variable["name"] not in secret
                    assert "secretKeyRef" not in str(variable)

    def test_that_nobody_knows_would_fail(self) -> None:
        assert unknown(
            {"BOTYARD_PUBLIC_URI": "", "BOTYARD_KUBERNETES__IMAGES": "", "HOME": ""}
        ) == {
            "BOTYARD_PUBLIC_URI",
            "BOTYARD_KUBERNETES__IMAGES",
        }


def environment(spec: Json, folder: Path) -> dict[str, str]:
    """What a pod's container is told, its secrets as files in a folder here."""
    (container,) = spec["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "secrets"]
    for item in volume["secret"]["items"]:
        (folder / item["path"]).write_text(VALUES[item["key"]])
    return {
        each["name"]: each["value"].replace(mount["mountPath"], str(folder))
        for each in container["env"]
    }


def unknown(given: dict[str, str]) -> set[str]:
    """Variables of ours that no setting reads."""
    known = {f"{PREFIX}{name}" for name in variables(Settings)}
    known |= {f"{PREFIX}{name.upper()}_FILE" for name in _secret_names(Settings)}
    return {name for name in given if name.startswith(PREFIX)} - known


def variables(model: type[BaseModel]) -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        found.add(name.upper())
        for kind in (field.annotation, *get_args(field.annotation)):
            plain = isinstance(kind, type) and not isinstance(kind, types.GenericAlias)
            if plain and issubclass(kind, BaseModel):
                found |= {f"{name.upper()}__{inner}" for inner in variables(kind)}
    return found


class TestPods:
    def test_may_do_nothing_on_their_nodes(self, made: list[Json]) -> None:
        """As the strictest of Kubernetes' Pod Security levels asks."""
        for template in pods(made).values():
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"]
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
            assert all(not {"hostPath"} & set(volume) for volume in spec["volumes"])
            for container in spec["containers"]:
                context = container["securityContext"]
                assert context["readOnlyRootFilesystem"]
                assert not context["allowPrivilegeEscalation"]
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert set(container["resources"]) == {"limits", "requests"}

    def test_write_to_bounded_volumes_only(self, made: list[Json]) -> None:
        for template in pods(made).values():
            for volume in template["spec"]["volumes"]:
                assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""})

    def test_mount_volumes_that_are_there(self, made: list[Json]) -> None:
        for document in made:
            if document["kind"] not in {"Deployment", "StatefulSet", "Job"}:
                continue
            spec = document["spec"]["template"]["spec"]
            there = {volume["name"] for volume in spec["volumes"]}
            claims = document["spec"].get("volumeClaimTemplates", [])
            there |= {claim["metadata"]["name"] for claim in claims}
            for container in spec["containers"]:
                assert {each["name"] for each in container["volumeMounts"]} <= there

    def test_keep_secrets_from_other_users(self, made: list[Json]) -> None:
        for template in pods(made).values():
            for volume in template["spec"]["volumes"]:
                assert volume.get("secret", {"defaultMode": 0o440})["defaultMode"] == 0o440

    def test_read_the_owners_secret_only_to_migrate(self, made: list[Json]) -> None:
        reading = {
            name
            for name, template in pods(made).items()
            for volume in template["spec"]["volumes"]
            for item in volume.get("secret", {}).get("items", [{"key": "all of them"}])
            if "secret" in volume and item["key"] in {"owner-database-url", "all of them"}
        }
        assert reading == {"botyard-migrate"}

    def test_call_the_cluster_only_where_they_must(self, made: list[Json]) -> None:
        calling = {
            name
            for name, template in pods(made).items()
            if template["spec"].get("automountServiceAccountToken", True)
        }
        assert calling == {"botyard-api", "botyard-controller"}

    def test_have_time_to_drain(self, made: list[Json]) -> None:
        # api stops three groups of parts, the others two.
        longest = 3 * parts.STOP_WITHIN_S + serve._CLOSE_WITHIN_S
        spec = pods(made)["botyard-api"]["spec"]
        told = {each["name"]: each["value"] for each in spec["containers"][0]["env"]}
        notice = float(told["BOTYARD_DRAIN_NOTICE_S"])
        assert spec["terminationGracePeriodSeconds"] >= longest + notice

    def test_are_started_by_commands_that_there_are(self, made: list[Json]) -> None:
        from control_plane.cli import cli

        commands = {each.name or each.callback.__name__ for each in cli.registered_commands}
        for name, template in pods(made).items():
            (container,) = template["spec"]["containers"]
            if "-trial-" not in name:
                assert container["args"][0] in commands


class TestMigration:
    def test_comes_before_all_else(self, documents) -> None:
        job = one(documents("needed"), "Job", "botyard-migrate")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        # Nothing of the release is there yet.
        assert job["spec"]["template"]["spec"]["serviceAccountName"] == "default"
        volumes = job["spec"]["template"]["spec"]["volumes"]
        assert [each["secret"]["secretName"] for each in volumes if "secret" in each] == ["botyard"]
        assert not any("persistentVolumeClaim" in each or "configMap" in each for each in volumes)

    def test_of_a_trial_waits_for_the_database_that_is_brought_along(self, documents) -> None:
        job = one(documents("trial"), "Job", "botyard-migrate")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,pre-upgrade"


class TestIngress:
    def test_leads_to_what_is_for_people_and_platforms(self, documents, app) -> None:
        """Every route is behind it or known to be for the inside."""
        ingress = one(documents("production"), "Ingress", "botyard")
        (rule,) = ingress["spec"]["rules"]
        open_ = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
        inside = {"healthz", "readyz", "metrics", "webchat-platform"}
        tops = {(route.path or "/").split("/")[1] for route in iter_route_contexts(app.app.routes)}

        assert {f"/{top}" for top in tops - inside} == set(open_)
        assert open_.pop("/") == "Exact"
        assert set(open_.values()) == {"Prefix"}

    def test_knows_the_host_of_the_public_address(self, helm) -> None:
        values = NEEDED | {"ingress": {"enabled": True, "tlsSecret": "tls"}}
        made = objects(helm.render(values | {"publicUrl": "https://Bots.example.com:8443"}))
        spec = one(made, "Ingress", "botyard")["spec"]
        assert spec["rules"][0]["host"] == "bots.example.com"
        assert spec["tls"] == [{"hosts": ["bots.example.com"], "secretName": "tls"}]


class TestScaling:
    def test_leaves_replicas_to_the_autoscaler(self, documents) -> None:
        made = documents("production")
        assert "replicas" not in one(made, "Deployment", "botyard-api")["spec"]
        assert one(made, "Deployment", "botyard-controller")["spec"]["replicas"] == 2
        scaler = one(made, "HorizontalPodAutoscaler", "botyard-api")["spec"]
        assert scaler["scaleTargetRef"]["name"] == "botyard-api"

    def test_never_holds_a_node_up_for_ever(self, documents) -> None:
        for part in PARTS:
            budget = one(documents("needed"), "PodDisruptionBudget", f"botyard-{part}")
            assert budget["spec"]["maxUnavailable"] == 1


class TestNetwork:
    def test_of_what_needs_nobody_is_open_to_metrics_only(self, documents) -> None:
        for part in ("worker", "controller"):
            policy = one(documents("production"), "NetworkPolicy", f"botyard-{part}")
            (rule,) = policy["spec"]["ingress"]
            (peer,) = rule["from"]
            assert "monitoring" in str(peer)

    def test_lets_agents_of_this_place_reach_api(self, documents) -> None:
        from control_plane.fleet.provision.kubernetes_manifests import PLACE

        policy = one(documents("production"), "NetworkPolicy", "botyard-api")
        (rule,) = policy["spec"]["ingress"]
        labels = [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]]
        assert {PLACE: "botyard"} in labels


class TestTrial:
    def test_says_loudly_what_it_is(self, files) -> None:
        assert "FOR TRIAL ONLY" in files("trial")["botyard/templates/NOTES.txt"]
        assert "TRIAL" not in files("production")["botyard/templates/NOTES.txt"]

    def test_makes_addresses_of_what_it_brings_along(self, documents) -> None:
        made = documents("trial")
        secret = one(made, "Secret", "botyard-trial")["stringData"]
        ports = {
            f"{each['metadata']['name']}.botyard-system.svc:{each['spec']['ports'][0]['port']}"
            for each in made
            if each["kind"] == "Service" and "trial" in each["metadata"]["name"]
        }
        found = {
            match[1]
            for name in ("database-url", "owner-database-url", "redis-url")
            if (match := re.search(r"@([^/]+)/", secret[name]))
        }
        assert found == ports
        assert len(set(secret.values())) == len(secret)

    def test_is_the_only_one_with_a_secret_in_it(self, documents) -> None:
        for name in set(SETS) - {"trial"}:
            assert not [each for each in documents(name) if each["kind"] == "Secret"]
