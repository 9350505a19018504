"""What a place where agents run must do, whatever it is.

Every call is idempotent and may be repeated after a crash; nothing here decides *when*, that is
`control_plane.fleet.plan`.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class ProvisionError(Exception):
    """Something outside failed; the text is safe to show."""


class Transient(ProvisionError):
    """Worth another try with back-off."""


class Invalid(ProvisionError):
    """Will fail again until the instance changes."""


class Stale(ProvisionError):
    """A newer generation is already there; the caller's view is old."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What one agent may use, by its tenant's plan: thousandths of a processor, and bytes.

    `bots` is how many agents the tenant may have; `egress` are the names and networks that they
    may reach beside the public internet.
    """

    cpu: int
    memory: int
    bots: int = 1
    egress: tuple[str, ...] = ()


SMALLEST = Allowance(cpu=250, memory=128 * 2**20)
"""Where no plan says more."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What an agent is made of: an image, the place's own without one, and options of all agents.

    A place that has no images runs what it is itself; there an image is a word.
    """

    number: int
    image: str | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """How an agent hears of its options."""
        return {f"BOTYARD_AGENT_{name.upper()}": value for name, value in self.settings}


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """What should run: compare by value."""

    instance_id: UUID
    tenant_id: UUID
    generation: int
    allowance: Allowance = SMALLEST
    release: Release | None = None


class WorkloadState(StrEnum):
    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What runs. `ref` names one start (a process, or a container in a pod), never two.

    `exit_code` is negative for a signal, as in `subprocess`; `last_lines` is the end of the log of
    a workload that exited. One that is starting although it exited is started again by the place
    itself. `aligned` is false when something around it is not as `ensure` would make it now, and
    it is `outdated` when that is the agent itself: `ensure` ends it and starts another. `waits_for`
    says in words what it waits for.
    """

    state: WorkloadState
    generation: int | None = None
    allowance: Allowance | None = None
    ref: str | None = None
    started_at: datetime | None = None
    exit_code: int | None = None
    exited_at: datetime | None = None
    last_lines: tuple[str, ...] = ()
    aligned: bool = True
    outdated: bool = False
    waits_for: str = ""


ABSENT = Workload(state=WorkloadState.ABSENT)


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """One thing that exists, for finding orphans.

    Without an instance it is what a tenant has left where none of its agents lives any more.
    """

    instance_id: UUID | None
    ref: str | None
    tenant_id: UUID | None = field(default=None, compare=False)


class Mint(Protocol):
    """Makes the single-use bootstrap token of one start.

    `place` names where it is; whoever was started there before has surely ended.
    """

    def __call__(self, spec: InstanceSpec, place: str) -> str: ...


class Provisioner(Protocol):
    """Runs at most one agent per instance."""

    # Whether other limits are given to a running agent, or to another one in its place.
    refits_in_place: bool

    async def ensure(self, spec: InstanceSpec) -> Workload:
        """Make an agent of this generation run.

        An older generation is stopped first and replaced; an exited one is started again; a
        running one of this generation is left alone, but for what it may use and what lies around
        it. Need not wait until it runs. Raises Stale when a newer one is there.
        """

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        """What runs for these instances; unknown ids observe as absent."""

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        """Ask the agent to drain, end it after `grace`; repeat until it is not up any more."""

    async def destroy(self, instance_id: UUID) -> Workload:
        """End it at once and remove everything; repeat until absent."""

    async def sweep(self, tenant_id: UUID) -> None:
        """Remove what a tenant has left here; nothing while any of its agents has anything."""

    def changes(self) -> AsyncIterator[UUID]:
        """Hints that something may have changed; may miss some, never blocks the source."""

    def inventory(self) -> AsyncIterator[Ownership]:
        """Everything that exists here, known to the database or not."""

    def logs(self, instance_id: UUID, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """The last `tail` lines, without line ends; with `follow`, new lines as they come."""

    async def close(self) -> None:
        """Let go of what this process holds; agents keep running."""
