"""Channels: each in a disposable scope of its own, started again when its adapter ends.

A scope that failed hurts no other. A swap starts the changed channels and returns; what they
replace goes on beside them until they connect, unless there is one connection only to have.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from typing import cast
from uuid import UUID

import structlog

from adapters import registry, sockets
from adapters.base import (
    Adapter,
    ChannelDown,
    ChannelRefused,
    Exclusive,
    NotAccepted,
    SendFailed,
    TakesSockets,
)
from adapters.model import CallbackAnswer, RawCallback
from instance_agent.backoff import Backoff
from instance_agent.channel_host import ChannelHost, ChannelSpec, Surroundings
from instance_agent.holds import LET_GO, account_key
from instance_agent.protocol import (
    ChannelCheck,
    ChannelFault,
    ChannelState,
    ChannelStatus,
    PartOutcome,
)
from instance_agent.store import StoreFailed
from instance_agent.trial import Sign

# A channel that stayed connected this long has recovered: the next failure starts over.
STEADY_S = 60.0
# An adapter that does not end by then is left behind; its effects are ignored.
STOP_S = 5.0
# A platform that takes longer to answer a probe is not refusing.
PROBE_S = 10.0
# What an adapter has started and did not end itself gets this long.
CLEAR_S = 1.0
# A channel that counts as connected must have proved it within this time.
SILENT_AFTER_S = 60.0
# Platforms answer a first call within a second or two; past this the channel says that it waits.
CONNECT_WITHIN_S = 30.0
# Between two looks at all channels' proofs.
LOOK_EVERY_S = 2.0

# After a refusal of the whole account nothing is tried for so long; then one message is.
BARRED_S = 30.0
# A person who has mended it at the platform need not wait: what they insist on is tried
# meanwhile, one message in so long.
INSIST_S = 5.0
# Refusals of the whole account, not of one message.
BARRING = frozenset({"secret_invalid", "ip_not_allowed", "bot_banned"})
# What the tenant must see on the channel itself, until something is sent again.
SHOWN = BARRING | {"no_permission"}

SILENT = f"the platform has been silent for {SILENT_AFTER_S:.0f} s"
NOT_YET = f"the platform has not answered for {CONNECT_WITHIN_S:.0f} s; it is still being tried"
RETURNED = "the adapter returned"

log = structlog.get_logger()

Record = Callable[[ChannelStatus], Awaitable[None]]


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
        # Since when it is in this state, and when it last proved itself, by the steady clock.
        self._since = around.steady()
        self._proven = self._since
        self._silent = asyncio.Event()
        self.refusal: SendFailed | None = None  # why the platform takes no messages of us
        self._barred_until = 0.0
        self._insisted_at = -INSIST_S
        self.failure: str | None = None  # why it failed last
        self.refused: ChannelRefused | None = None  # the platform itself: these cannot work
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
            reason=self._reason or self._refused_sends,
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
        if self._task is None or self._task.done():
            await self._clear_up()
        self._become("stopped")

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Have the adapter take a platform's call; raises NotAccepted."""
        try:
            with self._belongings.inside():
                return await self.adapter.callback(request, verified=verified)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # What it waited for has ended with the adapter; whoever asked goes on.
            raise NotAccepted("this adapter has ended") from None

    @property
    def barred(self) -> SendFailed | None:
        """Why nothing is to be sent now: the platform would refuse it as it did the last."""
        return self.refusal if self._around.steady() < self._barred_until else None

    def yields(self) -> bool:
        """Whether a person who insists gets a try though it is barred."""
        now = self._around.steady()
        if now < self._insisted_at + INSIST_S:
            return False
        self._insisted_at = now
        return True

    def note(self, outcome: PartOutcome) -> None:
        """What came of a send: some refusals concern the whole account, and success ends them."""
        before = self._refused_sends
        if outcome.outcome == "sent":
            self.refusal, self._barred_until = None, 0.0
        elif outcome.outcome == "failed" and outcome.error_class in SHOWN:
            self.refusal = SendFailed(outcome.error_class, outcome.detail or outcome.error_class)
            if outcome.error_class in BARRING:
                self._barred_until = self._around.steady() + BARRED_S
        if self._refused_sends != before:
            self._on_change(self)

    @property
    def _refused_sends(self) -> str | None:
        return f"nothing can be sent: {self.refusal.detail}" if self.refusal else None

    def look(self) -> None:
        """End an adapter that has gone silent; say so of one that takes long to connect."""
        now = self._around.steady()
        if self.connected and now - self._proven >= SILENT_AFTER_S:
            self._silent.set()
        elif self._state == "connecting" and now - self._since >= CONNECT_WITHIN_S:
            self._become("connecting", NOT_YET)

    def _renew(self) -> None:
        host = ChannelHost(self._around, self.spec, self._connected, self._disconnected)
        adapter = registry.kind(self.spec.kind).adapter()
        self.adapter = cast(Adapter, adapter(self.spec.settings, host))
        self._host = host
        self._belongings = host.belongings

    def _let_go(self) -> None:
        if self._host is not None:
            self._host.ended = True
        self._host = None
        for serving in self._sockets:
            serving.cancel()

    async def _clear_up(self) -> None:
        if left := await self._belongings.end(CLEAR_S):
            log.error("an adapter's tasks did not end", channel_id=str(self.spec.id), tasks=left)

    async def _keep_running(self) -> None:
        while True:
            started_at = self._around.steady()
            reason = await self._run_once()
            self._let_go()
            if self._proven - started_at >= STEADY_S:
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
            # Calls that it took after its end may have started something.
            await self._clear_up()
            self._around.metrics.restarts.labels(self.spec.kind).inc()
            self._renew()
            self._become("connecting")

    async def _run_once(self) -> str:
        try:
            if not self.exclusive:
                return await self._run(asyncio.Event())
            account = account_key(self.spec.kind, cast(Exclusive, self.adapter).account())
            holds = self._around.holds
            async with holds.holding(account, self.spec.id, self._wait) as lost:
                if self._host is not None:
                    # A process that slept may act before anything tells it how long.
                    self._host.may_talk = partial(holds.ours, account)
                return await self._run(lost)
        except ChannelRefused as refused:
            self.refused = refused
            return refused.detail
        except ChannelDown as down:
            return str(down)
        except Exception as error:
            # Only the type: the text of a library's error may quote a secret.
            return f"the adapter raised {type(error).__name__}"

    async def _run(self, lost: asyncio.Event) -> str:
        """Run the adapter until it ends, goes silent, or must let the account go; says which."""
        silent = self._silent = asyncio.Event()
        with self._belongings.inside():
            running = asyncio.create_task(self.adapter.run(), name=f"adapter-{self.spec.id}")
        watching = {
            asyncio.create_task(event.wait(), name=f"watch-{self.spec.id}")
            for event in (lost, silent)
        }
        try:
            await asyncio.wait({running, *watching}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
                return RETURNED
            return LET_GO if lost.is_set() else SILENT
        finally:
            for watch in watching:
                watch.cancel()
            if silent.is_set():
                # At once, whatever it does before it ends.
                self._let_go()
                self._become("failed", SILENT)
            if not running.done():
                running.cancel()
                # Nobody else may have an account before this one really let go.
                await asyncio.wait({running}, timeout=None if self.exclusive else STOP_S)
            if running.done() and not running.cancelled():
                # Heard, also where something else ended it first.
                running.exception()
            await self._clear_up()

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
        self._proven = self._around.steady()
        self.refused = None
        if note is not None and note != self._reason:
            self._around.metrics.notes.labels(self.spec.kind).inc()
        self._become("connected", note)

    def _disconnected(self, host: ChannelHost) -> None:
        if host is not self._host or not self.connected:
            return
        # It was there until now.
        self._proof_at = self._around.clock()
        self._become("connecting")

    def _become(self, state: ChannelState, reason: str | None = None) -> None:
        if (state, reason) != (self._state, self._reason):
            if state != self._state:
                self._since = self._around.steady()
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
        try:
            with host.belongings.inside():
                await registry.kind(spec.kind).adapter()(spec.settings, host).probe()
        finally:
            await host.belongings.end(CLEAR_S)

    async def check(self, scope: Scope) -> ChannelCheck:
        """Try a channel's settings now, and say what is known of it besides."""
        refused, probed = None, True
        try:
            async with asyncio.timeout(PROBE_S):
                await self.probe(scope.spec)
        except ChannelRefused as error:
            refused = error
        except Exception as error:
            # Only the type: the text of a library's error may quote a secret.
            log.warning("check told nothing", reason=type(error).__name__)
            probed = False
        return ChannelCheck(
            status=scope.status,
            probed=probed,
            probe=_fault(refused),
            run=_fault(scope.refused),
            sends=_fault(scope.refusal),
        )

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
                refused=scope.refused is not None,
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

    async def watch(self) -> None:
        """Loop: find channels that are connected and silent."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """One look at all channels."""
        for scope in (*self._scopes.values(), *self._former.values()):
            scope.look()

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


def _fault(said: ChannelRefused | SendFailed | None) -> ChannelFault | None:
    if said is None:
        return None
    path = said.path if isinstance(said, ChannelRefused) else ""
    return ChannelFault(error_class=said.error_class, detail=said.detail, path=path)


def _same(spec: ChannelSpec, *running: Scope | None) -> Scope | None:
    return next((each for each in running if each is not None and each.spec == spec), None)


async def _stop(scopes: Iterable[Scope]) -> None:
    await asyncio.gather(*(scope.stop() for scope in scopes))
