"""Channels: each in a disposable scope of its own, started again when its adapter ends.

A scope that failed hurts no other. A swap starts the changed channels and returns; what they
replace goes on beside them until they connect, unless there is one connection only to have.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import cast
from uuid import UUID

import httpx2
import structlog
from pydantic import BaseModel

from adapters import registry, sockets
from adapters.base import (
    Adapter,
    ChannelDown,
    ChannelRefused,
    Control,
    Exclusive,
    Media,
    NotAccepted,
    TakesSockets,
)
from adapters.model import Inbound
from adapters.outbound import Door
from instance_agent.backoff import Backoff
from instance_agent.blacklist import Blacklist
from instance_agent.holds import LET_GO, Holds, account_key
from instance_agent.intake import Intake
from instance_agent.metrics import Metrics
from instance_agent.protocol import ChannelState, ChannelStatus
from instance_agent.store import StoreFailed
from instance_agent.trial import Sign

# A channel that stayed connected this long has recovered: the next failure starts over.
STEADY_S = 60.0
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
    blacklist: Blacklist
    intake: Intake
    metrics: Metrics
    clock: Callable[[], float]
    random: Random
    holds: Holds
    door: Door


class ChannelHost:
    """The agent as one adapter sees it (see `adapters.base.Host`)."""

    def __init__(
        self,
        around: Surroundings,
        spec: ChannelSpec,
        on_connected: Callable[["ChannelHost", str | None], None],
    ) -> None:
        self.http = around.http
        self.control = around.control
        self.media = around.media
        self.dial = partial(sockets.dial, around.door)
        self.ended = False
        self._blacklist = around.blacklist
        self._intake = around.intake
        self._spec = spec
        self._on_connected = on_connected

    def resume(self) -> str | None:
        return self._intake.resume(self._spec.id)

    def admitted(self, messages: Sequence[Inbound]) -> list[Inbound]:
        kind, channel_id = self._spec.kind, self._spec.id
        blocks = self._blacklist.blocks
        return [each for each in messages if not blocks(kind, channel_id, each.sender.id)]

    async def report(self, messages: Sequence[Inbound], *, position: str | None = None) -> None:
        if position is not None and self.ended:
            # Another adapter goes on from here; this one's word would lead it back.
            raise NotAccepted("this adapter has ended")
        rule = registry.kind(self._spec.kind).rule(self._spec.settings)
        heard = self.admitted(messages)
        await self._intake.take(self._spec.id, rule, heard, position=position)

    def connected(self, note: str | None = None) -> None:
        self._on_connected(self, note)


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
        self.failure: str | None = None  # why it failed last
        self.refused = False  # the platform itself said that these settings cannot work
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        # Platforms' own connections, each as long as the adapter serves it.
        self._sockets: set[asyncio.Task[None]] = set()
        self._knocked = asyncio.Event()
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

    @property
    def alone(self) -> bool:
        """Whether its successor can only connect when it has ended: by a lease, or because the
        platform opens one socket to whoever takes it."""
        return self.exclusive or registry.kind(self.spec.kind).takes_sockets

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    def start(self) -> None:
        self._on_change(self)
        # A fresh context: the channel outlives the request that configured it, and its trace.
        self._task = asyncio.create_task(
            self._keep_running(), name=f"channel-{self.spec.id}", context=Context()
        )

    async def socket(self, connection: sockets.Socket) -> None:
        """Have the adapter serve a connection of its platform; it ends with the adapter.

        Raises NotAccepted while none runs; whoever pauses after a failure is begun at once then,
        because what it waits for has come.
        """
        serving = asyncio.create_task(
            cast(TakesSockets, self.adapter).socket(connection),
            name=f"socket-{self.spec.id}",
            context=Context(),
        )
        self._sockets.add(serving)
        try:
            await asyncio.wait({serving})
            if not serving.cancelled():
                serving.result()
        except NotAccepted:
            self._knocked.set()
            raise
        finally:
            self._sockets.discard(serving)
            serving.cancel()

    async def stop(self) -> None:
        """Bounded; after it, whatever the adapter still says is ignored."""
        self._let_go()
        if self._task is not None:
            if not self._stopping:
                # Once: a second time would cut short the waiting for an adapter to let go.
                self._stopping = True
                self._task.cancel()
            _, pending = await asyncio.wait({self._task}, timeout=STOP_S)
            if pending:
                log.error("channel did not stop", channel_id=str(self.spec.id))
        self._become("stopped")

    def _renew(self) -> None:
        host = ChannelHost(self._around, self.spec, self._connected)
        adapter = registry.kind(self.spec.kind).adapter()
        self.adapter = cast(Adapter, adapter(self.spec.settings, host))
        self._host = host

    def _let_go(self) -> None:
        if self._host is not None:
            self._host.ended = True
        self._host = None
        for serving in self._sockets:
            serving.cancel()

    async def _keep_running(self) -> None:
        while True:
            started_at = self._around.clock()
            reason = await self._run_once()
            self._let_go()
            if self._state == "connected" and self._around.clock() - started_at >= STEADY_S:
                self._backoff.reset()
            self.failure = reason
            self._become("failed", reason)
            delay = self._backoff.next()
            log.warning(
                "channel failed",
                channel_id=str(self.spec.id),
                reason=reason,
                restart_in_s=round(delay, 1),
            )
            self._knocked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._knocked.wait()
            self._around.metrics.restarts.labels(self.spec.kind).inc()
            self._renew()
            self._become("connecting")

    async def _run_once(self) -> str:
        try:
            if not self.exclusive:
                await self.adapter.run()
            elif not await self._run_alone():
                return LET_GO
        except ChannelRefused as refused:
            self.refused = True
            return refused.detail
        except ChannelDown as down:
            return str(down)
        except Exception as error:
            # Only the type: the text of a library's error may quote a secret.
            return f"the adapter raised {type(error).__name__}"
        return "the adapter returned"

    async def _run_alone(self) -> bool:
        """Run while the account is ours; False when it had to be let go."""
        account = account_key(self.spec.kind, cast(Exclusive, self.adapter).account())
        async with self._around.holds.holding(account, self.spec.id, self._wait) as lost:
            running = asyncio.create_task(self.adapter.run(), name=f"account-{self.spec.id}")
            losing = asyncio.create_task(lost.wait(), name=f"hold-{self.spec.id}")
            try:
                await asyncio.wait({running, losing}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    await running
                return not lost.is_set()
            finally:
                losing.cancel()
                running.cancel()
                # Nobody else may have the account before this one really let go.
                await asyncio.wait({running})

    def _wait(self, reason: str | None) -> None:
        if reason is not None:
            self.failure = reason
            self._become("failed", reason)
        elif self._state != "connecting":
            self._become("connecting")

    def _connected(self, host: ChannelHost, note: str | None) -> None:
        if host is not self._host:
            return  # an adapter that has ended still talks
        self._proof_at = self._around.clock()
        self.refused = False
        if note is not None and note != self._reason:
            self._around.metrics.notes.labels(self.spec.kind).inc()
        self._become("connected", note)

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
        # What was replaced and is still connected, until its successor is.
        self._former: dict[UUID, Scope] = {}
        self._moved = asyncio.Event()

    def scope(self, channel_id: UUID) -> Scope | None:
        return self._scopes.get(channel_id)

    def specs(self) -> dict[UUID, ChannelSpec]:
        return {scope.spec.id: scope.spec for scope in self._scopes.values()}

    def statuses(self) -> list[ChannelStatus]:
        return [scope.status for scope in self._scopes.values()]

    async def probe(self, spec: ChannelSpec) -> None:
        """Try a channel without side effects; raises ChannelRefused."""
        host = ChannelHost(self._around, spec, lambda _, __: None)
        host.ended = True
        await registry.kind(spec.kind).adapter()(spec.settings, host).probe()

    def connected(self) -> frozenset[UUID]:
        """Which channels are connected now."""
        return frozenset(key for key, each in self._scopes.items() if each.connected)

    async def swap(self, specs: Iterable[ChannelSpec]) -> None:
        """Run exactly these channels, touching only what changed."""
        before, former = self._scopes, self._former
        after = {
            spec.id: _same(spec, before.get(spec.id), former.get(spec.id))
            or Scope(spec, self._around, self._note)
            for spec in specs
        }
        running = [*former.values(), *before.values()]
        old = [scope for scope in running if scope is not after.get(scope.spec.id)]
        new = [scope for scope in after.values() if scope not in running]
        await _stop(scope for scope in old if scope.alone)
        # What was good before goes on for as long as its successor has not proved itself.
        self._former = {
            scope.spec.id: scope
            for scope in reversed(old)
            if scope.spec.id in after and scope.connected and not scope.alone
        }
        self._scopes = after
        for scope in new:
            scope.start()
        for scope in former.values():
            self._note(scope)
        self._moved.set()
        await _stop(scope for scope in old if scope is not self._former.get(scope.spec.id))
        for scope in old:
            if scope.spec.id not in after:
                self._report_later(scope.status)

    async def moved(self) -> None:
        """Return when a channel has changed since the last time."""
        await self._moved.wait()
        self._moved.clear()

    async def retire(self, *, all_of_them: bool = False) -> None:
        """Stop what goes on beside a successor that is connected, or all of it."""
        for key in list(self._former):
            if all_of_them or key not in self._scopes or self._scopes[key].connected:
                await self._former.pop(key).stop()

    def signs(self, watched: Iterable[UUID], bystanders: Iterable[UUID]) -> list[Sign]:
        """How the watched channels do, beside others that were connected and did not change."""
        away = {
            self._scopes[key].spec.kind
            for key in bystanders
            if key in self._scopes and not self._scopes[key].connected
        }
        return [
            Sign(
                channel_id=key,
                connected=scope.connected,
                refused=scope.refused,
                failure=scope.failure,
                exclusive=scope.exclusive,
                away=scope.spec.kind in away
                or (key in self._former and not self._former[key].connected),
            )
            for key in watched
            if (scope := self._scopes.get(key)) is not None
        ]

    async def report_states(self) -> None:
        """Loop: spool each channel's newest state when it changed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()

    async def close(self) -> None:
        """Stop all channels, bounded, and say so."""
        await _stop([*self._former.values(), *self._scopes.values()])
        await self._flush()

    def _note(self, scope: Scope) -> None:
        # While two scopes of a channel overlap, only the one that counts is heard.
        if self._scopes.get(scope.spec.id) is scope:
            self._report_later(scope.status)
            self._moved.set()

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


def _same(spec: ChannelSpec, *running: Scope | None) -> Scope | None:
    return next((each for each in running if each is not None and each.spec == spec), None)


async def _stop(scopes: Iterable[Scope]) -> None:
    await asyncio.gather(*(scope.stop() for scope in scopes))
