"""Agents that exist in memory only, on the tests' clock, and fail when told to.

A `FakePlace` outlives the `FakeProvisioner` objects that work on it, as a machine outlives the
processes that call it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from control_plane.fleet.provision.base import (
    ABSENT,
    InstanceSpec,
    Ownership,
    ProvisionError,
    Release,
    Stale,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.hints import HintReader, Hints
from control_plane.kit.clock import Clock

LOG_LINES = 10_000
"""Lines kept of each log."""

LAST_LINES = 20
"""Lines shown of an exited agent."""


@dataclass(frozen=True, kw_only=True)
class ScriptedExit:
    """An agent that ends by itself, so long after its start."""

    after: timedelta
    code: int = 1
    lines: tuple[str, ...] = ()


@dataclass
class _Log:
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    written: int = 0


class FakePlace:
    """What runs, what will fail, and how often it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.calls: Counter[str] = Counter()
        self.hints = Hints()
        self._clock = clock
        self._workloads: dict[UUID, Workload] = {}
        self._logs: dict[UUID, _Log] = {}
        self._faults: dict[str, deque[ProvisionError]] = {}
        self._scripts: dict[UUID, deque[ScriptedExit]] = {}
        self._due: dict[UUID, ScriptedExit] = {}
        self._spoiled: dict[str, ScriptedExit] = {}
        self._made_of: dict[UUID, Release | None] = {}
        self.image = "1"
        self._images: dict[UUID, str] = {}
        self._leftovers: set[UUID] = set()
        self._starts = 0
        self._wrote = asyncio.Event()

    def fail(self, call: str, *errors: ProvisionError) -> None:
        """The next calls of this name raise these, one each."""
        self._faults.setdefault(call, deque()).extend(errors)

    def script(self, instance_id: UUID, *exits: ScriptedExit) -> None:
        """The next starts of this instance end so, one each; later ones keep running."""
        self._scripts.setdefault(instance_id, deque()).extend(exits)

    def spoil(self, image: str, how: ScriptedExit) -> None:
        """From now on every start of this image ends so."""
        self._spoiled[image] = how

    def made_of(self, instance_id: UUID) -> Release | None:
        """The release of its newest start."""
        return self._made_of.get(instance_id)

    def exit(self, instance_id: UUID, *, code: int = -9, lines: Sequence[str] = ()) -> None:
        """The agent ends now."""
        self._end(instance_id, ScriptedExit(after=timedelta(0), code=code, lines=tuple(lines)))

    def say(self, instance_id: UUID, line: str) -> None:
        """The agent writes a line to its log."""
        log = self._logs[instance_id]
        log.lines.append(line)
        log.written += 1
        self._wake_readers()

    def count(self, call: str) -> None:
        """Take note of a call, raise what was scripted for it, and let due exits happen."""
        self.calls[call] += 1
        self.advance()
        if faults := self._faults.get(call):
            raise faults.popleft()

    def advance(self) -> None:
        """Let every scripted exit happen whose time has come."""
        for instance_id, due in tuple(self._due.items()):
            started_at = self._workloads[instance_id].started_at
            if started_at is not None and started_at + due.after <= self._clock.now():
                self._end(instance_id, due)

    def get(self, instance_id: UUID) -> Workload:
        workload = self._workloads.get(instance_id, ABSENT)
        if workload.state is WorkloadState.RUNNING and self._images[instance_id] != self.image:
            return replace(workload, aligned=False, outdated=True)
        return workload

    def ids(self) -> list[UUID]:
        return sorted(self._workloads)

    def start(self, spec: InstanceSpec) -> None:
        self._starts += 1
        self._logs.setdefault(spec.instance_id, _Log())
        self._workloads[spec.instance_id] = Workload(
            state=WorkloadState.RUNNING,
            generation=spec.generation,
            allowance=spec.allowance,
            ref=f"fake-{self._starts}",
            started_at=self._clock.now(),
        )
        self._images[spec.instance_id] = self.image
        self._due.pop(spec.instance_id, None)
        if scripts := self._scripts.get(spec.instance_id):
            self._due[spec.instance_id] = scripts.popleft()
        self._made_of[spec.instance_id] = spec.release
        if spec.release is not None and (how := self._spoiled.get(spec.release.image or "")):
            self._due[spec.instance_id] = how
        self.hints.put(spec.instance_id)

    def allow(self, spec: InstanceSpec) -> None:
        """A running agent may use this from now on."""
        workload = self._workloads[spec.instance_id]
        self._workloads[spec.instance_id] = replace(workload, allowance=spec.allowance)

    def remove(self, instance_id: UUID) -> None:
        tables = (self._workloads, self._logs, self._scripts, self._due)
        for table in (*tables, self._made_of, self._images):
            table.pop(instance_id, None)
        self._wake_readers()
        self.hints.put(instance_id)

    def leave(self, tenant_id: UUID) -> None:
        """The tenant has left something where none of its agents lives."""
        self._leftovers.add(tenant_id)

    def leftovers(self) -> list[UUID]:
        return sorted(self._leftovers)

    def sweep(self, tenant_id: UUID) -> None:
        self._leftovers.discard(tenant_id)

    def lines_since(self, instance_id: UUID, position: int) -> tuple[list[str], int] | None:
        """Lines after the first `position` ones and the new position; None without a log."""
        if (log := self._logs.get(instance_id)) is None:
            return None
        fresh = min(log.written - position, len(log.lines))
        return list(log.lines)[len(log.lines) - fresh :], log.written

    async def written(self) -> None:
        """Wait until any log grew or went."""
        await self._wrote.wait()

    def _end(self, instance_id: UUID, how: ScriptedExit) -> None:
        workload = self._workloads[instance_id]
        if workload.state is not WorkloadState.RUNNING or workload.started_at is None:
            return
        scripted = self._due.pop(instance_id, None) is how
        for line in how.lines:
            self.say(instance_id, line)
        self._workloads[instance_id] = replace(
            workload,
            state=WorkloadState.EXITED,
            exit_code=how.code,
            exited_at=workload.started_at + how.after if scripted else self._clock.now(),
            last_lines=tuple(self._logs[instance_id].lines)[-LAST_LINES:],
        )
        self.hints.put(instance_id)

    def _wake_readers(self) -> None:
        self._wrote.set()
        self._wrote = asyncio.Event()


class FakeProvisioner:
    """One caller of a place; drop it and make another to play a restart."""

    refits_in_place = True

    def __init__(self, place: FakePlace) -> None:
        self._place = place
        self._readers: list[HintReader] = []

    async def ensure(self, spec: InstanceSpec) -> Workload:
        """Make an agent of this generation run; leave it alone when it does."""
        self._place.count("ensure")
        workload = self._place.get(spec.instance_id)
        if workload.generation is not None and workload.generation > spec.generation:
            raise Stale(f"Generation {workload.generation} is already there.")
        up = workload.state is WorkloadState.RUNNING and not workload.outdated
        if workload.generation != spec.generation or not up:
            self._place.start(spec)
        self._place.allow(spec)
        return self._place.get(spec.instance_id)

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        """What runs for these instances; unknown ids observe as absent."""
        self._place.count("observe")
        return {instance_id: self._place.get(instance_id) for instance_id in ids}

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        """End the agent: it drains at once, whatever the grace."""
        self._place.count("stop")
        if self._place.get(instance_id).state is WorkloadState.RUNNING:
            self._place.exit(instance_id, code=0)
        return self._place.get(instance_id)

    async def destroy(self, instance_id: UUID) -> Workload:
        """End the agent and forget it."""
        self._place.count("destroy")
        self._place.remove(instance_id)
        return ABSENT

    async def sweep(self, tenant_id: UUID) -> None:
        """Remove what a tenant has left."""
        self._place.count("sweep")
        self._place.sweep(tenant_id)

    def changes(self) -> AsyncIterator[UUID]:
        """Instances that started, ended or went."""
        reader = self._place.hints.reader()
        self._readers.append(reader)
        return reader

    async def inventory(self) -> AsyncIterator[Ownership]:
        """Everything that exists here."""
        self._place.count("inventory")
        for instance_id in self._place.ids():
            yield Ownership(instance_id=instance_id, ref=self._place.get(instance_id).ref)
        for tenant_id in self._place.leftovers():
            yield Ownership(instance_id=None, ref=None, tenant_id=tenant_id)

    async def logs(self, instance_id: UUID, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """The last lines; with `follow`, new ones until the instance is destroyed."""
        found = self._place.lines_since(instance_id, 0)
        if found is None:
            return
        lines, position = found
        for line in lines[max(len(lines) - tail, 0) :]:
            yield line
        while follow:
            found = self._place.lines_since(instance_id, position)
            if found is None:
                return
            lines, position = found
            for line in lines:
                yield line
            if not lines:
                await self._place.written()

    async def close(self) -> None:
        """End the streams of hints; agents keep running."""
        for reader in self._readers:
            reader.close()
