"""A lane: the outgoing messages of one conversation, delivered strictly in order.

Invariants:
1. The oldest delivery that is queued or sending is the head; nothing behind it moves.
2. Entering `sending` commits an attempt with the agent's journal id before the agent is called.
3. A worker that finds `sending` repeats the call to the same journal only: the agent's journal
   answers without sending twice. Another journal means that the outcome is unknown. An attempt
   whose first call did not get to the agent, or found it leaving, is withdrawn: nothing was done.
4. `withhold` and entering `sending` exclude each other by the delivery's row lock: after a
   take-over has committed, no bot delivery enters `sending` by itself; a person may ask for it.
   One that is being sent meanwhile comes to its end, and is not tried again.
5. What a person has sent again keeps its number, so it goes before everything that still waits;
   its attempts count on for the agent's journal, and anew for giving up.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

import msgspec
import structlog

from adapters import registry
from adapters.model import ConversationKey, Segment
from control_plane.bus.together import Together
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.delivery import groups, moves, pace
from control_plane.delivery.groups import Attempt, Head, Outcome, Recorded
from control_plane.delivery.models import DeliveryState
from control_plane.delivery.verdict import Verdict, moved_to
from control_plane.instances import service as instances
from control_plane.instances import sessions
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.sessions import AgentAddress
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.kit.metrics import STAGE_SECONDS
from control_plane.stream import log as stream
from control_plane.tenants import service as tenants
from instance_agent.protocol import Author, PartOutcome, SendRequest

WORK = "lane"
# An answer that could not be sent for this long helps nobody any more.
MAX_AGE = timedelta(hours=48)
# While the agent is away; one that comes back calls all lanes of its tenant.
_NO_AGENT = timedelta(seconds=5)
# While an attempt's outcome is open: the agent may be restarting.
_ASK_AGAIN = timedelta(seconds=1)
# Deliveries within one lease before other conversations get their turn.
_BATCH = 20
# Refusals after which the same call may succeed: another agent takes over, or is not ready yet,
# or has enough to do.
_PASSING = frozenset(
    {"journal_mismatch", "stale_epoch", "draining", "unknown_channel", "unauthorized", "busy"}
)
# The one of an agent that goes for good: nothing was done, and where its disk goes with it nobody
# can ask it later.
_LEAVING = "draining"

_QUEUE = """
INSERT INTO deliveries (id, tenant_id, conversation_id, instance_id, channel_id, message_id, number,
    author_kind, author_name, key_type, key, reply_handle, segments, due_at, created_at, trace)
SELECT i.id, i.tenant_id, i.conversation_id, i.instance_id, i.channel_id, i.message_id, i.number,
       i.author_kind, i.author_name, i.key_type, i.key, i.reply_handle, i.segments, now(), $14,
       i.trace
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::bigint[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::jsonb[],
            $15::bytea[])
     AS i (id, tenant_id, conversation_id, instance_id, channel_id, message_id, number,
           author_kind, author_name, key_type, key, reply_handle, segments, trace)
"""
# Those being sent as well: whoever is about to queue one again does it before us, or sees us.
_LOCK_OPEN = """
SELECT 1 FROM deliveries
WHERE conversation_id = $1 AND state IN ('queued', 'sending') AND author_kind = 'bot'
ORDER BY number FOR UPDATE
"""
_WITHHOLD = """
UPDATE deliveries
SET state = CASE WHEN error_class = 'unknown_outcome' THEN 'unconfirmed' ELSE 'withheld' END
WHERE conversation_id = $1 AND state = 'queued' AND author_kind = 'bot' RETURNING message_id
"""
_HEAD = """
SELECT d.*, d.due_at - now() AS wait, c.kind AS channel_kind, c.deleted_at FROM deliveries AS d
JOIN channels AS c ON c.id = d.channel_id
WHERE d.conversation_id = $1 AND d.state IN ('queued', 'sending')
ORDER BY d.number LIMIT 1 FOR UPDATE OF d
"""
_ATTEMPTS = """
SELECT id, number, journal_id, outcome FROM attempts
WHERE delivery_id = $1 ORDER BY number
"""
_BEGIN = """
INSERT INTO attempts (id, tenant_id, delivery_id, number, journal_id, started_at,
    paced_conversation_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_WITHDRAW = """
WITH held AS (SELECT id FROM deliveries WHERE id = $1 AND state = 'sending' FOR UPDATE)
DELETE FROM attempts AS a USING held
WHERE a.id = $2 AND a.delivery_id = held.id AND a.ended_at IS NULL
"""
_END = "UPDATE attempts SET ended_at = $2, outcome = $3, parts = $4 WHERE id = $1"
_MARK = """
UPDATE deliveries SET state = $2, error_class = $3, attempts = $4,
    due_at = now() + $5::interval
WHERE id = $1
"""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A message to deliver; carries everything that its sending needs."""

    tenant_id: UUID
    conversation_id: UUID
    instance_id: UUID
    channel_id: UUID
    message_id: UUID
    number: int
    author_kind: str
    author_name: str
    key_type: str
    key: str
    reply_handle: str
    segments: str
    trace: bytes | None


async def queue(session: Session, outgoing: Sequence[Outgoing], *, now: datetime) -> None:
    """Queue messages, each behind the others of its conversation."""
    rows = [
        (
            new_id(),
            one.tenant_id,
            one.conversation_id,
            one.instance_id,
            one.channel_id,
            one.message_id,
            one.number,
            one.author_kind,
            one.author_name,
            one.key_type,
            one.key,
            one.reply_handle,
            one.segments,
        )
        for one in outgoing
    ]
    columns = map(list, zip(*rows, strict=True))
    traces = [one.trace for one in outgoing]
    await (await driver(session)).execute(_QUEUE, *columns, now, traces)
    await leases.call(session, WORK, {(one.conversation_id, one.tenant_id) for one in outgoing})


async def withhold(session: Session, conversation_id: UUID) -> list[UUID]:
    """Stop what the bot has queued and not begun to send; the messages concerned."""
    connection = await driver(session)
    await connection.execute(_LOCK_OPEN, conversation_id)
    rows = await connection.fetch(_WITHHOLD, conversation_id)
    return [row["message_id"] for row in rows]


class Open(Enum):
    """Why an attempt has no outcome: nobody knows, or it did not get to the agent."""

    UNKNOWN = auto()
    UNTOUCHED = auto()


class Lanes:
    """Works on lanes: one attempt after the other, head first."""

    def __init__(
        self, database: Database, keys: Keyring, clock: Clock, agents: AgentClient
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._agents = agents
        self._begins = Together[Lease, Attempt | Head]("lane.begin", self._begin_all)
        self._ends = Together[Outcome, Recorded]("lane.end", self._end_all)

    async def deliver(self, lease: Lease) -> timedelta | None:
        """Work handler: deliver what the lane holds until it is empty or must wait."""
        for _ in range(_BATCH):
            begun: Attempt | Head | timedelta | None
            begun = await self._begins.do(lease.tenant_id, lease)
            if begun is Head.UNUSUAL:
                begun = await self._begin(lease)
            if begun is None or begun is Head.NONE:
                return None
            if not isinstance(begun, Attempt):
                return begun
            tracing.follow(begun.delivery["trace"])
            parts = await self._send(begun)
            if isinstance(parts, Open):
                if parts is Open.UNTOUCHED and begun.fresh:
                    await self._withdraw(lease, begun)
                return _ASK_AGAIN
            recorded = await self._end(lease, begun, parts)
            if recorded.pause:
                return recorded.pause
            if not recorded.more:
                return None
        return timedelta(0)

    async def _begin_all(
        self, tenant_id: UUID, group: Sequence[Lease]
    ) -> Sequence[Attempt | Head | Exception]:
        async with self._database.plain(Scope(tenants=(tenant_id,))) as session:
            return await groups.begin(session, self._keys, group, now=self._clock.now())

    async def _end_all(
        self, tenant_id: UUID, group: Sequence[Outcome]
    ) -> Sequence[Recorded | Exception]:
        async with self._database.plain(Scope(tenants=(tenant_id,))) as session:
            return await groups.end(session, group, now=self._clock.now())

    async def _begin(self, lease: Lease) -> Attempt | timedelta | None:
        """Put the head into `sending`; a pause when it must wait, None when the lane is empty."""
        now = self._clock.now()
        async with self._database.plain(Scope(tenants=(lease.tenant_id,))) as session:
            pause = await tenants.rest(session, lease.tenant_id)
            if pause is not None:
                return pause
            connection = await driver(session)
            head = await connection.fetchrow(_HEAD, lease.key)
            if head is None:
                return None
            agent = await sessions.active_agent(session, self._keys, head["instance_id"])
            hopeless = _hopeless(head, now)
            if hopeless is not None:
                await _mark(session, head, hopeless, attempts=head["attempts"])
                await _tell(session, lease, head, hopeless)
                return timedelta(0)
            if agent is None:
                await instances.wake(session, head["instance_id"], now=now)
                return _NO_AGENT
            if head["state"] == DeliveryState.QUEUED:
                wait: timedelta = head["wait"]
                if wait > timedelta(0):
                    return wait
            window = await self._window(session, head, now)
            if head["state"] == DeliveryState.QUEUED:
                held = await self._held(session, lease, head, window, now)
                if held is not None:
                    return held
            attempt = await self._attempt(session, lease, head, agent, window.room, now)
            await leases.hold(session, lease)
        return attempt

    async def _window(self, session: Session, head: Any, now: datetime) -> pace.Window:
        kind = registry.kind(head["channel_kind"])
        return await pace.window(session, kind, head["conversation_id"], now=now)

    async def _held(
        self, session: Session, lease: Lease, head: Any, window: pace.Window, now: datetime
    ) -> timedelta | None:
        """A pause where the platform would not take it now; None when it may be tried."""
        kind = registry.kind(head["channel_kind"])
        if window.closed is not None:
            gone = Verdict(state=DeliveryState.EXPIRED, error_class=window.closed)
            await _mark(session, head, gone, attempts=head["attempts"])
            await _tell(session, lease, head, gone)
            return timedelta(0)
        pause = await pace.pause(session, kind, head["conversation_id"], now=now)
        if pause is not None:
            # Whether an earlier attempt may have sent it must not be forgotten.
            error_class = head["error_class"] or pace.PACED
            waits = Verdict(state=DeliveryState.QUEUED, error_class=error_class)
            await _mark(session, head, waits, attempts=head["attempts"], pause=pause)
            if error_class != head["error_class"]:
                await _tell(session, lease, head, waits)
            await leases.hold(session, lease)
        return pause

    async def _attempt(
        self,
        session: Session,
        lease: Lease,
        head: Any,
        agent: AgentAddress,
        room: int | None,
        now: datetime,
    ) -> Attempt | timedelta:
        connection = await driver(session)
        past = await connection.fetch(_ATTEMPTS, head["id"])
        # What went before a person's decision is settled.
        counts = [row for row in past if row["number"] > head["resent_from"]]
        doubt = any(each["outcome"] == "unknown" for each in counts)
        if head["state"] == DeliveryState.SENDING:
            last = past[-1]
            if last["journal_id"] == agent.journal_id:
                return Attempt(
                    delivery=head,
                    attempt_id=last["id"],
                    number=last["number"],
                    doubt=doubt,
                    agent=agent,
                    room=room,
                )
            lost = [PartOutcome(outcome="unknown", detail="the agent's journal is gone")]
            return await self._record(session, lease, head, last, lost, doubt)
        attempt_id, number = new_id(), len(past) + 1
        counted = pace.counted(registry.kind(head["channel_kind"]))
        await connection.execute(
            _BEGIN,
            attempt_id,
            head["tenant_id"],
            head["id"],
            number,
            agent.journal_id,
            now,
            head["conversation_id"] if counted else None,
        )
        sending = Verdict(state=DeliveryState.SENDING)
        await _mark(session, head, sending, attempts=number)
        return Attempt(
            delivery=head,
            attempt_id=attempt_id,
            number=number,
            doubt=doubt,
            agent=agent,
            room=room,
            fresh=True,
        )

    async def _send(self, attempt: Attempt) -> Sequence[PartOutcome] | Open:
        """Call the agent."""
        row = attempt.delivery
        request = SendRequest(
            message_id=row["message_id"],
            attempt=attempt.number,
            insist=row["decision"] == "resend" and attempt.number == row["resent_from"] + 1,
            room=attempt.room,
            channel_id=row["channel_id"],
            epoch=attempt.agent.epoch,
            journal_id=attempt.agent.journal_id,
            conversation=ConversationKey(type=row["key_type"], id=row["key"]),
            reply_handle=json.loads(row["reply_handle"]),
            segments=msgspec.json.decode(row["segments"], type=list[Segment]),
            author=Author(kind=row["author_kind"], name=row["author_name"]),
        )
        if attempt.number == 1:
            waited = self._clock.now() - row["created_at"]
            STAGE_SECONDS.labels("delivery_wait").observe(waited.total_seconds())
        try:
            with STAGE_SECONDS.labels("send").time():
                return (await self._agents.send(attempt.agent, request)).parts
        except (AgentAway, AgentSilent) as error:
            log.info("send left open", reason=type(error).__name__, message=str(row["message_id"]))
            return Open.UNTOUCHED if isinstance(error, AgentAway) else Open.UNKNOWN
        except AgentRefused as refused:
            if refused.code == _LEAVING:
                return Open.UNTOUCHED
            if refused.code in _PASSING or refused.status >= 500:
                return Open.UNKNOWN
            return [PartOutcome(outcome="failed", error_class=refused.code, detail=refused.detail)]

    async def _withdraw(self, lease: Lease, attempt: Attempt) -> None:
        """As if it had not begun: the next agent, with another journal, has no doubt about it."""
        row = attempt.delivery
        async with self._database.plain(Scope(tenants=(lease.tenant_id,))) as session:
            verdict = await groups.untouched(session, row)
            await (await driver(session)).execute(_WITHDRAW, row["id"], attempt.attempt_id)
            await _mark(session, row, verdict, attempts=row["attempts"])
            # Both hold the lease: who has it by now may have called, and then it is begun.
            if verdict.state == DeliveryState.QUEUED:
                await leases.hold(session, lease)
            else:
                await _tell(session, lease, row, verdict)

    async def _end(self, lease: Lease, attempt: Attempt, parts: Sequence[PartOutcome]) -> Recorded:
        """Record the outcome of an attempt, together with others that end now."""
        await self._follow(lease, attempt, parts)
        outcome = Outcome(lease=lease, attempt=attempt, parts=parts)
        return await self._ends.do(lease.tenant_id, outcome)

    async def _follow(self, lease: Lease, attempt: Attempt, parts: Sequence[PartOutcome]) -> None:
        """Before the outcome is on record, so that no attempt goes to the old place again."""
        place = next((found for part in parts if (found := moved_to(part))), None)
        if place is None:
            return
        async with self._database.plain(Scope(tenants=(lease.tenant_id,))) as session:
            await moves.follow(session, lease.key, before=attempt.delivery["key"], after=place)
            await leases.hold(session, lease)

    async def _record(
        self,
        session: Session,
        lease: Lease,
        delivery: Any,
        attempt: Any,
        parts: Sequence[PartOutcome],
        doubt: bool,
    ) -> timedelta:
        now = self._clock.now()
        verdict = await groups.judged(
            session,
            delivery,
            parts,
            number=attempt["number"],
            doubt=doubt,
        )
        body = msgspec.json.encode(parts).decode()
        await (await driver(session)).execute(
            _END, attempt["id"], now, groups.outcome_of(parts), body
        )
        pause = verdict.again_after or timedelta(0)
        await _mark(session, delivery, verdict, attempts=attempt["number"], pause=pause)
        await _tell(session, lease, delivery, verdict)
        return pause


def _hopeless(head: Any, now: datetime) -> Verdict | None:
    queued = head["state"] == DeliveryState.QUEUED
    if head["deleted_at"] is not None:
        # An open attempt may have sent it, and soon nobody is left to ask.
        state = DeliveryState.FAILED if queued else DeliveryState.UNCONFIRMED
        return Verdict(state=state, error_class="channel_deleted")
    since = head["decided_at"] if head["decision"] == "resend" else head["created_at"]
    if queued and now - since > MAX_AGE:
        return Verdict(state=DeliveryState.EXPIRED, error_class="too_old")
    return None


async def _mark(
    session: Session,
    delivery: Any,
    verdict: Verdict,
    *,
    attempts: int,
    pause: timedelta = timedelta(0),
) -> None:
    await (await driver(session)).execute(
        _MARK, delivery["id"], verdict.state, verdict.error_class, attempts, pause
    )


async def _tell(session: Session, lease: Lease, delivery: Any, verdict: Verdict) -> None:
    # Work before stream, as everywhere: the other way round locks up with a take-over.
    await leases.hold(session, lease)
    await stream.append(session, delivery["tenant_id"], [groups.told(delivery, verdict)])
