"""What to do about an instance: pure, from what is wanted and what is seen.

Invariants:
1. At most one agent per instance: a new one is started only over an absent or ended one, or by the
   provisioner's own replacement of an older generation.
2. A converged instance gets no action.
3. An agent that ends by itself is started again after `backoff`; `CRASH_LOOP` failures in a row
   are shown as such, and it is still started again.
4. Configuration is pushed until the agent runs it, refuses it, or asks for a restart.
5. A running agent of the right generation may use what the plan gives, also after the plan changed,
   and what lies around it is as its place would make it now.
6. An agent that its place starts again by itself is left to it.
7. Secrets of an active agent that are too old are replaced, after anything else.
8. An agent that answers is not taken for dead, however long it was not heard: who cannot be reached
   may be we ourselves. One whose session we do not know gets the time to open another.

What each look makes anew are structs: a frozen dataclass takes twenty times as long to make.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from control_plane.fleet.provision.base import SMALLEST, Allowance, Workload, WorkloadState
from control_plane.instances.sessions import DEAD_AFTER

# Failures in a row that are shown as a crash loop.
CRASH_LOOP = 3
# An agent that ran this long before it ended is not in a crash loop.
STEADY_AFTER = timedelta(seconds=60)
# The wait before a start grows from the second failure in a row: 1, 2, 4 ... s.
BACKOFF_BASE = timedelta(seconds=1)
BACKOFF_CAP = timedelta(minutes=5)
# An agent that has no session after this long will never have one.
START_WITHIN = timedelta(seconds=60)
# A silent agent that does not answer either is replaced after this.
SILENT_AFTER = DEAD_AFTER * 2


class Want(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    ASLEEP = "asleep"
    DELETED = "deleted"


AT_REST = frozenset({Want.STOPPED, Want.ASLEEP})
"""Without an agent, and yet there."""


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What should be. `config` names the revision and what was compiled from it."""

    want: Want
    generation: int
    config: str
    allowance: Allowance = SMALLEST


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent session that has not ended."""

    id: UUID
    state: str
    generation: int
    ready: bool
    seen_at: datetime
    spool_depth: int = 0


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """How recent starts went. `ended_ref` is the last end that was counted."""

    failures: int = 0
    ended_ref: str | None = None
    not_before: datetime | None = None
    last_lines: tuple[str, ...] = ()


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What is. `applied` and `rejected` are named as `Desired.config`; None for never.

    `removed`: the place said that it removed all there was. `answers`: an agent that was not heard
    was asked directly, and it is there. `alone_since`: since when it is without a session.
    """

    workload: Workload
    sessions: tuple[SessionView, ...] = ()
    starts: Starts = Starts()
    applied: str | None = None
    rejected: str | None = None
    pending_restart: bool = False
    secrets_due: bool = False
    channels: tuple[str, ...] = ()
    removed: bool = False
    answers: bool = False
    alone_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Make an agent of the desired generation run."""


@dataclass(frozen=True, kw_only=True)
class Refit:
    """Let the running agent have what the plan gives now, and repair what lies around it."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """End the agent, letting it drain; `failure` when that is nobody's wish."""

    reason: str
    failure: bool = False


@dataclass(frozen=True, kw_only=True)
class Destroy:
    """End the agent and remove what it had."""


@dataclass(frozen=True, kw_only=True)
class EndSessions:
    """End every session but these."""

    keep: tuple[UUID, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Activate:
    """Let this session act for the instance."""

    session_id: UUID


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """Give the active agent the desired configuration."""


@dataclass(frozen=True, kw_only=True)
class RotateSecrets:
    """Replace the secrets between the active agent and us."""


Action = Start | Refit | Stop | Destroy | EndSessions | Activate | PushConfig | RotateSecrets

_UP = frozenset({WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.STOPPING})


def plan(desired: Desired, seen: Observed, now: datetime) -> list[Action]:
    """The actions that bring what is closer to what should be, in order."""
    if desired.want == Want.DELETED:
        return _end_all(seen) + ([] if seen.removed else [Destroy()])
    if desired.want in AT_REST:
        up = seen.workload.state in _UP
        return ([Stop(reason="stop asked for")] if up else []) + _end_all(seen)
    return _run(desired, seen, now)


def account(starts: Starts, workload: Workload, now: datetime) -> Starts:
    """`starts` after looking at a workload: an end that was not counted yet counts once."""
    ended = workload.state == WorkloadState.EXITED or _starts_again(workload)
    if not ended or workload.ref == starts.ended_ref:
        return starts
    ended_at = workload.exited_at or now
    steady = workload.started_at is not None and ended_at - workload.started_at >= STEADY_AFTER
    if workload.exit_code == 0:
        return Starts(ended_ref=workload.ref)
    failures = 1 if steady else starts.failures + 1
    return Starts(
        failures=failures,
        ended_ref=workload.ref,
        not_before=ended_at + backoff(failures),
        last_lines=workload.last_lines,
    )


def forgive(starts: Starts, workload: Workload, now: datetime) -> Starts:
    """`starts` once an agent has run steadily: earlier failures no longer count."""
    running = workload.state == WorkloadState.RUNNING and workload.started_at is not None
    if starts.failures and running and now - (workload.started_at or now) >= STEADY_AFTER:
        return msgspec.structs.replace(starts, failures=0, not_before=None, last_lines=())
    return starts


def backoff(failures: int) -> timedelta:
    """The wait after so many failures in a row; none after the first."""
    if failures <= 1:
        return timedelta(0)
    return min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 2, 20))


def _run(desired: Desired, seen: Observed, now: datetime) -> list[Action]:
    workload = seen.workload
    if workload.state not in _UP:
        if seen.starts.not_before is not None and now < seen.starts.not_before:
            return _end_all(seen)
        return [*_end_all(seen), Start()]
    if workload.state == WorkloadState.STOPPING:
        return []
    if (workload.generation or 0) < desired.generation:
        return [*_end_all(seen), Start()]
    fits = workload.allowance == desired.allowance and workload.aligned
    if workload.generation == desired.generation and not fits:
        return [Refit()]
    return [] if _starts_again(workload) else _serve(desired, seen, now)


def _serve(desired: Desired, seen: Observed, now: datetime) -> list[Action]:
    """The right agent runs: let it act, give it its configuration, notice when it is silent."""
    current = [s for s in seen.sessions if s.generation == desired.generation]
    active = next((s for s in current if s.state == "active"), None)
    standby = next((s for s in reversed(current) if s.state == "standby"), None)
    if active is None and standby is None:
        begun = seen.workload.started_at or now
        late = now - max(begun, seen.alone_since or begun) > START_WITHIN
        return [Stop(reason="no session after its start", failure=True)] if late else []
    if standby is not None and (active is None or standby.ready or _silent(active, seen, now)):
        return [Activate(session_id=standby.id)]
    if active is not None and not seen.answers and now - active.seen_at > SILENT_AFTER:
        return [Stop(reason="silent", failure=True)]
    if seen.pending_restart:
        return [Stop(reason="the configuration needs a restart")]
    if desired.config not in (seen.applied, seen.rejected):
        return [PushConfig()]
    return [RotateSecrets()] if active is not None and seen.secrets_due else []


def _starts_again(workload: Workload) -> bool:
    """Whether it ended and its place starts it again by itself."""
    return workload.state == WorkloadState.STARTING and workload.exited_at is not None


def _silent(active: SessionView, seen: Observed, now: datetime) -> bool:
    return not seen.answers and now - active.seen_at > DEAD_AFTER


def _end_all(seen: Observed) -> list[Action]:
    return [EndSessions()] if seen.sessions else []
