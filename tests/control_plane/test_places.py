"""Where agents run, wired from the settings."""

from uuid import uuid4

import pytest

from control_plane.fleet.provision.base import ABSENT, Invalid
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.parts import Parts
from control_plane.places import agents_place, known_to_api
from control_plane.settings import Settings
from tests.cluster.handle import Cluster


def pods(kubeconfig: object, name: str) -> Settings:
    return Settings(
        provisioner="kubernetes",
        cell="here",
        kubernetes={
            "image": "agent:1",
            "name": name,
            "kubeconfig": kubeconfig,
            "control_networks": "192.0.2.0/24",
        },
    )


class TestController:
    async def test_runs_agents_as_processes_unless_told_otherwise(
        self, parts: Parts, tmp_path
    ) -> None:
        async with agents_place(Settings(data_dir=tmp_path), parts) as place:
            assert isinstance(place, ProcessProvisioner)

    async def test_runs_agents_as_pods(
        self, parts: Parts, cluster: Cluster, cluster_prefix: str
    ) -> None:
        settings = pods(cluster.kubeconfig, cluster_prefix.rstrip("-"))
        nobody = uuid4()
        async with agents_place(settings, parts) as place:
            assert await place.observe([nobody]) == {nobody: ABSENT}

    async def test_without_a_way_into_the_cluster_says_so(self, parts: Parts, tmp_path) -> None:
        with pytest.raises(Invalid, match="No way into the cluster"):
            async with agents_place(pods(tmp_path / "none", "t"), parts):
                raise AssertionError


class TestApi:
    async def test_recognises_pods_and_shows_their_logs(
        self, parts: Parts, cluster: Cluster, cluster_prefix: str
    ) -> None:
        settings = pods(cluster.kubeconfig, cluster_prefix.rstrip("-"))
        async with known_to_api(settings, parts):
            assert parts.bootstraps.voucher is not None
            assert parts.provisioner is not None
            lines = parts.provisioner.logs(uuid4(), tail=10, follow=False)
            assert [line async for line in lines] == []

    async def test_knows_no_pods_where_agents_are_processes(self, parts: Parts) -> None:
        async with known_to_api(Settings(), parts):
            assert parts.bootstraps.voucher is None
