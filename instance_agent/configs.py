"""The configuration: checked completely, then swapped, and the last good one kept.

Nothing that runs is touched before everything that can be checked was checked. What only running
can show, a trial shows: for a while the changed channels are watched, and where one that was
connected stays away, all is put back.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from pydantic import ValidationError

from adapters import egress, registry
from adapters.base import ChannelRefused
from adapters.outbound import Door
from instance_agent import last_good as last_good_document
from instance_agent import trial
from instance_agent.channel_host import ChannelSpec
from instance_agent.document import (
    RELOADS,
    ChannelConfig,
    Document,
    DocumentError,
    Llm,
    digest,
    document_errors,
)
from instance_agent.problems import Refusal
from instance_agent.protocol import (
    ConfigApplied,
    ConfigOutcome,
    ConfigRejected,
    ConfigState,
    ConfigUpdate,
    EventType,
    Revision,
)
from instance_agent.spool import Spool
from instance_agent.store import Store, StoreFailed
from instance_agent.supervisor import PROBE_S, Supervisor
from instance_agent.trial import MAX_DEATHS, SHOWN_BY_TRIAL, Fault, Mark

log = structlog.get_logger()

Outcome = Literal["applied", "needs_restart", "rejected"]
Record = Callable[[EventType, msgspec.Struct], Awaitable[None]]


class Rejected(Exception):
    """The document cannot be applied; nothing changed."""

    def __init__(self, errors: list[DocumentError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A document that passed every check."""

    revision: Revision
    document: Document
    channels: list[ChannelSpec]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A configuration that runs and is not known to be good yet.

    `channels` are those of the last good one, `watched` those of them that were connected then
    and have changed: only these tell against it.
    """

    staged: Staged
    good: Revision
    channels: dict[UUID, ChannelSpec]
    connected: frozenset[UUID]
    until: float

    @property
    def specs(self) -> dict[UUID, ChannelSpec]:
        return {spec.id: spec for spec in self.staged.channels}

    @property
    def watched(self) -> list[UUID]:
        specs = self.specs
        return [
            key
            for key in sorted(self.connected)
            if key in specs and specs[key] != self.channels.get(key)
        ]

    @property
    def bystanders(self) -> list[UUID]:
        specs = self.specs
        return [key for key in self.connected if specs.get(key) == self.channels.get(key)]


class Configs:
    """Which document runs, and the way to another. One change at a time."""

    def __init__(
        self,
        *,
        store: Store,
        spool: Spool,
        supervisor: Supervisor,
        record: Record,
        door: Door,
        free_bytes: Callable[[], int],
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._spool = spool
        self._supervisor = supervisor
        self._record = record
        self._door = door
        self._free_bytes = free_bytes
        self._window_s = window_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._document = Document()
        self._applied: Revision | None = None
        self._good: Revision | None = None
        self._rejected: Revision | None = None
        self._errors: list[DocumentError] = []
        self._trial: Trial | None = None
        self._begun = asyncio.Event()
        self._mark: Mark | None = None
        self.ready = False

    @property
    def _running(self) -> int | None:
        return self._applied.number if self._applied else None

    @property
    def llm(self) -> Llm:
        """Which models are asked, by the document that runs."""
        return self._document.llm

    def state(self) -> ConfigState:
        return ConfigState(
            applied=self._running,
            applied_sha256=self._applied.sha256 if self._applied else None,
            last_good=self._good.number if self._good else None,
            rejected=self._rejected.number if self._rejected else None,
            errors=self._errors,
            on_trial=self._trial is not None,
            rejected_sha256=self._rejected.sha256 if self._rejected else None,
        )

    async def boot(
        self,
        newest: Revision | None,
        last_good: Revision | None,
        refused: Sequence[DocumentError] = (),
    ) -> None:
        """Apply the newest document, else a good one; without any, wait for an update.

        `refused`: why an agent before this one refused the newest.
        """
        async with self._lock:
            kept = await last_good_document.load(self._store)
            self._mark = await trial.load(self._store)
            # Of one number, the control plane's has the channels of now.
            goods = sorted(
                (each for each in (last_good, kept) if each is not None),
                key=lambda each: each.number,
                reverse=True,
            )
            # One that an agent of another version made may be of no use to this one.
            self._good = next(filter(_usable, goods), None)
            for revision in [newest, *goods] if newest is not None else goods:
                lost = self._lost_before(revision, refused if revision is newest else ())
                if await self._boot_with(revision, lost):
                    break
            else:
                self.ready = newest is None
            if self._rejected is not None:
                await self._say_rejected()

    async def update(self, update: ConfigUpdate) -> ConfigOutcome:
        """Answer an update of the control plane; raises Refusal for one that is out of order."""
        async with self._lock:
            revision = Revision(
                number=update.revision, sha256=update.sha256, document=update.document
            )
            if not self._is_newer(revision):
                return self._outcome("applied")
            try:
                if errors := self._lost_before(revision):
                    raise Rejected(errors)
                staged = await self._stage(revision)
                if self._needs_restart(staged.document):
                    return self._outcome("needs_restart")
            except Rejected as rejected:
                self._rejected, self._errors = revision, rejected.errors
                await self._say_rejected()
                return self._outcome("rejected", rejected.errors)
            await self._swap(staged)
            return self._outcome("applied")

    async def watch(self) -> None:
        """Loop: end each trial, for good or for bad, when its time is over or a channel refuses."""
        while True:
            await self._begun.wait()
            self._begun.clear()
            while (current := self._trial) is not None:
                left = current.until - self._clock()
                fault = trial.judge(
                    self._supervisor.signs(current.watched, current.bystanders), at_end=left <= 0
                )
                if fault is None and left > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(left):
                            await self._supervisor.moved()
                    await self._supervisor.retire()
                    continue
                async with self._lock:
                    # A newer one may have come while this one waited for its turn.
                    if self._trial is current:
                        await self._end(current, fault)

    async def close(self) -> None:
        """An end that was asked for does not tell against what is on trial."""
        if self._trial is not None and self._mark is not None:
            with contextlib.suppress(StoreFailed):
                await self._remember(msgspec.structs.replace(self._mark, deaths=0))

    def _is_newer(self, revision: Revision) -> bool:
        applied, rejected = self._applied, self._rejected
        if applied is None:
            return True
        if (revision.number, revision.sha256) == (applied.number, applied.sha256):
            return False
        # The same number with another digest: the channels, compiled in, have changed.
        newest = max(applied.number, rejected.number if rejected else 0)
        if revision.number < newest:
            raise Refusal(409, "stale_revision", f"revision {newest} came already")
        return True

    def _outcome(
        self, outcome: Outcome, errors: list[DocumentError] | None = None
    ) -> ConfigOutcome:
        return ConfigOutcome(
            outcome=outcome,
            revision=self._running,
            errors=errors or [],
            on_trial=outcome == "applied" and self._trial is not None,
        )

    def _lost_before(
        self, revision: Revision, refused: Sequence[DocumentError] = ()
    ) -> list[DocumentError]:
        """What speaks against trying it: it lost its trial, or starts ended during it."""
        if (mark := self._mark) is not None and mark.of(revision):
            if mark.errors:
                return mark.errors
            if mark.deaths >= MAX_DEATHS:
                text = f"the agent ended {mark.deaths} times while it was tried"
                return [_error("", "agent_ended", text)]
        return [each for each in refused if each.code in SHOWN_BY_TRIAL]

    async def _boot_with(self, revision: Revision, lost: list[DocumentError]) -> bool:
        try:
            if lost:
                # Whoever told us, an update that brings it again is told so, too.
                await self._remember(
                    Mark(number=revision.number, sha256=revision.sha256, errors=lost)
                )
                raise Rejected(lost)
            staged = await self._stage(revision)
            await self._swap(staged)
        except Rejected as rejected:
            # Of several, the newest is the one that people want to hear about.
            if self._rejected is None:
                self._rejected, self._errors = revision, rejected.errors
            return False
        self._spool.max_bytes = staged.document.limits.spool_max_bytes
        return True

    async def _say_rejected(self) -> None:
        if self._rejected is None:
            return
        log.error("configuration rejected", revision=self._rejected.number, running=self._running)
        rejected = ConfigRejected(
            revision=self._rejected.number,
            running=self._running,
            errors=self._errors,
            sha256=self._rejected.sha256,
        )
        await self._record("config.rejected", rejected)

    async def _say_applied(self, revision: Revision) -> None:
        log.info("configuration applied", revision=revision.number)
        applied = ConfigApplied(revision=revision.number, sha256=revision.sha256)
        await self._record("config.applied", applied)

    # --- checking ---

    async def _stage(self, revision: Revision) -> Staged:
        document, channels = _read(revision)
        errors = self._fits(document) or await self._probe(document, channels)
        if errors:
            raise Rejected(errors)
        return Staged(revision=revision, document=document, channels=channels)

    def _fits(self, document: Document) -> list[DocumentError]:
        wanted = document.limits.spool_max_bytes
        if wanted <= self._free_bytes() + self._spool.state.bytes:
            return []
        text = "there is not that much room on the agent's volume"
        return [_error("/limits/spool_max_bytes", "does_not_fit", text)]

    async def _probe(self, document: Document, channels: list[ChannelSpec]) -> list[DocumentError]:
        running = self._supervisor.specs()
        found = await asyncio.gather(
            *(
                self._probe_one(index, spec)
                for index, spec in enumerate(channels)
                if running.get(spec.id) != spec
            )
        )
        return [error for error in found if error is not None]

    async def _probe_one(self, index: int, spec: ChannelSpec) -> DocumentError | None:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._supervisor.probe(spec)
        except ChannelRefused as refused:
            path = f"/channels/{index}/settings{refused.path}"
            return _error(path, "refused", refused.detail)
        except Exception as error:
            # Away is not wrong: the channel's own retrying will tell.
            log.warning("probe told nothing", channel_id=str(spec.id), reason=type(error).__name__)
        return None

    # --- applying ---

    def _needs_restart(self, document: Document) -> bool:
        return any(
            getattr(document, section) != getattr(self._document, section)
            for section, reload in RELOADS.items()
            if reload == "restart"
        )

    async def _swap(self, staged: Staged) -> None:
        begun = self._trial_of(staged)
        if begun is not None:
            deaths = self._mark.deaths + 1 if self._mark and self._mark.of(staged.revision) else 1
            # Before it is tried: this may be the last that we do.
            await self._remember(
                Mark(
                    number=staged.revision.number,
                    sha256=staged.revision.sha256,
                    watched=begun.watched,
                    deaths=deaths,
                )
            )
        await self._run(staged)
        if self._rejected is not None and self._rejected.number <= staged.revision.number:
            self._rejected, self._errors = None, []
        self._trial = begun
        if begun is None:
            await self._supervisor.retire(all_of_them=True)
            await self._found_good(staged.revision)
        else:
            self._begun.set()

    async def _run(self, staged: Staged) -> None:
        # What the platform's operators opened counts whether the rest of the document works or not.
        self._door.egress = egress.read(staged.document.network.egress_allow)
        await self._supervisor.swap(staged.channels)
        self._document, self._applied, self.ready = staged.document, staged.revision, True

    def _trial_of(self, staged: Staged) -> Trial | None:
        """None where nothing is there to be restored, or no channel is new or changed."""
        good = self._good
        if good is None or good.sha256 == staged.revision.sha256:
            return None
        if self._trial is not None:
            # What was on trial never was good: the newer one is held against what was.
            channels, connected = self._trial.channels, self._trial.connected
        elif self._applied is not None:
            channels, connected = self._supervisor.specs(), self._supervisor.connected()
        else:
            channels = {spec.id: spec for spec in _read(good)[1]}
            connected = frozenset[UUID]()
            if self._mark is not None and self._mark.of(staged.revision):
                connected = frozenset(self._mark.watched)
        if all(channels.get(spec.id) == spec for spec in staged.channels):
            return None
        return Trial(
            staged=staged,
            good=good,
            channels=channels,
            connected=connected,
            until=self._clock() + self._window_s,
        )

    async def _end(self, ended: Trial, fault: Fault | None) -> None:
        self._trial = None
        try:
            if fault is None:
                await self._supervisor.retire(all_of_them=True)
                await self._found_good(ended.staged.revision)
            else:
                await self._restore(ended, fault)
        except StoreFailed as failure:
            # The heartbeats tell how it stands.
            log.error("end of a trial not kept", reason=str(failure))

    async def _restore(self, ended: Trial, fault: Fault) -> None:
        """Put back what was good, and say what was wrong."""
        revision = ended.staged.revision
        index = [spec.id for spec in ended.staged.channels].index(fault.channel_id)
        errors = [_error(f"/channels/{index}", "did_not_connect", fault.reason)]
        self._rejected, self._errors = revision, errors
        good = ended.good
        document, channels = _read(good)
        await self._run(Staged(revision=good, document=document, channels=channels))
        await self._supervisor.retire(all_of_them=True)
        await self._remember(
            Mark(number=revision.number, sha256=revision.sha256, errors=self._errors)
        )
        await self._say_rejected()
        await self._say_applied(good)

    async def _found_good(self, revision: Revision) -> None:
        self._good = revision
        await last_good_document.save(self._store, revision)
        if self._mark is not None and self._mark.number <= revision.number:
            await self._remember(None)
        await self._say_applied(revision)

    async def _remember(self, mark: Mark | None) -> None:
        await trial.save(self._store, mark)
        self._mark = mark


def _read(revision: Revision) -> tuple[Document, list[ChannelSpec]]:
    """What the document says, by itself; raises Rejected."""
    if digest(revision.document) != revision.sha256:
        raise Rejected([_error("", "digest_mismatch", "the document is not what was signed")])
    try:
        document = Document.model_validate(revision.document)
    except ValidationError as error:
        raise Rejected(document_errors(error)) from None
    channels, errors = read_channels(document.channels)
    if errors:
        raise Rejected(errors)
    return document, channels


def _usable(revision: Revision) -> bool:
    try:
        _read(revision)
    except Rejected:
        return False
    return True


def read_channels(configs: list[ChannelConfig]) -> tuple[list[ChannelSpec], list[DocumentError]]:
    """Check each channel's settings with its kind's own model."""
    specs: list[ChannelSpec] = []
    errors: list[DocumentError] = []
    seen: set[UUID] = set()
    for index, config in enumerate(configs):
        path = f"/channels/{index}"
        if config.id in seen:
            errors.append(_error(f"{path}/id", "duplicate", "another channel has this id"))
        seen.add(config.id)
        try:
            model = registry.kind(config.kind).settings()
            settings = model.model_validate(config.settings)
        except registry.UnknownKind:
            errors.append(_error(f"{path}/kind", "unknown_kind", "this agent has no such adapter"))
        except ValidationError as error:
            errors += document_errors(error, f"{path}/settings")
        else:
            specs.append(ChannelSpec(id=config.id, kind=config.kind, settings=settings))
    return specs, errors


def _error(path: str, code: str, message: str) -> DocumentError:
    return DocumentError(path=path, code=code, message=message)
