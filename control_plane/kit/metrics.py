"""Metrics that every background loop has; a wing adds its own beside its code."""

from prometheus_client import Counter, Gauge, Histogram

LOOP_SUCCESS = Gauge(
    "botyard_loop_last_success_timestamp_seconds",
    "When a background loop last went well.",
    ["loop"],
)
LOOP_FAILURES = Counter("botyard_loop_failures_total", "Rounds of a loop that failed.", ["loop"])
WORK_SECONDS = Histogram(
    "botyard_work_seconds",
    "Time from claiming a row to giving it back.",
    ["kind", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
STAGE_SECONDS = Histogram(
    "botyard_stage_seconds",
    "How long a message takes through each stage of its way.",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
LEASES_LOST = Counter(
    "botyard_leases_lost_total", "Results thrown away after a lost lease.", ["kind"]
)
