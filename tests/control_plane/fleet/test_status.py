"""How an instance stands, in words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec import structs

from control_plane.fleet.plan import CRASH_LOOP, Desired, Observed, SessionView, Starts, Want
from control_plane.fleet.provision.base import ABSENT, Workload, WorkloadState
from control_plane.fleet.status import Condition, conditions, drift, merge, phase
from control_plane.instances.sessions import DEAD_AFTER

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)

RUN = Desired(want=Want.RUNNING, generation=2, config="new")
WORKLOAD = Workload(state=WorkloadState.RUNNING, generation=2, ref="run-1", started_at=NOW)
ACTIVE = SessionView(id=UUID(int=1), state="active", generation=2, ready=True, seen_at=NOW)
ALL_WELL = Observed(
    workload=WORKLOAD, sessions=(ACTIVE,), applied="new", channels=("connecting", "connected")
)


def but(**changes) -> Observed:
    return structs.replace(ALL_WELL, **changes)


def fitting(**changes) -> Observed:
    """With what the plan gives, but for these."""
    return but(workload=replace(WORKLOAD, allowance=RUN.allowance, **changes))


FITTING = fitting()


def in_state(state: WorkloadState) -> Observed:
    return but(workload=replace(WORKLOAD, state=state), sessions=())


def word(desired: Desired, seen: Observed) -> str:
    return phase(desired, seen, conditions(desired, seen, NOW))


class TestConditions:
    def test_all_hold_in_the_order_in_which_a_start_brings_them_about(self) -> None:
        held = conditions(RUN, ALL_WELL, NOW)

        assert held == [
            Condition(type="WorkloadRunning", status=True, reason="running", message=""),
            Condition(type="AgentConnected", status=True, reason="active", message=""),
            Condition(type="ConfigApplied", status=True, reason="applied", message=""),
            Condition(type="ChannelConnected", status=True, reason="connected", message=""),
        ]

    @pytest.mark.parametrize(
        ("seen", "number", "reason", "message"),
        [
            (but(workload=ABSENT), 0, "absent", ""),
            (in_state(WorkloadState.STARTING), 0, "starting", ""),
            (but(workload=replace(WORKLOAD, generation=1)), 0, "running", ""),
            (
                but(workload=ABSENT, starts=Starts(failures=1, last_lines=("a", "b"))),
                0,
                "ended",
                "ended 1 times in a row\na\nb",
            ),
            (
                but(starts=Starts(failures=CRASH_LOOP, last_lines=("boom",))),
                0,
                "crash_loop",
                "ended 3 times in a row\nboom",
            ),
            (but(sessions=()), 1, "no_session", ""),
            (but(sessions=(structs.replace(ACTIVE, state="standby"),)), 1, "no_session", ""),
            (but(sessions=(structs.replace(ACTIVE, generation=1),)), 1, "no_session", ""),
            (
                but(sessions=(structs.replace(ACTIVE, seen_at=NOW - DEAD_AFTER * 2),)),
                1,
                "silent",
                "last seen 2025-12-31T23:59:00+00:00",
            ),
            (
                but(
                    sessions=(structs.replace(ACTIVE, seen_at=NOW - DEAD_AFTER * 2),), answers=True
                ),
                1,
                "cut_off",
                (
                    "it answers, but cannot reach the control plane; "
                    "last seen 2025-12-31T23:59:00+00:00"
                ),
            ),
            (but(applied="old"), 2, "pending", ""),
            (
                but(applied="old", rejected="new"),
                2,
                "rejected",
                "the agent refused the newest revision and runs the last good one",
            ),
            (but(channels=("connecting", "failed")), 3, "none_connected", ""),
            (but(channels=()), 3, "no_channels", ""),
        ],
    )
    def test_what_does_not_hold_says_why(
        self, seen: Observed, number: int, reason: str, message: str
    ) -> None:
        found = conditions(RUN, seen, NOW)[number]

        assert (found.reason, found.message) == (reason, message)
        # A bot that runs again while it is watched for a crash loop does run.
        assert found.status is (reason == "crash_loop")

    def test_a_removal_says_what_it_waits_for(self) -> None:
        waits = Workload(state=WorkloadState.STOPPING, waits_for="waits for namespace x: finalizer")
        wanted = structs.replace(RUN, want=Want.DELETED)
        found = conditions(wanted, but(workload=waits, starts=Starts(failures=CRASH_LOOP)), NOW)[0]

        assert (found.status, found.reason) == (False, "stopping")
        assert found.message == "waits for namespace x: finalizer"

    def test_a_few_failures_do_not_count_against_a_bot_that_runs(self) -> None:
        seen = but(starts=Starts(failures=CRASH_LOOP - 1))

        assert conditions(RUN, seen, NOW) == conditions(RUN, ALL_WELL, NOW)


class TestPhase:
    @pytest.mark.parametrize(
        ("want", "seen", "expected"),
        [
            (Want.RUNNING, ALL_WELL, "running"),
            (Want.RUNNING, but(workload=ABSENT, sessions=()), "starting"),
            (Want.RUNNING, in_state(WorkloadState.STARTING), "starting"),
            (Want.RUNNING, in_state(WorkloadState.EXITED), "starting"),
            (Want.RUNNING, but(sessions=()), "starting"),
            (Want.RUNNING, but(applied=None), "configuring"),
            (Want.RUNNING, but(applied="old", rejected="new"), "degraded"),
            (Want.RUNNING, but(channels=()), "connecting"),
            (Want.RUNNING, but(channels=("failed",)), "connecting"),
            (
                Want.RUNNING,
                but(workload=ABSENT, sessions=(), starts=Starts(failures=CRASH_LOOP)),
                "crash_loop",
            ),
            (Want.RUNNING, but(channels=(), starts=Starts(failures=CRASH_LOOP)), "crash_loop"),
            (Want.RUNNING, but(starts=Starts(failures=CRASH_LOOP)), "running"),
            (Want.STOPPED, ALL_WELL, "stopping"),
            (Want.STOPPED, in_state(WorkloadState.STOPPING), "stopping"),
            (Want.STOPPED, in_state(WorkloadState.EXITED), "stopped"),
            (Want.STOPPED, but(workload=ABSENT, sessions=()), "stopped"),
            (Want.DELETED, ALL_WELL, "deleting"),
            (Want.DELETED, in_state(WorkloadState.EXITED), "deleting"),
            # Nothing runs any more, and something may be left all the same.
            (Want.DELETED, but(workload=ABSENT, sessions=()), "deleting"),
            (Want.DELETED, but(workload=ABSENT, sessions=(), removed=True), "deleted"),
            (Want.ASLEEP, ALL_WELL, "stopping"),
            (Want.ASLEEP, in_state(WorkloadState.EXITED), "hibernated"),
        ],
    )
    def test_is_one_word_for_people(self, want: Want, seen: Observed, expected: str) -> None:
        assert word(structs.replace(RUN, want=want), seen) == expected


class TestMerge:
    HELD = (
        Condition(type="WorkloadRunning", status=True, reason="running", message=""),
        Condition(type="AgentConnected", status=False, reason="silent", message="at noon"),
    )

    def rows(self, *, at: tuple[datetime, datetime] = (NOW, NOW)) -> list[dict]:
        return [
            {
                "type": held.type,
                "status": held.status,
                "reason": held.reason,
                "message": held.message,
                "at": moment.isoformat(),
            }
            for held, moment in zip(self.HELD, at, strict=True)
        ]

    def test_what_is_new_began_now(self) -> None:
        assert merge([], list(self.HELD), NOW) == self.rows()

    def test_what_stays_keeps_its_time(self) -> None:
        assert merge(self.rows(), list(self.HELD), LATER) == self.rows()

    @pytest.mark.parametrize("before", [{"status": True}, {"reason": "no_session"}])
    def test_another_status_or_reason_began_now(self, before: dict) -> None:
        first, second = self.rows()

        merged = merge([first, second | before], list(self.HELD), LATER)

        assert merged == self.rows(at=(NOW, LATER))

    def test_other_words_alone_do_not_move_the_time_but_are_kept(self) -> None:
        first, second = self.rows()

        merged = merge([first, second | {"message": "earlier"}], list(self.HELD), LATER)

        assert merged == self.rows()

    def test_what_is_no_longer_looked_at_goes(self) -> None:
        gone = {"type": "Gone", "status": True, "reason": "x", "message": "", "at": "long ago"}

        assert merge([gone, *self.rows()], list(self.HELD), LATER) == self.rows()


class TestDrift:
    @pytest.mark.parametrize(
        ("desired", "seen", "found"),
        [
            (RUN, ALL_WELL, ["objects"]),
            (RUN, FITTING, []),
            (RUN, structs.replace(FITTING, applied="old"), ["configuration"]),
            (RUN, structs.replace(FITTING, applied="old", rejected="new"), ["configuration"]),
            (RUN, fitting(aligned=False), ["objects"]),
            (RUN, fitting(outdated=True), ["objects"]),
            # Its successor is on the way; what lies around this one counts no more.
            (RUN, fitting(generation=1, aligned=False), []),
            (RUN, fitting(state=WorkloadState.EXITED, aligned=False), []),
            (structs.replace(RUN, want=Want.STOPPED), ALL_WELL, []),
        ],
    )
    def test_is_what_differs_though_an_agent_is_there(self, desired, seen, found) -> None:
        assert drift(desired, seen) == found
