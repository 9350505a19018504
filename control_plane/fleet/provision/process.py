"""Agents as child processes of this machine: a folder each, adopted by whoever comes next.

The truth is on disk and in the kernel, never in this process, which may be killed between any two
lines. So: take the lock, write what is meant, do it, write what came of it.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog

from control_plane.fleet.provision.base import (
    ABSENT,
    InstanceSpec,
    Mint,
    Ownership,
    Stale,
    Transient,
    Workload,
    WorkloadState,
)
from control_plane.fleet.provision.hints import Hints
from control_plane.fleet.provision.process_home import Exit, Home, Record, name_of
from control_plane.fleet.provision.process_launch import AGENT_COMMAND, AgentLimits, launch, refit
from control_plane.fleet.provision.process_log import LogReader, last_lines, rotate
from control_plane.fleet.provision.process_table import (
    HeldProcess,
    ProcessKey,
    birth_of,
    find_group_leader,
    kill_all,
)
from control_plane.kit.clock import Clock

logger = structlog.get_logger(__name__)

LOCK_LOOK_S = 0.05
"""Cadence of the look for a lock that another caller holds; the kernel has no event for it."""

FOLLOW_LOOK_S = 0.25
"""Cadence of the look for new log lines: short enough to read along."""

LAST_LINES = 20
"""Lines of an exited agent's log that a person takes in at a glance."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """Times and sizes of agents that run as processes."""

    replace_grace: timedelta = timedelta(seconds=30)
    """Time for an older generation to drain before the newer one takes its place."""

    kill_wait: timedelta = timedelta(seconds=10)
    """Time for a killed process to be gone; longer means that the disk or the kernel hangs."""

    lock_wait: timedelta = timedelta(seconds=5)
    """Time to wait for another caller; after it the caller's own back-off is the better place."""

    log_bytes: int = 10 * 1024 * 1024
    """Size at which a log is rotated: days of an ordinary agent."""

    log_kept: int = 2
    """Rotated logs kept beside the current one."""

    log_look: timedelta = timedelta(seconds=5)
    """Cadence of the look at log sizes: bounds what a chatty agent writes beyond `log_bytes`."""

    limits: AgentLimits = field(default_factory=AgentLimits)


class ProcessProvisioner:
    """Runs each agent as a process with a session, a folder and an environment of its own."""

    refits_in_place = True

    def __init__(
        self,
        folder: Path,
        *,
        control_url: str,
        mint: Mint,
        clock: Clock,
        outbound_allow: str = "",
        command: Sequence[str] = AGENT_COMMAND,
        settings: ProcessSettings | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._control_url = control_url
        self._outbound_allow = outbound_allow
        self._mint = mint
        self._clock = clock
        self._command = tuple(command)
        self._settings = settings or ProcessSettings()
        self._held: dict[UUID, HeldProcess] = {}
        self._hints = Hints()
        self._closed = asyncio.Event()
        self._rotation: asyncio.Task[None] | None = None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place = name_of(self._folder)

    async def ensure(self, spec: InstanceSpec) -> Workload:
        """Make an agent of this generation run; leave it alone when it does."""
        home = self._home(spec.instance_id)
        with _closing(await self._lock(home, create=True)):
            record = await self._settle(home)
            if record is not None and record.generation > spec.generation:
                raise Stale(f"Generation {record.generation} is already there.")
            if record is not None and record.exit is None:
                if record.generation == spec.generation and not record.stopping:
                    return self._workload(home, self._refit(home, record, spec))
                await self._end(home, record, self._settings.replace_grace)
            return self._workload(home, await self._start(home, spec))

    async def observe(self, ids: Collection[UUID]) -> Mapping[UUID, Workload]:
        """What runs for these instances; unknown ids observe as absent."""
        return {instance_id: await self._observe(self._home(instance_id)) for instance_id in ids}

    async def stop(self, instance_id: UUID, *, grace: timedelta) -> Workload:
        """Ask the agent to drain, end it after `grace`; its folder stays."""
        home = self._home(instance_id)
        try:
            lock = await self._lock(home)
        except FileNotFoundError:
            return ABSENT
        with _closing(lock):
            record = await self._settle(home)
            if record is not None and record.exit is None:
                record = await self._end(home, record, grace)
            return self._workload(home, record)

    async def destroy(self, instance_id: UUID) -> Workload:
        """End the agent at once and remove its folder."""
        home = self._home(instance_id)
        try:
            lock = await self._lock(home)
        except FileNotFoundError:
            return ABSENT
        with _closing(lock):
            record = await self._settle(home)
            if record is not None and record.exit is None:
                await self._end(home, record, timedelta(0))
            with _closing(await self._claim(home)):
                home.remove()
            self._release(instance_id)
        return ABSENT

    async def sweep(self, tenant_id: UUID) -> None:
        """A tenant has nothing here but its agents' folders."""

    def changes(self) -> AsyncIterator[UUID]:
        """Instances whose process started or ended; those of an earlier run are watched too."""
        reader = self._hints.reader()
        for home in self._homes():
            record = home.read()
            if record is not None and record.exit is None:
                self._alive(home, record)
        return reader

    async def inventory(self) -> AsyncIterator[Ownership]:
        """Every folder there is, whether its agent runs or not."""
        for home in self._homes():
            record = home.read()
            yield Ownership(instance_id=home.instance_id, ref=record.ref if record else None)

    async def logs(self, instance_id: UUID, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """The last lines; with `follow`, new ones until the instance is destroyed."""
        home = self._home(instance_id)
        reader = LogReader(home.log, keep=self._settings.log_kept)
        for line in await asyncio.to_thread(reader.tail, tail):
            yield line
        while follow and home.path.exists() and not await self._closes_within(FOLLOW_LOOK_S):
            for line in await asyncio.to_thread(reader.more):
                yield line

    async def close(self) -> None:
        """Stop watching; agents keep running."""
        self._closed.set()
        self._hints.close()
        for instance_id in tuple(self._held):
            self._release(instance_id)
        if self._rotation is not None:
            await self._rotation

    async def _observe(self, home: Home) -> Workload:
        record = home.read()
        if record is not None and record.exit is None and not self._alive(home, record):
            try:
                lock = home.try_lock()
            except FileNotFoundError:
                return ABSENT
            if lock is None:
                # Who holds it is about to write this down.
                record = record if record.process is None else self._with_exit(home, record)
            else:
                with _closing(lock), suppress(Transient):
                    record = await self._settle(home)
        return self._workload(home, record)

    async def _settle(self, home: Home) -> Record | None:
        """Bring the record and what really lives together; under the lock."""
        record = home.read()
        if record is None or record.exit is not None:
            return record
        if record.process is None and (key := await self._newborn(home)) is not None:
            record = home.write(replace(record, process=key))
        return record if self._alive(home, record) else self._write_exit(home, record)

    async def _newborn(self, home: Home) -> ProcessKey | None:
        """The agent whose starter was killed before it could write down the pid."""
        deadline = _deadline(self._settings.lock_wait)
        while home.occupied():
            if (key := find_group_leader(home.mark)) is not None:
                return key
            await _look_again(deadline, "An agent of this instance lives but is not found yet.")
        return None

    async def _start(self, home: Home, spec: InstanceSpec) -> Record:
        settings = self._settings
        with _closing(await self._claim(home)) as claim:
            rotate(home.log, max_bytes=settings.log_bytes, keep=settings.log_kept)
            record = home.write(
                Record(
                    ref=secrets.token_hex(8),
                    generation=spec.generation,
                    allowance=spec.allowance,
                    started_at=self._clock.now(),
                )
            )
            # The claim says that nobody of before lives in this folder.
            home.write_token(self._mint(spec, self._place))
            try:
                pid = launch(
                    spec,
                    home,
                    command=self._command,
                    control_url=self._control_url,
                    outbound_allow=self._outbound_allow,
                    limits=settings.limits,
                    claim=claim,
                )
            except OSError as error:
                self._write_exit(home, record)
                raise Transient(f"The agent could not be started: {error.strerror}.") from error
        record = home.write(replace(record, process=ProcessKey(pid, birth_of(pid) or "gone")))
        self._alive(home, record)
        self._hints.put(home.instance_id)
        return record

    def _refit(self, home: Home, record: Record, spec: InstanceSpec) -> Record:
        if record.allowance == spec.allowance or record.process is None:
            return record
        refit(record.process.pid, spec.allowance)
        return home.write(replace(record, allowance=spec.allowance))

    async def _claim(self, home: Home) -> int:
        """Make sure that nothing of an earlier agent lives, and keep it so."""
        deadline = _deadline(self._settings.kill_wait)
        while (claim := home.try_claim()) is None:
            await kill_all(home.mark, seconds=self._settings.kill_wait.total_seconds())
            await _look_again(deadline, "Something of an earlier agent still runs.")
        return claim

    async def _end(self, home: Home, record: Record, grace: timedelta) -> Record:
        record = home.write(replace(record, stopping=True))
        held = self._held[home.instance_id]
        if grace:
            held.send(signal.SIGTERM)
        if not grace or not await held.wait(grace.total_seconds()):
            held.send(signal.SIGKILL)
            if not await held.wait(self._settings.kill_wait.total_seconds()):
                raise Transient("The agent was killed and does not go.")
        return self._write_exit(home, record)

    def _alive(self, home: Home, record: Record) -> bool:
        """Whether this start lives; from now on its exit is noticed."""
        if record.process is None:
            return False
        held = self._held.get(home.instance_id)
        if held is None or held.key != record.process:
            self._release(home.instance_id)
            key = record.process
            held = HeldProcess.hold(key, lambda: self._exited(home, key))
            if held is None:
                return False
            self._held[home.instance_id] = held
            self._keep_logs_small()
        return held.alive()

    def _exited(self, home: Home, key: ProcessKey) -> None:
        """Write the exit down at once, unless who holds the lock is about to."""
        if self._closed.is_set():
            return
        with suppress(FileNotFoundError):
            if (lock := home.try_lock()) is not None:
                with _closing(lock):
                    record = home.read()
                    if record is not None and record.process == key and record.exit is None:
                        self._write_exit(home, record)
        self._hints.put(home.instance_id)

    def _write_exit(self, home: Home, record: Record) -> Record:
        record = home.write(self._with_exit(home, record))
        home.bootstrap.unlink(missing_ok=True)
        self._release(home.instance_id)
        return record

    def _with_exit(self, home: Home, record: Record) -> Record:
        held = self._held.get(home.instance_id)
        code = held.exit_code if held is not None and held.key == record.process else None
        return replace(record, stopping=False, exit=Exit(code=code, at=self._clock.now()))

    def _release(self, instance_id: UUID) -> None:
        if (held := self._held.pop(instance_id, None)) is not None:
            held.close()

    def _workload(self, home: Home, record: Record | None) -> Workload:
        if record is None:
            return ABSENT
        workload = Workload(
            state=_state(record),
            generation=record.generation,
            allowance=record.allowance,
            ref=record.ref,
            started_at=record.started_at,
        )
        if record.exit is None:
            return workload
        return replace(
            workload,
            exit_code=record.exit.code,
            exited_at=record.exit.at,
            last_lines=last_lines(home.log, count=LAST_LINES, keep=self._settings.log_kept),
        )

    async def _lock(self, home: Home, *, create: bool = False) -> int:
        deadline = _deadline(self._settings.lock_wait)
        while True:
            try:
                if create:
                    home.create()
                if (lock := home.try_lock()) is not None:
                    return lock
            except FileNotFoundError:  # a destroy came between
                if not create:
                    raise
            await _look_again(deadline, "Another caller is busy with this instance.")

    def _home(self, instance_id: UUID) -> Home:
        return Home(self._folder, instance_id)

    def _homes(self) -> Iterator[Home]:
        for path in sorted(self._folder.iterdir()):
            with suppress(ValueError):
                yield self._home(UUID(path.name))

    def _keep_logs_small(self) -> None:
        if self._rotation is None and not self._closed.is_set():
            self._rotation = asyncio.create_task(self._rotate_logs(), name="agent-log-rotation")

    async def _rotate_logs(self) -> None:
        settings = self._settings
        while not await self._closes_within(settings.log_look.total_seconds()):
            for instance_id in tuple(self._held):
                log = self._home(instance_id).log
                try:
                    await asyncio.to_thread(
                        rotate, log, max_bytes=settings.log_bytes, keep=settings.log_kept
                    )
                except OSError as error:
                    logger.warning(
                        "agent log not rotated", instance=str(instance_id), error=error.strerror
                    )

    async def _closes_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        return self._closed.is_set()


def _state(record: Record) -> WorkloadState:
    if record.exit is not None:
        return WorkloadState.EXITED
    if record.process is None:
        return WorkloadState.STARTING
    return WorkloadState.STOPPING if record.stopping else WorkloadState.RUNNING


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _deadline(wait: timedelta) -> float:
    return asyncio.get_running_loop().time() + wait.total_seconds()


async def _look_again(deadline: float, reason: str) -> None:
    if asyncio.get_running_loop().time() >= deadline:
        raise Transient(reason)
    await asyncio.sleep(LOCK_LOOK_S)
