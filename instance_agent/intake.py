"""Messages in: safe before their platform hears that we have them. The one place that decides it.

Adapters await `Host.report` and only then acknowledge, in whatever way their platform wants it.
What must have happened by then is the rule of their kind (`adapters.kind.Kind.acknowledge`):

    stored    the control plane has them. For callbacks, which it keeps itself when we refuse, and
              for what is pulled, which the platform keeps until the position has passed it.
    kept      the same, or our own disk where that takes too long. For long connections whose
              platform repeats what is not acknowledged.
    spooled   our own disk, at once. For platforms that say everything once.

A position never passes a message that is not safe. It goes up with the messages before it, in one
transaction of the control plane, or lies on our disk with them, in one commit, and is named above
as soon as they are. So a removed disk costs what was on it alone, and the platform repeats that.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import msgspec
import structlog

from adapters.base import NotAccepted
from adapters.kind import Acknowledge
from adapters.model import Inbound
from instance_agent import logs, positions
from instance_agent.positions import MAX_VALUE, Position
from instance_agent.protocol import MAX_BATCH_EVENTS, Event, MessageReceived, event_id
from instance_agent.reporter import Reporter, new_event
from instance_agent.spool import Spool
from instance_agent.store import Store, StoreFailed

# Calls of one channel that wait behind the batch on its way; beyond it we do not keep up.
MAX_WAITING = 1000
# What is on its way when the agent stops: the reporter's deadline and a commit.
CLOSE_S = 3.0

_BEGINNING = Position()

log = structlog.get_logger()


@dataclass(eq=False, kw_only=True)
class _Call:
    """Messages of one frame or page, and where the platform goes on behind them."""

    events: list[Event]
    keys: frozenset[object]
    position: str | None
    done: asyncio.Future[None]


@dataclass(eq=False, kw_only=True)
class _Line:
    """One channel's calls, in order: what waits while a batch is on its way makes the next one."""

    position: Position = _BEGINNING
    told: int = 0
    """Number of the last position that the control plane has."""
    broken: bool = False
    """Something was refused: what comes behind it must not move the position."""
    calls: deque[_Call] = field(default_factory=deque)
    working: asyncio.Task[None] | None = None


class Intake:
    """All channels' way in."""

    def __init__(
        self,
        *,
        reporter: Reporter,
        spool: Spool,
        store: Store,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._reporter = reporter
        self._spool = spool
        self._store = store
        self._clock = clock
        self._random = random
        self._lines: dict[UUID, _Line] = {}

    async def load(self, checkpoints: Mapping[str, str]) -> None:
        """Find where to go on: what the disk knows, or the control plane if that is later."""
        told = {UUID(key): positions.of_checkpoint(text) for key, text in checkpoints.items()}
        for channel_id, position in (await positions.read(self._store, checkpoints)).items():
            known = told.get(channel_id, _BEGINNING)
            self._lines[channel_id] = _Line(position=position, told=known.number)

    def resume(self, channel_id: UUID) -> str | None:
        """Where the platform goes on; whatever was refused comes again from there."""
        line = self._line(channel_id)
        line.broken = False
        return line.position.value

    async def take(
        self,
        channel_id: UUID,
        rule: Acknowledge,
        messages: Sequence[Inbound],
        *,
        position: str | None = None,
    ) -> None:
        """Return when the messages are safe; raises NotAccepted."""
        trace = logs.traceparent()
        call = _Call(
            events=[
                received(channel_id, each, trace=trace or logs.new_trace(self._random))
                for each in messages
            ],
            keys=frozenset(
                (channel_id, each.conversation.type, each.conversation.id) for each in messages
            ),
            position=position,
            done=asyncio.get_running_loop().create_future(),
        )
        if rule == "stored" and position is None:
            # Nothing ties these to what others say: conversations go up side by side.
            await self._post(call.events, call.keys, {})
            return
        line = self._line(channel_id)
        _admit(line, call)
        if line.working is None:
            # A fresh context: one batch may be of several traces.
            line.working = asyncio.create_task(
                self._work(channel_id, rule, line), name="intake", context=Context()
            )
        await call.done

    def checkpoints(self) -> dict[str, str]:
        """Positions that the control plane does not know yet, though it has all before them."""
        if self._spool.state.depth:
            return {}
        return {
            str(channel_id): line.position.checkpoint
            for channel_id, line in self._lines.items()
            if line.position.number > line.told
        }

    def told(self, checkpoints: Mapping[str, str]) -> None:
        """The control plane has these now."""
        for channel_id, checkpoint in checkpoints.items():
            line = self._line(UUID(channel_id))
            line.told = max(line.told, positions.of_checkpoint(checkpoint).number)

    async def close(self) -> None:
        """Let what is on its way become safe; bounded."""
        working = [line.working for line in self._lines.values() if line.working is not None]
        if working:
            _, late = await asyncio.wait(working, timeout=CLOSE_S)
            for task in late:
                task.cancel()

    # --- one channel's line ---

    def _line(self, channel_id: UUID) -> _Line:
        return self._lines.setdefault(channel_id, _Line())

    async def _work(self, channel_id: UUID, rule: Acknowledge, line: _Line) -> None:
        group: list[_Call] = []
        try:
            while line.calls:
                group = _next_group(line.calls)
                try:
                    await self._make_safe(channel_id, rule, line, group)
                except NotAccepted as error:
                    _refuse(line, group, error)
                for call in group:
                    if not call.done.done():
                        call.done.set_result(None)
        finally:
            line.working = None
            _refuse(line, [*group, *line.calls], NotAccepted("the agent is stopping"))

    async def _make_safe(
        self, channel_id: UUID, rule: Acknowledge, line: _Line, group: Sequence[_Call]
    ) -> None:
        events = [event for call in group for event in call.events]
        keys = frozenset(key for call in group for key in call.keys)
        position = _position(line, group)
        named = {} if position is None else {str(channel_id): position.checkpoint}
        # Behind what waits on the disk nothing may go straight up: it would overtake that.
        if rule == "stored" or (rule == "kept" and not self._spool.state.depth):
            try:
                await self._post(events, keys, named)
            except NotAccepted:
                if rule == "stored":
                    raise
            else:
                if position is not None:
                    await self._note(channel_id, position)
                    line.position = position
                    line.told = position.number if events else line.told
                return
        await self._keep(channel_id, events, position)
        line.position = position or line.position

    async def _post(
        self, events: Sequence[Event], keys: Iterable[object], checkpoints: Mapping[str, str]
    ) -> None:
        keys = frozenset(keys)
        for start in range(0, len(events), MAX_BATCH_EVENTS):
            end = start + MAX_BATCH_EVENTS
            await self._reporter.report_now(
                events[start:end], keys=keys, checkpoints=checkpoints if end >= len(events) else {}
            )

    async def _note(self, channel_id: UUID, position: Position) -> None:
        try:
            await self._store.run(lambda disk: positions.keep(disk, channel_id, position))
        except StoreFailed as failure:
            # The messages are safe above; from an older position they would come again.
            log.error("position not kept", channel_id=str(channel_id), reason=str(failure))

    async def _keep(
        self, channel_id: UUID, events: Sequence[Event], position: Position | None
    ) -> None:
        def along(disk: sqlite3.Connection) -> None:
            if position is not None:
                positions.keep(disk, channel_id, position)

        bodies = [(event.id, msgspec.json.encode(event)) for event in events]
        try:
            await self._spool.keep(bodies, at=self._clock(), along=along)
        except StoreFailed as failure:
            raise NotAccepted(f"the disk did not take it: {failure}") from failure


def received(channel_id: UUID, message: Inbound, *, trace: str = "") -> Event:
    """The event of a platform's message: the same id whenever and wherever it is decoded."""
    data = MessageReceived(
        channel_id=channel_id,
        dedupe_key=message.dedupe_key,
        message_id=message.message_id,
        conversation=message.conversation,
        sender=message.sender,
        segments=message.segments,
        mentions_bot=message.mentions_bot,
        reply_handle=message.reply_handle,
        raw=message.raw,
    )
    return new_event(
        "message.received",
        data,
        now=message.occurred_at,
        event_id=event_id(channel_id, message.dedupe_key),
        trace=trace,
    )


def _admit(line: _Line, call: _Call) -> None:
    """Into the line, or NotAccepted, and then nothing behind it moves the position."""
    value = call.position
    reason = None
    if value is not None and line.broken:
        reason = "what came before was not accepted"
    elif value is not None and (len(value) > MAX_VALUE or "\0" in value):
        reason = "this is no position"
    elif len(line.calls) >= MAX_WAITING:
        reason = "too many messages wait"
    if reason is not None:
        line.broken = True
        raise NotAccepted(reason)
    line.calls.append(call)


def _next_group(calls: deque[_Call]) -> list[_Call]:
    """The oldest calls that fit in one batch; one at least, however long."""
    group = [calls.popleft()]
    size = len(group[0].events)
    while calls and size + len(calls[0].events) <= MAX_BATCH_EVENTS:
        size += len(calls[0].events)
        group.append(calls.popleft())
    return group


def _position(line: _Line, group: Sequence[_Call]) -> Position | None:
    """Where the platform goes on behind this group; None where that does not change."""
    named = [call.position for call in group if call.position is not None]
    if not named or named[-1] == line.position.value:
        return None
    return Position(line.position.number + 1, named[-1])


def _refuse(line: _Line, group: Sequence[_Call], error: NotAccepted) -> None:
    """These, and all behind them that would move the position past them."""
    behind = [call for call in line.calls if call.position is not None]
    line.calls = deque(call for call in line.calls if call.position is None)
    refused = [call for call in dict.fromkeys([*group, *behind]) if not call.done.done()]
    line.broken = line.broken or bool(refused)
    for call in refused:
        call.done.set_exception(error)
