"""`plan`: the table of its invariants; `test_plan_world` plays it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec import structs

from control_plane.fleet.plan import (
    BACKOFF_CAP,
    CRASH_LOOP,
    SILENT_AFTER,
    START_WITHIN,
    STEADY_AFTER,
    Action,
    Activate,
    Desired,
    Destroy,
    EndSessions,
    Observed,
    PushConfig,
    Refit,
    SessionView,
    Start,
    Starts,
    Stop,
    Want,
    account,
    backoff,
    forgive,
    plan,
)
from control_plane.fleet.provision.base import ABSENT, SMALLEST, Allowance, Workload, WorkloadState
from control_plane.instances.sessions import DEAD_AFTER

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=1)
A, B = UUID(int=1), UUID(int=2)


def desired(want: Want = Want.RUNNING, *, generation: int = 2, config: str = "new") -> Desired:
    return Desired(want=want, generation=generation, config=config)


def workload(
    state: WorkloadState = WorkloadState.RUNNING,
    *,
    generation: int = 2,
    up_for: timedelta = timedelta(seconds=10),
    code: int | None = None,
) -> Workload:
    return Workload(
        state=state,
        generation=generation,
        allowance=SMALLEST,
        ref="run-1",
        started_at=NOW - up_for,
        exit_code=code,
        exited_at=NOW if state == WorkloadState.EXITED else None,
        last_lines=("boom",) if state == WorkloadState.EXITED else (),
    )


def agent(
    session_id: UUID = A,
    state: str = "active",
    *,
    generation: int = 2,
    ready: bool = True,
    silent_for: timedelta = timedelta(0),
) -> SessionView:
    return SessionView(
        id=session_id,
        state=state,
        generation=generation,
        ready=ready,
        seen_at=NOW - silent_for,
    )


def observed(work: Workload, *sessions: SessionView, **more) -> Observed:
    return Observed(workload=work, sessions=sessions, **{"applied": "new", **more})


RUNNING = workload()
EXITED = workload(WorkloadState.EXITED, code=1)
STARTS_AGAIN = replace(EXITED, state=WorkloadState.STARTING)
STARTING = workload(WorkloadState.STARTING)
STOPPING = workload(WorkloadState.STOPPING)
OLDER = workload(generation=1)
WAITS = Starts(failures=2, ended_ref="run-1", not_before=NOW + TICK)
WAITED = Starts(failures=2, ended_ref="run-1", not_before=NOW)


def row(name: str, wanted: Desired, seen: Observed, *actions: Action):
    return pytest.param(wanted, seen, list(actions), id=name)


class TestAtMostOneAgent:
    """Invariant 1."""

    @pytest.mark.parametrize(
        ("wanted", "seen", "actions"),
        [
            row("starts over nothing", desired(), observed(ABSENT), Start()),
            row("starts over an ended one", desired(), observed(EXITED), Start()),
            row(
                "ends what sessions an ended one left, first",
                desired(),
                observed(EXITED, agent()),
                EndSessions(),
                Start(),
            ),
            row(
                "has an older generation replaced",
                desired(),
                observed(OLDER, agent(generation=1)),
                EndSessions(),
                Start(),
            ),
            row(
                "has an older one replaced that is still starting",
                desired(),
                observed(replace(STARTING, generation=1)),
                Start(),
            ),
            row("waits for one that is stopping", desired(), observed(STOPPING, agent())),
            row(
                "waits for an older one that is stopping",
                desired(),
                observed(replace(STOPPING, generation=1), agent(generation=1)),
            ),
            row("waits for one that is starting", desired(), observed(STARTING)),
            row(
                "leaves a newer one alone: this view is old",
                desired(),
                observed(workload(generation=3), agent(generation=3)),
            ),
        ],
    )
    def test_a_new_one_only_where_none_is(self, wanted, seen, actions) -> None:
        assert plan(wanted, seen, NOW) == actions


class TestAtRest:
    """Invariant 2."""

    @pytest.mark.parametrize(
        ("wanted", "seen", "actions"),
        [
            row("running", desired(), observed(RUNNING, agent())),
            row(
                "running what it has, since it refused the newest",
                desired(),
                observed(RUNNING, agent(), applied="old", rejected="new"),
            ),
            row("running without a channel", desired(), observed(RUNNING, agent(), channels=())),
            row(
                "running, a standby that is not ready beside it",
                desired(),
                observed(RUNNING, agent(A), agent(B, "standby", ready=False)),
            ),
            row(
                "running, silent but not for long",
                desired(),
                observed(RUNNING, agent(silent_for=SILENT_AFTER)),
            ),
            row(
                "running, not heard but it answers",
                desired(),
                observed(RUNNING, agent(silent_for=SILENT_AFTER * 10), answers=True),
            ),
            row(
                "running, not heard but it answers, a standby that is not ready beside it",
                desired(),
                observed(
                    RUNNING,
                    agent(A, silent_for=SILENT_AFTER),
                    agent(B, "standby", ready=False),
                    answers=True,
                ),
            ),
            row(
                "running for long, and without a session since a moment",
                desired(),
                observed(workload(up_for=START_WITHIN * 10), alone_since=NOW - START_WITHIN),
            ),
            row("stopped, never started", desired(Want.STOPPED), observed(ABSENT)),
            row("stopped, after it ran", desired(Want.STOPPED), observed(EXITED)),
            row("deleted", desired(Want.DELETED), observed(ABSENT, removed=True)),
            row("asleep", desired(Want.ASLEEP), observed(EXITED)),
        ],
    )
    def test_nothing_is_done(self, wanted, seen, actions) -> None:
        assert plan(wanted, seen, NOW) == actions == []


class TestWhatItMayUse:
    """Invariant 5."""

    MORE = Allowance(cpu=1000, memory=2**29)

    @pytest.mark.parametrize("work", [STARTING, RUNNING], ids=lambda w: str(w.state))
    def test_is_fitted_to_the_plan_before_anything_else(self, work: Workload) -> None:
        wanted = structs.replace(desired(config="newest"), allowance=self.MORE)

        assert plan(wanted, observed(work, agent()), NOW) == [Refit()]
        fitted = replace(work, allowance=self.MORE)
        assert plan(wanted, observed(fitted, agent()), NOW) == [PushConfig()]

    @pytest.mark.parametrize("work", [STARTING, RUNNING], ids=lambda w: str(w.state))
    def test_what_lies_around_it_is_repaired(self, work: Workload) -> None:
        edited = replace(work, aligned=False)

        assert plan(desired(), observed(edited, agent()), NOW) == [Refit()]

    @pytest.mark.parametrize("work", [STOPPING, EXITED, workload(generation=3)], ids=repr)
    def test_is_left_alone_where_it_does_not_run_or_is_newer(self, work: Workload) -> None:
        wanted = structs.replace(desired(), allowance=self.MORE)

        assert Refit() not in plan(wanted, observed(work), NOW)


class TestAnAgentThatItsPlaceStartsAgain:
    """Invariant 6."""

    def test_is_left_to_it_however_silent_it_is(self) -> None:
        silent = agent(silent_for=SILENT_AFTER * 10)

        assert plan(desired(), observed(STARTS_AGAIN, silent), NOW) == []

    def test_is_replaced_by_a_newer_generation(self) -> None:
        assert plan(desired(generation=3), observed(STARTS_AGAIN), NOW) == [Start()]

    def test_is_stopped_when_asked(self) -> None:
        stopping = plan(desired(Want.STOPPED), observed(STARTS_AGAIN), NOW)
        assert stopping == [Stop(reason="stop asked for")]


class TestStopAndDelete:
    @pytest.mark.parametrize("work", [STARTING, RUNNING, STOPPING], ids=lambda w: str(w.state))
    def test_an_agent_that_is_up_is_stopped_before_its_sessions_end(self, work: Workload) -> None:
        for want in (Want.STOPPED, Want.ASLEEP):
            actions = plan(desired(want), observed(work, agent()), NOW)

            assert actions == [Stop(reason="stop asked for"), EndSessions()]

    @pytest.mark.parametrize("work", [ABSENT, EXITED], ids=lambda w: str(w.state))
    def test_sessions_do_not_outlive_a_stopped_agent(self, work: Workload) -> None:
        assert plan(desired(Want.STOPPED), observed(work, agent()), NOW) == [EndSessions()]

    @pytest.mark.parametrize(
        "work", [STARTING, RUNNING, STOPPING, EXITED, ABSENT], ids=lambda w: str(w.state)
    )
    def test_deleting_ends_sessions_and_removes_whatever_is_there(self, work: Workload) -> None:
        actions = plan(desired(Want.DELETED), observed(work, agent()), NOW)

        assert actions == [EndSessions(), Destroy()]


class TestEndedByItself:
    """Invariant 3."""

    @pytest.mark.parametrize(
        ("wanted", "seen", "actions"),
        [
            row("not before its time", desired(), observed(EXITED, starts=WAITS)),
            row(
                "its sessions end at once",
                desired(),
                observed(EXITED, agent(), starts=WAITS),
                EndSessions(),
            ),
            row("when its time has come", desired(), observed(EXITED, starts=WAITED), Start()),
            row(
                "however often it ended",
                desired(),
                observed(EXITED, starts=structs.replace(WAITED, failures=CRASH_LOOP + 7)),
                Start(),
            ),
        ],
    )
    def test_it_is_started_again(self, wanted, seen, actions) -> None:
        assert plan(wanted, seen, NOW) == actions

    @pytest.mark.parametrize(
        ("failures", "seconds"),
        [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (9, 128), (10, 256), (11, 300), (10_000, 300)],
    )
    def test_the_wait_doubles_from_the_second_failure_to_a_limit(
        self, failures: int, seconds: int
    ) -> None:
        assert backoff(failures) == timedelta(seconds=seconds) <= BACKOFF_CAP


class TestServing:
    """Invariant 4, and who may act for the instance."""

    @pytest.mark.parametrize(
        ("wanted", "seen", "actions"),
        [
            row(
                "a first session acts at once",
                desired(),
                observed(RUNNING, agent(B, "standby", ready=False)),
                Activate(session_id=B),
            ),
            row(
                "a ready standby takes over",
                desired(),
                observed(RUNNING, agent(A), agent(B, "standby")),
                Activate(session_id=B),
            ),
            row(
                "a standby takes over from a silent one",
                desired(),
                observed(
                    RUNNING,
                    agent(A, silent_for=DEAD_AFTER + TICK),
                    agent(B, "standby", ready=False),
                ),
                Activate(session_id=B),
            ),
            row(
                "the newest standby counts",
                desired(),
                observed(RUNNING, agent(A, "standby"), agent(B, "standby")),
                Activate(session_id=B),
            ),
            row(
                "a session of another generation does not act",
                desired(),
                observed(RUNNING, agent(A, "standby", generation=1)),
            ),
            row(
                "no session in time: stop",
                desired(),
                observed(workload(up_for=START_WITHIN + TICK)),
                Stop(reason="no session after its start", failure=True),
            ),
            row("no session yet: wait", desired(), observed(workload(up_for=START_WITHIN))),
            row(
                "silent for too long: stop",
                desired(),
                observed(RUNNING, agent(silent_for=SILENT_AFTER + TICK)),
                Stop(reason="silent", failure=True),
            ),
            row(
                "another configuration: push",
                desired(),
                observed(RUNNING, agent(), applied="old"),
                PushConfig(),
            ),
            row(
                "no configuration yet: push",
                desired(),
                observed(RUNNING, agent(), applied=None),
                PushConfig(),
            ),
            row(
                "an earlier one was refused: push",
                desired(),
                observed(RUNNING, agent(), applied="old", rejected="older"),
                PushConfig(),
            ),
            row(
                "it asked for a restart: stop",
                desired(),
                observed(RUNNING, agent(), applied="old", pending_restart=True),
                Stop(reason="the configuration needs a restart"),
            ),
            row(
                "nobody to push to",
                desired(),
                observed(RUNNING, agent(generation=1), applied="old"),
            ),
        ],
    )
    def test_one_acts_and_runs_the_configuration(self, wanted, seen, actions) -> None:
        assert plan(wanted, seen, NOW) == actions


class TestAccount:
    def test_the_same_end_counts_once(self) -> None:
        once = account(Starts(), EXITED, NOW)

        assert once == Starts(failures=1, ended_ref="run-1", not_before=NOW, last_lines=("boom",))
        assert account(once, EXITED, NOW + TICK) == once

    def test_ends_in_a_row_add_up_and_the_wait_starts_at_the_end(self) -> None:
        before = Starts(failures=3, ended_ref="run-0", last_lines=("older",))

        assert account(before, EXITED, NOW + TICK) == Starts(
            failures=4,
            ended_ref="run-1",
            not_before=NOW + timedelta(seconds=4),
            last_lines=("boom",),
        )

    @pytest.mark.parametrize(("up_for", "failures"), [(STEADY_AFTER, 1), (STEADY_AFTER - TICK, 8)])
    def test_a_long_run_breaks_the_row(self, up_for: timedelta, failures: int) -> None:
        ended = workload(WorkloadState.EXITED, up_for=up_for, code=-9)

        assert account(Starts(failures=7), ended, NOW).failures == failures

    def test_a_clean_end_is_no_failure(self) -> None:
        ended = workload(WorkloadState.EXITED, code=0)

        assert account(Starts(failures=2), ended, NOW) == Starts(ended_ref="run-1")

    def test_an_end_without_a_time_happened_now(self) -> None:
        ended = replace(EXITED, started_at=None, exited_at=None)

        assert account(Starts(failures=1), ended, NOW).not_before == NOW + TICK

    def test_an_end_after_which_its_place_starts_it_again_counts_once(self) -> None:
        once = account(Starts(), STARTS_AGAIN, NOW)

        assert (once.failures, once.ended_ref) == (1, "run-1")
        assert account(once, STARTS_AGAIN, NOW + TICK) == once
        assert account(once, replace(STARTS_AGAIN, ref="run-2"), NOW + TICK).failures == 2

    @pytest.mark.parametrize("work", [ABSENT, STARTING, RUNNING, STOPPING], ids=lambda w: w.state)
    def test_only_ends_count(self, work: Workload) -> None:
        assert account(WAITS, work, NOW) == WAITS


class TestForgive:
    def test_a_steady_run_makes_failures_forgotten(self) -> None:
        assert forgive(WAITS, workload(up_for=STEADY_AFTER), NOW) == Starts(ended_ref="run-1")

    @pytest.mark.parametrize(
        "work",
        [ABSENT, workload(up_for=STEADY_AFTER - TICK), replace(EXITED, started_at=None)],
        ids=["absent", "not yet steady", "ended"],
    )
    def test_nothing_else_does(self, work: Workload) -> None:
        assert forgive(WAITS, work, NOW) == WAITS

    def test_without_failures_there_is_nothing_to_forgive(self) -> None:
        clean = Starts(ended_ref="run-0")

        assert forgive(clean, workload(up_for=STEADY_AFTER), NOW) is clean
