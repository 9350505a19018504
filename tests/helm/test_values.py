"""What may be given to the chart: what is needed is asked for by name, a slip is refused."""

import copy
from typing import Any

import pytest
import yaml

from tests.helm.conftest import NEEDED, SETS
from tests.helm.engine import CHART, Helm

PARTS = ("api", "worker", "controller", "migration")
KEYS_OF_OTHERS = {
    "settings",
    "agents.nodes",
    "nodeSelector",
    "serviceAccounts.annotations",
    "ingress.annotations",
    "monitoring.podMonitors.labels",
    "monitoring.rules.labels",
    "monitoring.boards.labels",
}
ASKED_FOR = (
    "publicUrl",
    "image.repository",
    "agents.image.repository",
    "secrets.existingSecret",
    "media.url",
)
SLIPS: list[tuple[dict[str, Any], str]] = [
    ({"replica": 3}, "replica"),
    ({"api": {"replica": 3}}, "replica"),
    ({"api": {"replicas": 0}}, "replicas"),
    ({"api": {"replicas": "3"}}, "replicas"),
    ({"api": {"autoscaling": {"enabled": "yes"}}}, "enabled"),
    ({"image": {"repository": "r", "digest": "sha256:abc"}}, "digest"),
    ({"image": {"repository": "r", "pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"publicUrl": "bots.example.com"}, "publicUrl"),
    ({"publicUrl": "https://bots.example.com/app"}, "publicUrl"),
    ({"media": {"url": "/media"}}, "media"),
    ({"agents": {"place": "Botyard"}}, "place"),
    ({"settings": {"retention": 1}}, "retention"),
    ({"settings": {"SECRET_KEYS": "x" * 32}}, "SECRET_KEYS"),
    ({"settings": {"PORT": 80}}, "PORT"),
    ({"secrets": {"existingSecret": "x", "redis": True}}, "redis"),
    ({"monitoring": {"podMonitors": {"interval": "often"}}}, "interval"),
]


def without(values: dict[str, Any], path: str) -> dict[str, Any]:
    values = copy.deepcopy(values)
    *outer, last = path.split(".")
    inner = values
    for name in outer:
        inner = inner[name]
    del inner[last]
    return values


class TestWhatIsNeeded:
    def test_is_asked_for_by_its_name(self, helm: Helm) -> None:
        refusals = helm.refusals([without(NEEDED, path) for path in ASKED_FOR])

        for path, said in zip(ASKED_FOR, refusals, strict=True):
            assert said is not None
            assert f"set {path}" in said

    @pytest.mark.parametrize("name", SETS)
    def test_is_all_that_helm_finds_fault_with(self, helm: Helm, name: str) -> None:
        report = helm.lint(SETS[name])

        assert report["errors"] == []
        # That an icon would be nice is information, the least severe there is.
        assert [each for each in report["messages"] if each["severity"] > 1] == []


class TestSchema:
    def test_refuses_a_slip_and_says_where(self, helm: Helm) -> None:
        refusals = helm.refusals([NEEDED | slip for slip, _ in SLIPS])

        for (slip, where), said in zip(SLIPS, refusals, strict=True):
            assert said is not None, slip
            assert where in said

    def test_leaves_no_object_open_but_those_with_keys_of_others(self, helm: Helm) -> None:
        """Every other key of values.yaml is known by name, so the next slip is refused too."""
        defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        paths = objects(defaults)
        refusals = helm.refusals([with_a_slip(merged(defaults, NEEDED), path) for path in paths])

        limits = {f"{part}.resources.{of}" for part in PARTS for of in ("limits", "requests")}
        open_ = {path for path, said in zip(paths, refusals, strict=True) if said is None}
        assert open_ == KEYS_OF_OTHERS | limits


def with_a_slip(values: dict[str, Any], path: str) -> dict[str, Any]:
    inner = values
    for name in filter(None, path.split(".")):
        inner = inner[name]
    inner["UNHEARD_OF"] = "1"
    return values


def objects(values: dict[str, Any], path: str = "") -> list[str]:
    inner = [
        found
        for name, value in values.items()
        if isinstance(value, dict)
        for found in objects(value, f"{path}.{name}".lstrip("."))
    ]
    return [path, *inner]


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`other` over `one`."""
    both = copy.deepcopy(one)
    for name, value in other.items():
        inner = both.get(name)
        both[name] = (
            merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
        )
    return both
