"""Alerts and boards ask for figures that there are, and alerts come at their thresholds."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import control_plane
from control_plane.fleet.provision.kubernetes_manifests import deployment
from instance_agent.metrics import Metrics
from tests.cluster.substrate.packages import UnavailableError
from tests.control_plane.fleet.provision.test_kubernetes_manifests import PLACEMENT, WISH
from tests.helm import prometheus
from tests.helm.conftest import one
from tests.helm.engine import CHART

Json = dict[str, Any]
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks.md"

TARGET = {"namespace", "pod", "job", "le"}
"""Labels that Prometheus itself gives, and those of a histogram's buckets."""

OF_OTHERS = {
    "up": TARGET,
    # The nodes' own figures.
    "container_cpu_usage_seconds_total": {"container"},
    "container_memory_working_set_bytes": {"container"},
    "kubelet_volume_stats_used_bytes": {"persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
    # kube-state-metrics
    "kube_pod_container_resource_limits": {"resource"},
    # Prometheus' client, in every process of ours
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}
WORDS = {"by", "or", "and", "sum", "max", "rate", "increase", "time", "absent", "count", "topk"}
WORDS |= {"histogram_quantile", "avg_over_time"}


def figures() -> dict[str, set[str]]:
    """Every series of the code with its labels."""
    for module in pkgutil.walk_packages(control_plane.__path__, "control_plane."):
        importlib.import_module(module.name)
    known = {}
    for registry in (prometheus_client.REGISTRY, Metrics().registry):
        for collector in registry._collector_to_names:
            name, labels = getattr(collector, "_name", ""), getattr(collector, "_labelnames", ())
            match getattr(collector, "_type", ""):
                case "histogram":
                    for end in ("_bucket", "_sum", "_count"):
                        known[name + end] = set(labels)
                case "counter":
                    known[f"{name}_total"] = set(labels)
                case "gauge":
                    known[name] = set(labels)
    return known


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Series in an expression, each with the labels that it is picked or summed by."""
    by = {
        label.strip()
        for inner in re.findall(r"by \(([^)]*)\)", expression)
        for label in inner.split(",")
    }
    bare = re.sub(r"by \([^)]*\)|\[[^]]*\]", "", expression)
    for name, braces in re.findall(
        r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(\{[^}]*\})?", re.sub(r'"[^"]*"', '""', bare)
    ):
        if name not in WORDS:
            inner = set(re.findall(r"([a-z_]+)\s*[=!]", braces))
            yield name, inner | by


@pytest.fixture(scope="module")
def rules(documents) -> dict[str, Json]:
    """By their names."""
    spec = one(documents("production"), "PrometheusRule", "botyard")["spec"]
    return {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def boards(documents) -> dict[str, Json]:
    return {
        name: json.loads(text)
        for document in documents("production")
        if document["kind"] == "ConfigMap" and "grafana_dashboard" in document["metadata"]["labels"]
        for name, text in document["data"].items()
    }


def expressions(boards: dict[str, Json]) -> list[str]:
    return [
        target["expr"]
        for board in boards.values()
        for panel in board["panels"]
        for target in panel["targets"]
    ]


class TestFigures:
    def test_that_are_asked_for_are_there_with_their_labels(self, rules, boards) -> None:
        known = figures() | OF_OTHERS
        every = [rule["expr"] for rule in rules.values()] + expressions(boards)
        for expression in every:
            for name, labels in asked(expression):
                assert name in known, expression
                assert labels <= known[name] | TARGET, expression

    def test_of_ours_are_all_on_a_board(self, boards) -> None:
        shown = {name for expression in expressions(boards) for name, _ in asked(expression)}
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
        ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in figures()}
        assert {name for name in ours if name.startswith("botyard_")} <= families

    def test_that_are_not_there_would_be_found(self) -> None:
        found = dict(asked('sum by (le) (rate(botyard_nothing_bucket{kind="x"}[5m])) > 2'))
        assert found == {"botyard_nothing_bucket": {"kind", "le"}}


class TestMonitors:
    """Of the operator's kinds nobody here knows the schema; what they pick is looked at."""

    def picked(self, monitor: Json, labels: dict[str, str]) -> bool:
        asked = monitor["spec"]["selector"]
        fits = {
            "In": lambda each: labels.get(each["key"]) in each["values"],
            "Exists": lambda each: each["key"] in labels,
        }
        return asked["matchLabels"].items() <= labels.items() and all(
            fits[each["operator"]](each) for each in asked["matchExpressions"]
        )

    def test_pick_the_processes_and_a_port_that_they_have(self, documents) -> None:
        made = documents("production")
        monitor = one(made, "PodMonitor", "botyard")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        templates = [
            each["spec"]["template"] for each in made if "template" in each.get("spec", {})
        ]
        picked = [each for each in templates if self.picked(monitor, each["metadata"]["labels"])]
        parts = {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in picked}
        assert parts == {"api", "worker", "controller"}
        for each in picked:
            (container,) = each["spec"]["containers"]
            assert endpoint["port"] in {port["name"] for port in container["ports"]}

    def test_pick_agents_by_tls(self, documents) -> None:
        monitor = one(documents("production"), "PodMonitor", "botyard-agents")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        agent = deployment(WISH, PLACEMENT)["spec"]["template"]
        assert self.picked(monitor, agent["metadata"]["labels"])
        (container,) = agent["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
        assert endpoint["scheme"] == container["livenessProbe"]["httpGet"]["scheme"].lower()


class TestBoards:
    def test_are_pages_that_can_be_told_apart(self, boards) -> None:
        assert set(boards) == {"agents.json", "journey.json", "processes.json"}
        assert len({board["uid"] for board in boards.values()}) == len(boards)
        for board in boards.values():
            ids = [panel["id"] for panel in board["panels"]]
            places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
            assert len(ids) == len(set(ids)) == len(set(places))

    def test_take_source_and_namespace_from_who_looks(self, boards) -> None:
        for board in boards.values():
            assert {each["name"] for each in board["templating"]["list"]} == {"source", "namespace"}
        assert all('namespace=~"$namespace"' in each for each in expressions(boards))


class TestRunbooks:
    def test_there_is_one_for_each_alert_and_none_besides(self, rules) -> None:
        text = RUNBOOKS.read_text(encoding="utf-8")
        sections = dict(
            re.findall(r"^## (Botyard\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        )
        assert set(sections) == set(rules)
        for name, section in sections.items():
            for part in ("**Means:**", "**Look:**", "**Do:**"):
                assert part in section, name

    def test_is_where_the_alert_points_to(self, rules) -> None:
        for name, rule in rules.items():
            assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"

    def test_names_only_figures_that_there_are(self) -> None:
        known = figures() | OF_OTHERS
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
        for name in re.findall(r"`(botyard_[a-z_]+)", RUNBOOKS.read_text(encoding="utf-8")):
            assert name in known or name in families, name


US = 'namespace="botyard-system"'
AGENT = 'namespace="botyard-1",pod="agent-1"'
POD = f'{US},pod="botyard-api-1"'
CPU = f'container_cpu_usage_seconds_total{{{POD},container="api"}}'
MEMORY = f'container_memory_working_set_bytes{{{POD},container="api"}}'
LIMIT = f'kube_pod_container_resource_limits{{{POD},resource="%s"}}'
DISK = f'kubelet_volume_stats_%s_bytes{{{US},persistentvolumeclaim="data"}}'

Series = dict[str, str]


def steady(value: float) -> str:
    return f"{value}x90"


def a_minute(count: float) -> str:
    return f"0+{count}x90"


def ups(**jobs: int) -> Series:
    return {f'up{{{US},job="{job}"}}': steady(value) for job, value in jobs.items()}


def histogram(name: str, labels: str, bounds: tuple[float, float], slow: int) -> Series:
    """Of 1000 a minute so many between the bounds, all others below the lower one."""
    low, high = bounds
    return {
        f'{name}_bucket{{{labels},le="{low}"}}': a_minute(1000 - slow),
        f'{name}_bucket{{{labels},le="{high}"}}': a_minute(1000),
        f'{name}_bucket{{{labels},le="+Inf"}}': a_minute(1000),
    }


def shares(name: str, labels: str, bad: str, good: str, percent: float) -> Series:
    return {
        f"{name}{{{labels},{bad}}}": a_minute(10 * percent),
        f"{name}{{{labels},{good}}}": a_minute(10 * (100 - percent)),
    }


def gauge(name: str, labels: str, value: float) -> Series:
    return {f"{name}{{{labels}}}": steady(value)}


def requests(slow: int) -> Series:
    return histogram("botyard_request_seconds", f'{US},kind="rest",status="2xx"', (2.0, 5.0), slow)


def turns(slow: int) -> Series:
    return histogram("botyard_work_seconds", f'{US},kind="turn",outcome="done"', (30.0, 60.0), slow)


CASES: dict[str, tuple[Series, Series]] = {
    # What comes at 80 %, 85 %, 90 %, 2000 ms, 1 %, 30 s, 5 %, 80 %, 500 ms, 10000 and 30 s.
    "BotyardProcessorBusy": tuple(
        {CPU: a_minute(60 * used), LIMIT % "cpu": steady(2)} for used in (1.7, 1.5)
    ),
    "BotyardMemoryShort": tuple(
        {MEMORY: steady(used), LIMIT % "memory": steady(1000)} for used in (870, 830)
    ),
    "BotyardDiskFull": tuple(
        {DISK % "used": steady(used), DISK % "capacity": steady(1000)} for used in (910, 890)
    ),
    "BotyardApiSlow": (requests(15), requests(5)),
    "BotyardApiFails": tuple(
        shares(
            "botyard_request_seconds_count",
            f'{US},kind="rest"',
            'status="5xx"',
            'status="2xx"',
            each,
        )
        for each in (1.2, 0.8)
    ),
    "BotyardTurnsSlow": (turns(60), turns(40)),
    "BotyardTurnsFail": tuple(
        shares(
            "botyard_work_seconds_count",
            f'{US},kind="turn"',
            'outcome="failed"',
            'outcome="done"',
            each,
        )
        for each in (5.5, 4.5)
    ),
    "BotyardModelsFail": tuple(
        shares(
            "botyard_agent_model_calls_total",
            f'{AGENT},kind="openai"',
            'outcome="away"',
            'outcome="ok"',
            each,
        )
        for each in (5.5, 4.5)
    ),
    "BotyardConnectionsShort": tuple(
        gauge("botyard_database_connections_used", f'{POD},pool="orm"', used)
        | gauge("botyard_database_connections_max", f'{POD},pool="orm"', 16)
        for used in (13, 12)
    ),
    "BotyardDatabaseSlow": tuple(
        histogram("botyard_transaction_seconds", f'{US},pool="orm"', (0.5, 1.0), slow)
        for slow in (60, 40)
    ),
    "BotyardQueueLong": tuple(
        gauge("botyard_queue_depth", f'{US},queue="deliveries"', depth)
        for depth in (10_001, 10_000)
    ),
    "BotyardWorkLate": tuple(
        gauge("botyard_work_oldest_age_seconds", f'{US},kind="lane"', age) for age in (31, 30)
    ),
    # Our own.
    "BotyardDown": (ups(api=1, worker=0, controller=1), ups(api=1, worker=1, controller=1)),
    "BotyardLoopStuck": tuple(
        gauge("botyard_loop_last_success_timestamp_seconds", f'{US},loop="turn"', at)
        for at in (600, 1_700)
    ),
    "BotyardPeopleWanted": tuple(
        gauge("botyard_queue_depth", f'{US},queue="unconfirmed"', depth) for depth in (1, 0)
    ),
    "BotyardMediaMissing": tuple(
        {f"botyard_media_missing_total{{{US}}}": a_minute(count)} for count in (1, 0)
    ),
    "BotyardAgentSilent": tuple(
        gauge("botyard_agent_heartbeat_success_seconds", AGENT, at) for at in (1_500, 1_750)
    ),
    "BotyardSpoolLate": tuple(
        gauge("botyard_agent_spool_oldest_age_seconds", AGENT, age) for age in (301, 299)
    ),
    "BotyardAgentsCutOff": tuple(
        gauge("botyard_agent_circuits_open", US, count) for count in (1, 0)
    ),
}
AT_S = {"BotyardPeopleWanted": 5_400}
"""When it is looked whether an alert has come; after half an hour where nothing is said."""

HALF_AN_HOUR_S = 1_800


@pytest.fixture
def program() -> Path:
    try:
        return prometheus.promtool()
    except UnavailableError as error:
        pytest.skip(f"no promtool, so nothing shows that alerts come: {error}")


class TestThresholds:
    """By Prometheus' own evaluation."""

    def test_every_alert_has_its_case(self, rules) -> None:
        assert set(CASES) == set(rules)

    def test_alerts_come_beyond_them_and_not_before(self, program, rules, tmp_path) -> None:
        groups = [{"name": "all", "rules": list(rules.values())}]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        tests = [
            case(name, series, comes=comes)
            for name, (beyond, within) in CASES.items()
            for series, comes in ((beyond, True), (within, False))
        ]
        text = yaml.safe_dump(
            {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
        )
        (tmp_path / "tests.yaml").write_text(text)

        done = prometheus.run(program, "test", "rules", "tests.yaml", cwd=tmp_path)

        assert done.returncode == 0, done.stdout + done.stderr


def case(name: str, series: Series, *, comes: bool) -> Json:
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return {
        "name": f"{name} {'beyond' if comes else 'within'}",
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{AT_S.get(name, HALF_AN_HOUR_S)}s",
                "exp_samples": [{"labels": "{}", "value": 1}] if comes else [],
            }
        ],
    }
