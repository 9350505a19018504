"""Channels: each in a disposable scope of its own, started again when its adapter ends.

A scope that failed hurts no other; a swap starts new scopes beside the old ones and either keeps
all of them or puts everything back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import cast
from uuid import UUID

import httpx2
import structlog
from pydantic import BaseModel

from adapters import registry
from adapters.base import Adapter, ChannelRefused, Control, Media, NotAccepted
from adapters.model import Inbound
from instance_agent.backoff import Backoff
from instance_agent.intake import Intake
from instance_agent.metrics import Metrics
from instance_agent.protocol import ChannelState, ChannelStatus
from instance_agent.store import StoreFailed

# A channel that stayed connected this long has recovered: the next failure starts over.
STEADY_S = 60.0
# How long a swap watches whether a changed channel fails at once; slower ones get the benefit
# of the doubt, since the platform may be away for everybody.
SETTLE_S = 10.0
# An adapter that does not end by then is left behind; its effects are ignored.
STOP_S = 5.0

log = structlog.get_logger()

Record = Callable[[ChannelStatus], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """What a scope is made of; equal specs need no reconnecting."""

    id: UUID
    kind: str
    settings: BaseModel


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What every scope gets from the agent."""

    http: httpx2.AsyncClient
    control: Control
    media: Media
    intake: Intake
    metrics: Metrics
    clock: Callable[[], float]
    random: Random


class ChannelHost:
    """The agent as one adapter sees it (see `adapters.base.Host`)."""

    def __init__(
        self,
        around: Surroundings,
        spec: ChannelSpec,
        on_connected: Callable[["ChannelHost"], None],
    ) -> None:
        self.http = around.http
        self.control = around.control
        self.media = around.media
        self.ended = False
        self._intake = around.intake
        self._spec = spec
        self._on_connected = on_connected

    def resume(self) -> str | None:
        return self._intake.resume(self._spec.id)

    async def report(self, messages: Sequence[Inbound], *, position: str | None = None) -> None:
        if position is not None and self.ended:
            # Another adapter goes on from here; this one's word would lead it back.
            raise NotAccepted("this adapter has ended")
        rule = registry.kind(self._spec.kind).acknowledge
        await self._intake.take(self._spec.id, rule, messages, position=position)

    def connected(self) -> None:
        self._on_connected(self)


class SwapFailed(Exception):
    """A changed channel ended before it connected; everything is as it was."""

    def __init__(self, channel_id: UUID, reason: str) -> None:
        super().__init__(reason)
        self.channel_id = channel_id
        self.reason = reason


class Scope:
    """One channel's adapter, its task and its state."""

    def __init__(
        self, spec: ChannelSpec, around: Surroundings, on_change: Callable[["Scope"], None]
    ) -> None:
        self.spec = spec
        self._around = around
        self._on_change = on_change
        self._backoff = Backoff(base_s=1, cap_s=60, random=around.random)
        self._state: ChannelState = "connecting"
        self._reason: str | None = None
        self._proof_at: float | None = None
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._host: ChannelHost | None = None
        self._renew()

    @property
    def status(self) -> ChannelStatus:
        at = self._proof_at
        return ChannelStatus(
            channel_id=self.spec.id,
            state=self._state,
            reason=self._reason,
            proof_at=None if at is None else datetime.fromtimestamp(at, UTC),
        )

    @property
    def exclusive(self) -> bool:
        return self.adapter.exclusive

    def start(self) -> None:
        self._on_change(self)
        # A fresh context: the channel outlives the request that configured it, and its trace.
        self._task = asyncio.create_task(
            self._keep_running(), name=f"channel-{self.spec.id}", context=Context()
        )

    async def stop(self) -> None:
        """Bounded; after it, whatever the adapter still says is ignored."""
        self._let_go()
        if self._task is not None:
            self._task.cancel()
            _, pending = await asyncio.wait({self._task}, timeout=STOP_S)
            if pending:
                log.error("channel did not stop", channel_id=str(self.spec.id))
        self._become("stopped")

    async def failure(self, within_s: float) -> str | None:
        """Why the channel ended without ever connecting; None if it did not, in that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._settled.wait()
        except TimeoutError:
            return None
        return self._reason if self._proof_at is None else None

    def _renew(self) -> None:
        host = ChannelHost(self._around, self.spec, self._connected)
        adapter = registry.kind(self.spec.kind).adapter()
        self.adapter = cast(Adapter, adapter(self.spec.settings, host))
        self._host = host

    def _let_go(self) -> None:
        if self._host is not None:
            self._host.ended = True
        self._host = None

    async def _keep_running(self) -> None:
        while True:
            started_at = self._around.clock()
            reason = await self._run_once()
            self._let_go()
            if self._state == "connected" and self._around.clock() - started_at >= STEADY_S:
                self._backoff.reset()
            self._become("failed", reason)
            self._settled.set()
            delay = self._backoff.next()
            log.warning(
                "channel failed",
                channel_id=str(self.spec.id),
                reason=reason,
                restart_in_s=round(delay, 1),
            )
            await asyncio.sleep(delay)
            self._around.metrics.restarts.labels(self.spec.kind).inc()
            self._renew()
            self._become("connecting")

    async def _run_once(self) -> str:
        try:
            await self.adapter.run()
        except ChannelRefused as refused:
            return refused.detail
        except Exception as error:
            # Only the type: the text of a library's error may quote a secret.
            return f"the adapter raised {type(error).__name__}"
        return "the adapter returned"

    def _connected(self, host: ChannelHost) -> None:
        if host is not self._host:
            return  # an adapter that has ended still talks
        self._proof_at = self._around.clock()
        self._settled.set()
        self._become("connected")

    def _become(self, state: ChannelState, reason: str | None = None) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason = state, reason
            self._on_change(self)


class Supervisor:
    """All channels of the running document."""

    def __init__(self, around: Surroundings, record: Record) -> None:
        self._around = around
        self._record = record
        self._scopes: dict[UUID, Scope] = {}
        # The newest unreported status per channel, so it cannot outgrow the document.
        self._changed: dict[UUID, ChannelStatus] = {}
        self._wake = asyncio.Event()

    def scope(self, channel_id: UUID) -> Scope | None:
        return self._scopes.get(channel_id)

    def specs(self) -> dict[UUID, ChannelSpec]:
        return {scope.spec.id: scope.spec for scope in self._scopes.values()}

    def statuses(self) -> list[ChannelStatus]:
        return [scope.status for scope in self._scopes.values()]

    async def probe(self, spec: ChannelSpec) -> None:
        """Try a channel without side effects; raises ChannelRefused."""
        host = ChannelHost(self._around, spec, lambda _: None)
        host.ended = True
        await registry.kind(spec.kind).adapter()(spec.settings, host).probe()

    async def swap(self, specs: Iterable[ChannelSpec]) -> None:
        """Run exactly these channels, touching only what changed; raises SwapFailed."""
        before = dict(self._scopes)
        after = {
            spec.id: before[spec.id]
            if spec.id in before and before[spec.id].spec == spec
            else Scope(spec, self._around, self._note)
            for spec in specs
        }
        new = [scope for key, scope in after.items() if scope is not before.get(key)]
        old = [scope for key, scope in before.items() if scope is not after.get(key)]
        await _stop(scope for scope in old if scope.exclusive)
        self._scopes = after
        for scope in new:
            scope.start()
        failures = await asyncio.gather(
            *(scope.failure(SETTLE_S) for scope in new if scope.spec.id in before)
        )
        replaced = [scope.spec.id for scope in new if scope.spec.id in before]
        for channel_id, reason in zip(replaced, failures, strict=True):
            if reason is not None:
                await self._restore(before, new)
                raise SwapFailed(channel_id, reason)
        await _stop(scope for scope in old if not scope.exclusive)
        for scope in old:
            if scope.spec.id not in after:
                self._report_later(scope.status)

    async def report_states(self) -> None:
        """Loop: spool each channel's newest state when it changed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()

    async def close(self) -> None:
        """Stop all channels, bounded, and say so."""
        await _stop(self._scopes.values())
        await self._flush()

    async def _restore(self, before: dict[UUID, Scope], new: list[Scope]) -> None:
        await _stop(new)
        self._scopes = before
        for channel_id, scope in before.items():
            if scope.exclusive and scope.status.state == "stopped":
                self._scopes[channel_id] = Scope(scope.spec, self._around, self._note)
                self._scopes[channel_id].start()
            else:
                self._note(scope)

    def _note(self, scope: Scope) -> None:
        # While two scopes of a channel overlap, only the one that counts is heard.
        if self._scopes.get(scope.spec.id) is scope:
            self._report_later(scope.status)

    def _report_later(self, status: ChannelStatus) -> None:
        self._changed[status.channel_id] = status
        self._wake.set()

    async def _flush(self) -> None:
        while self._changed:
            status = self._changed.pop(next(iter(self._changed)))
            try:
                await self._record(status)
            except StoreFailed as failure:
                # The next heartbeat carries it.
                log.error("channel state not spooled", reason=str(failure))


async def _stop(scopes: Iterable[Scope]) -> None:
    await asyncio.gather(*(scope.stop() for scope in scopes))
