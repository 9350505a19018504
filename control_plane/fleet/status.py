"""How an instance stands, in words: conditions computed from what is seen, the phase from them."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from control_plane.fleet.plan import AT_REST, CRASH_LOOP, Desired, Observed, Want
from control_plane.fleet.provision.base import WorkloadState
from control_plane.instances.sessions import DEAD_AFTER

# A converged instance is looked at again after this, with jitter; hints come earlier.
RESYNC = timedelta(minutes=5)
# Between looks while something is under way.
UNDER_WAY = timedelta(seconds=1)
# Something is wrong, and the bot runs all the same.
_DEGRADED = frozenset({"rejected", "cut_off"})


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that must hold for the bot to run."""

    type: str
    status: bool
    reason: str
    message: str


def conditions(desired: Desired, seen: Observed, now: datetime) -> list[Condition]:
    """What holds and what does not, in the order in which a start brings it about."""
    return [
        _workload(desired, seen),
        _agent(desired, seen, now),
        _config(desired, seen),
        _channel(seen),
    ]


def phase(desired: Desired, seen: Observed, held: list[Condition]) -> str:
    """One word for people, from the conditions alone."""
    absent = seen.workload.state == WorkloadState.ABSENT
    down = absent or seen.workload.state == WorkloadState.EXITED
    if desired.want == Want.DELETED:
        return "deleted" if seen.removed else "deleting"
    if desired.want in AT_REST:
        at_rest = "stopped" if desired.want == Want.STOPPED else "hibernated"
        return at_rest if down else "stopping"
    if seen.starts.failures >= CRASH_LOOP and not all(c.status for c in held):
        return "crash_loop"
    words = ("starting", "starting", "configuring", "connecting")
    for word, condition in zip(words, held, strict=True):
        if not condition.status:
            return "degraded" if condition.reason in _DEGRADED else word
    return "running"


def drift(desired: Desired, seen: Observed) -> list[str]:
    """What of a bot that should run is not as it should be, though an agent of it is there."""
    workload = seen.workload
    if desired.want != Want.RUNNING or workload.state != WorkloadState.RUNNING:
        return []
    found = []
    if seen.applied != desired.config:
        found.append("configuration")
    fits = workload.allowance == desired.allowance and workload.aligned and not workload.outdated
    if workload.generation == desired.generation and not fits:
        found.append("objects")
    return found


def merge(
    before: list[dict[str, Any]], held: list[Condition], now: datetime
) -> list[dict[str, Any]]:
    """Conditions as the row keeps them; `at` moves only when the status or the reason does."""
    known = {item["type"]: item for item in before}
    merged = []
    for condition in held:
        old = known.get(condition.type)
        same = (
            old is not None
            and old["status"] == condition.status
            and old["reason"] == condition.reason
        )
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "at": old["at"] if old and same else now.isoformat(),
            }
        )
    return merged


def _workload(desired: Desired, seen: Observed) -> Condition:
    workload, starts = seen.workload, seen.starts
    if desired.want == Want.DELETED and workload.waits_for:
        reason, message = str(workload.state), workload.waits_for
        return Condition(type="WorkloadRunning", status=False, reason=reason, message=message)
    up = workload.state == WorkloadState.RUNNING and workload.generation == desired.generation
    if up and starts.failures < CRASH_LOOP:
        return Condition(type="WorkloadRunning", status=True, reason="running", message="")
    if starts.failures:
        reason = "crash_loop" if starts.failures >= CRASH_LOOP else "ended"
        message = f"ended {starts.failures} times in a row\n" + "\n".join(starts.last_lines)
        return Condition(type="WorkloadRunning", status=up, reason=reason, message=message)
    reason = str(workload.state)
    return Condition(
        type="WorkloadRunning", status=False, reason=reason, message=workload.waits_for
    )


def _agent(desired: Desired, seen: Observed, now: datetime) -> Condition:
    active = next((s for s in seen.sessions if s.state == "active"), None)
    if active is None or active.generation != desired.generation:
        return Condition(type="AgentConnected", status=False, reason="no_session", message="")
    if now - active.seen_at > DEAD_AFTER:
        message, reason = f"last seen {active.seen_at.isoformat()}", "silent"
        if seen.answers:
            message, reason = (
                f"it answers, but cannot reach the control plane; {message}",
                "cut_off",
            )
        return Condition(type="AgentConnected", status=False, reason=reason, message=message)
    return Condition(type="AgentConnected", status=True, reason="active", message="")


def _config(desired: Desired, seen: Observed) -> Condition:
    if seen.applied == desired.config:
        return Condition(type="ConfigApplied", status=True, reason="applied", message="")
    if seen.rejected == desired.config:
        message = "the agent refused the newest revision and runs the last good one"
        return Condition(type="ConfigApplied", status=False, reason="rejected", message=message)
    return Condition(type="ConfigApplied", status=False, reason="pending", message="")


def _channel(seen: Observed) -> Condition:
    if "connected" in seen.channels:
        return Condition(type="ChannelConnected", status=True, reason="connected", message="")
    reason = "none_connected" if seen.channels else "no_channels"
    return Condition(type="ChannelConnected", status=False, reason=reason, message="")
