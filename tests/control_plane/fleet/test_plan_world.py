"""A small world of agents that start, end and hang: `plan` always brings it to rest."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from control_plane.fleet.plan import (
    Action,
    Activate,
    Desired,
    Destroy,
    EndSessions,
    Observed,
    PushConfig,
    SessionView,
    Start,
    Starts,
    Stop,
    Want,
    account,
    forgive,
    plan,
)
from control_plane.fleet.provision.base import ABSENT, SMALLEST, Workload, WorkloadState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UP = frozenset({WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.STOPPING})


@dataclass
class Process:
    """One agent of the world; `session` is what its bootstrap opened. A hung one says nothing."""

    session: UUID | None = None
    hung: bool = False


@dataclass
class World:
    """What a provisioner and a database would hold, with agents that do as they are told."""

    want: Want = Want.RUNNING
    generation: int = 1
    config: int = 1
    verdicts: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    now: datetime = NOW
    workload: Workload = ABSENT
    process: Process = field(default_factory=Process)
    sessions: list[SessionView] = field(default_factory=list)
    starts: Starts = field(default_factory=Starts)
    applied: str | None = None
    rejected: str | None = None
    pending_restart: bool = False
    removed: bool = False
    made: int = 0

    @property
    def desired(self) -> Desired:
        return Desired(want=self.want, generation=self.generation, config=f"c{self.config}")

    def look(self) -> list[Action]:
        """One round of the reconciler."""
        self.starts = forgive(
            account(self.starts, self.workload, self.now), self.workload, self.now
        )
        seen = Observed(
            workload=self.workload,
            sessions=tuple(self.sessions),
            starts=self.starts,
            applied=self.applied,
            rejected=self.rejected,
            pending_restart=self.pending_restart,
            removed=self.removed,
        )
        actions = plan(self.desired, seen, self.now)
        for action in actions:
            self._act(action)
        return actions

    def _act(self, action: Action) -> None:
        match action:
            case Start():
                self._start()
            case Stop(reason=reason):
                assert self.workload.state in UP
                self._stop(reason)
            case Destroy():
                self.workload, self.removed = ABSENT, True
            case EndSessions(keep=keep):
                self.sessions = [s for s in self.sessions if s.id in keep]
            case Activate(session_id=session_id):
                # The former active one drains, which a view does not show.
                self.sessions = [
                    structs.replace(s, state="active") if s.id == session_id else s
                    for s in self.sessions
                    if s.state == "standby"
                ]
            case PushConfig():
                self._push()

    def _start(self) -> None:
        up = self.workload.state in UP
        assert not (up and self.workload.generation == self.generation), "two agents"
        assert not self.sessions, "a former agent may still act"
        self.made += 1
        self.process = Process()
        self.pending_restart = False
        self.workload = Workload(
            state=WorkloadState.STARTING if self.slow else WorkloadState.RUNNING,
            generation=self.generation,
            allowance=SMALLEST,
            ref=f"run-{self.made}",
            started_at=self.now,
        )

    def _stop(self, reason: str) -> None:
        if self.slow and self.workload.state != WorkloadState.STOPPING:
            self.workload = replace(self.workload, state=WorkloadState.STOPPING)
            return
        self.end(0)
        if reason != "silent":
            self.starts = Starts(ended_ref=self.workload.ref)

    def _push(self) -> None:
        active = next(s for s in self.sessions if s.state == "active")
        if active.id != self.process.session or not self._alive:
            return  # nobody answers
        verdict = self.verdicts.get(self.desired.config, "applied")
        if verdict == "needs_restart":
            self.pending_restart = True
        else:
            self._decide(verdict)

    def _decide(self, verdict: str) -> None:
        if verdict == "rejected":
            self.rejected = self.desired.config
        else:
            self.applied, self.rejected = self.desired.config, None

    # What happens by itself.

    def end(self, code: int) -> None:
        if self.workload.state in UP:
            self.workload = replace(
                self.workload, state=WorkloadState.EXITED, exit_code=code, exited_at=self.now
            )

    def arrive(self) -> None:
        """Starting becomes running, stopping becomes stopped."""
        if self.workload.state == WorkloadState.STARTING:
            self.workload = replace(self.workload, state=WorkloadState.RUNNING)
        elif self.workload.state == WorkloadState.STOPPING:
            self.end(0)

    def bootstrap(self) -> None:
        """The agent opens its session; the exchange refuses an older generation."""
        right = self.workload.generation == self.generation and self.want == Want.RUNNING
        if not self._alive or self.process.session or not right:
            return
        self.process.session = self._open_session()
        self.applied, self.pending_restart = None, False

    def ghost(self) -> None:
        """The late exchange of an agent that is gone already."""
        if self.made and self.want == Want.RUNNING:
            self._open_session()

    def _open_session(self) -> UUID:
        session_id = UUID(int=1_000 + self.made * 100 + len(self.sessions) + self.now.second)
        while any(s.id == session_id for s in self.sessions):
            session_id = UUID(int=session_id.int + 1)
        self.sessions.append(
            SessionView(
                id=session_id,
                state="standby",
                generation=self.generation,
                ready=False,
                seen_at=self.now,
            )
        )
        return session_id

    def beat(self) -> None:
        """The agent takes the configuration it was given, and says that it lives."""
        mine = self.process.session
        if not self._alive or mine is None:
            return
        if not any(s.id == mine for s in self.sessions):
            self.end(0)  # it hears 410 and leaves
            return
        if self.applied is None and self.rejected != self.desired.config:
            verdict = self.verdicts.get(self.desired.config, "applied")
            self._decide("rejected" if verdict == "rejected" else "applied")
        self.sessions = [
            structs.replace(s, seen_at=self.now, ready=True) if s.id == mine else s
            for s in self.sessions
        ]

    def hang(self) -> None:
        self.process.hung = True

    @property
    def _alive(self) -> bool:
        return self.workload.state == WorkloadState.RUNNING and not self.process.hung

    def wish(self, want: Want) -> None:
        if self.want != Want.DELETED:
            self.want, self.generation = want, self.generation + 1

    def publish(self, verdict: str) -> None:
        self.config += 1
        self.verdicts[self.desired.config] = verdict


happenings = st.lists(
    st.one_of(
        *(st.just((name,)) for name in ("look", "arrive", "bootstrap", "ghost", "beat", "hang")),
        st.tuples(st.just("end"), st.sampled_from([0, 1, -9])),
        st.tuples(st.just("pass"), st.integers(0, 90)),
        st.tuples(st.just("wish"), st.sampled_from(list(Want))),
        st.tuples(st.just("publish"), st.sampled_from(["applied", "rejected", "needs_restart"])),
    ),
    max_size=15,
)


def happen(world: World, name: str, *details) -> None:
    if name == "pass":
        world.now += timedelta(seconds=details[0])
    else:
        getattr(world, name)(*details)


def rest(world: World) -> int:
    """Nothing happens any more but what follows by itself; looks without action at the end."""
    quiet = 0
    # Longer than the longest back-off and the patience with a hung agent together.
    for _ in range(120):
        world.arrive()
        world.bootstrap()
        world.beat()
        quiet = 0 if world.look() else quiet + 1
        world.now += timedelta(seconds=5)
    return quiet


class TestWorld:
    @given(slow=st.booleans(), begun=st.booleans(), events=happenings)
    @settings(deadline=None, max_examples=400)
    def test_comes_to_rest_as_wanted_when_nothing_more_happens(
        self, slow: bool, begun: bool, events: list[tuple]
    ) -> None:
        world = World(slow=slow)
        if begun:
            rest(world)
        for event in events:
            happen(world, *event)

        assert rest(world) > 10
        match world.want:
            case Want.DELETED:
                assert (world.workload, world.sessions) == (ABSENT, [])
            case Want.STOPPED:
                assert world.workload.state not in UP
                assert world.sessions == []
            case Want.RUNNING:
                assert (world.workload.state, world.workload.generation) == (
                    WorkloadState.RUNNING,
                    world.generation,
                )
                active = [s.id for s in world.sessions if s.state == "active"]
                assert active == [world.process.session]
                assert not world.process.hung
                assert world.desired.config in (world.applied, world.rejected)
