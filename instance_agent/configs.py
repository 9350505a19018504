"""The configuration: checked completely, then swapped, and the last good one kept.

Nothing that runs is touched before everything that can be checked was checked.
"""

import asyncio
from collections.abc import Awaitable, Callable
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
from instance_agent.store import Store
from instance_agent.supervisor import ChannelSpec, Supervisor, SwapFailed

# A platform that takes longer to answer is not refusing.
PROBE_S = 10.0

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
    ) -> None:
        self._store = store
        self._spool = spool
        self._supervisor = supervisor
        self._record = record
        self._door = door
        self._free_bytes = free_bytes
        self._lock = asyncio.Lock()
        self._document = Document()
        self._applied: Revision | None = None
        self._last_good: int | None = None
        self._rejected: int | None = None
        self._errors: list[DocumentError] = []
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
            last_good=self._last_good,
            rejected=self._rejected,
            errors=self._errors,
        )

    async def boot(self, newest: Revision | None, last_good: Revision | None) -> None:
        """Apply the newest document, else a good one; without any, wait for an update."""
        async with self._lock:
            kept = await last_good_document.load(self._store)
            good = last_good or kept
            self._last_good = good.number if good else None
            for revision in (newest, last_good, kept):
                if revision is not None and await self._boot_with(revision):
                    break
            else:
                self.ready = newest is None
            if self._rejected is not None:
                await self._say_rejected(self._rejected)

    async def update(self, update: ConfigUpdate) -> ConfigOutcome:
        """Answer an update of the control plane; raises Refusal for one that is out of order."""
        async with self._lock:
            revision = Revision(
                number=update.revision, sha256=update.sha256, document=update.document
            )
            if self._applied is not None and not self._is_newer(revision, self._applied):
                return self._outcome("applied")
            try:
                staged = await self._stage(revision)
                if self._needs_restart(staged.document):
                    return self._outcome("needs_restart")
                await self._swap(staged)
            except Rejected as rejected:
                self._rejected, self._errors = revision.number, rejected.errors
                await self._say_rejected(revision.number)
                return self._outcome("rejected", rejected.errors)
            return self._outcome("applied")

    @staticmethod
    def _is_newer(revision: Revision, applied: Revision) -> bool:
        if (revision.number, revision.sha256) == (applied.number, applied.sha256):
            return False
        # The same number with another digest: the channels, compiled in, have changed.
        if revision.number < applied.number:
            raise Refusal(409, "stale_revision", f"revision {applied.number} is already applied")
        return True

    def _outcome(
        self, outcome: Outcome, errors: list[DocumentError] | None = None
    ) -> ConfigOutcome:
        return ConfigOutcome(outcome=outcome, revision=self._running, errors=errors or [])

    async def _boot_with(self, revision: Revision) -> bool:
        try:
            staged = await self._stage(revision)
            await self._swap(staged)
        except Rejected as rejected:
            # Of several, the newest is the one that people want to hear about.
            if self._rejected is None:
                self._rejected, self._errors = revision.number, rejected.errors
            return False
        self._spool.max_bytes = staged.document.limits.spool_max_bytes
        return True

    async def _say_rejected(self, number: int) -> None:
        running = self._running
        log.error("configuration rejected", revision=number, running=running)
        await self._record(
            "config.rejected",
            ConfigRejected(revision=number, running=running, errors=self._errors),
        )

    # --- checking ---

    async def _stage(self, revision: Revision) -> Staged:
        if digest(revision.document) != revision.sha256:
            raise Rejected([_error("", "digest_mismatch", "the document is not what was signed")])
        try:
            document = Document.model_validate(revision.document)
        except ValidationError as error:
            raise Rejected(document_errors(error)) from None
        channels, errors = read_channels(document.channels)
        errors += self._fits(document)
        if not errors:
            errors = await self._probe(document, channels)
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
        # What the platform's operators opened counts whether the rest of the document works or not.
        self._door.egress = egress.read(staged.document.network.egress_allow)
        try:
            await self._supervisor.swap(staged.channels)
        except SwapFailed as failed:
            ids = [spec.id for spec in staged.channels]
            path = f"/channels/{ids.index(failed.channel_id)}"
            raise Rejected([_error(path, "did_not_connect", failed.reason)]) from failed
        revision = staged.revision
        self._document, self._applied = staged.document, revision
        self._last_good, self.ready = revision.number, True
        if self._rejected is not None and self._rejected < revision.number:
            self._rejected, self._errors = None, []
        await last_good_document.save(self._store, revision)
        log.info("configuration applied", revision=revision.number)
        await self._record(
            "config.applied", ConfigApplied(revision=revision.number, sha256=revision.sha256)
        )


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
