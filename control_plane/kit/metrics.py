"""Metrics that every background loop has; a wing adds its own beside its code."""

from prometheus_client import Counter, Gauge, Histogram

LOOP_SUCCESS = Gauge(
    "botyard_loop_last_success_timestamp_seconds",
    "When a background loop last went well.",
    ["loop"],
)
LOOP_FAILURES = Counter("botyard_loop_failures_total", "Rounds of a loop that failed.", ["loop"])
WORK_SECONDS = Histogram(
    "botyard_work_seconds", "Time from claiming a row to giving it back.", ["kind", "outcome"]
)
LEASES_LOST = Counter(
    "botyard_leases_lost_total", "Results thrown away after a lost lease.", ["kind"]
)
