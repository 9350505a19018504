"""Helm, and what the chart comes to for several sets of values."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster.substrate.packages import UnavailableError
from tests.helm import engine
from tests.helm.engine import CHART, Helm

Json = dict[str, Any]
IMAGES = {
    "image": {"repository": "registry.example/botyard"},
    "agents": {"image": {"repository": "registry.example/botyard-agent"}},
}
NEEDED = {
    **IMAGES,
    "publicUrl": "https://bots.example.com",
    "secrets": {"existingSecret": "botyard"},
    "media": {"url": "s3://media/botyard"},
}


def example(name: str) -> Json:
    """One of the examples that stand beside the chart."""
    return yaml.safe_load((CHART.parent / f"values-{name}.yaml").read_text(encoding="utf-8"))


SETS: dict[str, Json] = {
    "needed": NEEDED,
    "production": example("production"),
    "trial": {**example("trial"), **IMAGES},
    "bare": {
        **NEEDED,
        "rbac": {"create": False},
        "networkPolicy": {"enabled": False},
        "disruptionBudgets": False,
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"pool": "botyard"},
        "tolerations": [{"key": "botyard", "operator": "Exists"}],
        "serviceAccounts": {"annotations": {"cloud.example/role": "botyard"}},
    },
}


@pytest.fixture(scope="session")
def helm() -> Helm:
    try:
        return Helm(engine.shared_object())
    except UnavailableError as error:
        pytest.skip(f"no Helm, so nothing shows that the chart renders: {error}")


@pytest.fixture(scope="session")
def files(helm: Helm) -> Callable[[str], dict[str, str]]:
    """What the templates come to for one of the SETS."""
    kept: dict[str, dict[str, str]] = {}

    def of(name: str) -> dict[str, str]:
        if name not in kept:
            kept[name] = helm.render(SETS[name])
        return kept[name]

    return of


@pytest.fixture(scope="session")
def documents(files: Callable[[str], dict[str, str]]) -> Callable[[str], list[Json]]:
    """The objects of one of the SETS."""
    return lambda name: objects(files(name))


def objects(files: dict[str, str]) -> list[Json]:
    return [
        document
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def one(documents: list[Json], kind: str, name: str) -> Json:
    found = [each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]
