"""What a controller is told of its cluster, and what it says when that cannot be."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from control_plane.fleet.provision.base import Invalid
from control_plane.fleet.provision.kubernetes_settings import KubernetesSettings
from control_plane.settings import Settings

ENOUGH = {
    "BOTYARD_PROVISIONER": "kubernetes",
    "BOTYARD_KUBERNETES__IMAGE": "agent:1",
    "BOTYARD_KUBERNETES__CONTROL_NAMESPACE": "botyard-system",
    "BOTYARD_CONTROL_URL": "https://api.botyard-system.svc:8080",
}


def told(monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    for name, value in (ENOUGH | more).items():
        monkeypatch.setenv(name, value)
    return Settings()


class TestSettings:
    def test_say_where_agents_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = told(
            monkeypatch,
            BOTYARD_CELL="eu",
            BOTYARD_OUTBOUND_ALLOW="10.9.0.0/16",
            BOTYARD_KUBERNETES__NODES='{"pool":"bots"}',
            BOTYARD_KUBERNETES__TAINTS='["bots"]',
            BOTYARD_KUBERNETES__CONTROL_NETWORKS="192.0.2.0/28",
        )
        place = settings.placement("eu")
        assert (place.name, place.image, place.nodes) == (
            "botyard-eu",
            "agent:1",
            (("pool", "bots"),),
        )
        assert place.control_url == "https://api.botyard-system.svc:8080"
        assert place.control_networks == (ip_network("192.0.2.0/28"),)
        assert place.outbound_allow == (ip_network("10.9.0.0/16"),)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"BOTYARD_KUBERNETES__IMAGE": ""}, "IMAGE"),
            ({"BOTYARD_KUBERNETES__CONTROL_NAMESPACE": ""}, "control plane"),
            ({"BOTYARD_KUBERNETES__NAME": "Not_A_Name"}, "name"),
            ({"BOTYARD_KUBERNETES__CONTROL_NETWORKS": "x"}, "control_networks"),
            ({"BOTYARD_KUBERNETES__UNHEARD_OF": "x"}, "unheard_of"),
            ({"BOTYARD_PROVISIONER": "docker"}, "provisioner"),
        ],
    )
    def test_are_refused_at_the_start(
        self, monkeypatch: pytest.MonkeyPatch, more: dict, says: str
    ) -> None:
        with pytest.raises(ValidationError, match=says):
            told(monkeypatch, **more)

    def test_are_not_asked_for_where_agents_are_processes(self) -> None:
        assert Settings().provisioner == "process"


class TestWay:
    async def test_outside_of_a_cluster_needs_a_kubeconfig(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(Invalid, match="No way into the cluster"):
            await KubernetesSettings().cluster("")

    async def test_a_kubeconfig_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="No way into the cluster"):
            await KubernetesSettings(kubeconfig=tmp_path / "none").cluster("")
