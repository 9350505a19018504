"""Follows the tenant's stream for one endpoint, and calls its receiver.

1. A round moves the position and writes the messages behind it in one transaction, so that each
   entry becomes one message with one id, whoever is killed. No more than `AHEAD` messages wait
   for a receiver: while it is slow or away, the position waits, and nothing is lost.
2. Messages are begun in the order in which they are due, the stream's own for new ones, at most
   `IN_FLIGHT` at a time. One that fails has its own schedule and holds up no other.
3. An outcome is written under the lease. A worker that is killed between call and outcome leaves
   the message as it was: it is sent again under the same id.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.outbound import Outbound
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Followed
from control_plane.tenants import service as tenants
from control_plane.webhooks import service
from control_plane.webhooks.attempt import Receiver, attempt, receiver_of
from control_plane.webhooks.events import public
from control_plane.webhooks.models import (
    MessageState,
    Reason,
    Webhook,
    WebhookMessage,
    WebhookState,
)
from control_plane.webhooks.schedule import FAILING_FOR, GONE, Outcome, wait

WORK = service.WORK
# Calls to one receiver at the same time.
IN_FLIGHT = 4
# Stream entries of one round.
ENTRIES = 200
# Messages that wait for one receiver at most; what a replay adds comes on top.
AHEAD = 1000
# Rounds are begun for this long before other endpoints get their turn.
TURN = timedelta(seconds=5)
# An endpoint looks by itself this often: an append that began before the endpoint was there did
# not call it.
IDLE = timedelta(minutes=1)

_MESSAGES = """
INSERT INTO webhook_messages
    (id, tenant_id, webhook_id, epoch, seq, type, body, due_at, created_at)
SELECT item.id, $1, $2, item.epoch, item.seq, item.type, item.body, $3, $3
FROM unnest($4::uuid[], $5::bigint[], $6::bigint[], $7::text[], $8::text[])
    AS item (id, epoch, seq, type, body)
"""
_MOVE = "UPDATE webhooks SET epoch = $2, seq = $3 WHERE id = $1"
_NEXT = "SELECT min(due_at) FROM webhook_messages WHERE webhook_id = $1 AND state = 'pending'"
# A conversation keeps the place of what its contact said last.
_TRACES = "SELECT id, trace FROM conversations WHERE id = ANY ($1) AND trace IS NOT NULL"
_TOOK = "UPDATE webhooks SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL"
_END = """
UPDATE webhook_messages SET state = $2, attempts = $3, due_at = $4, ended_at = $5,
    last_status = $6, last_error = $7
WHERE id = $1
"""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What to send now, if anything; `pause` is how long to rest when there is nothing."""

    receiver: Receiver
    messages: Sequence[WebhookMessage]
    pause: timedelta
    places: Mapping[UUID, bytes]
    """Where in a customer's trace a message belongs, where it is about one."""


class Webhooks:
    """Works on endpoints, one lease each."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        clock: Clock,
        outbound: Outbound,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._outbound = outbound
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret

    async def follow(self, lease: Lease) -> timedelta | None:
        """Work handler: tell the endpoint what has happened until it is up to date."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN.total_seconds()
        while loop.time() < until:
            begun = await self._begin(lease)
            if not isinstance(begun, Round):
                return begun
            if begun.pause:
                return begun.pause
            calls = (
                self._deliver(lease, begun.receiver, message, begun.places.get(message.id))
                for message in begun.messages
            )
            # All come to their end, so that no outcome is thrown away with a lost lease.
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for failure in filter(None, outcomes):
                raise failure
        return timedelta(0)

    async def _begin(self, lease: Lease) -> Round | timedelta | None:
        """Move on in the stream and choose what to send; None for an endpoint that is off."""
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            pause = await tenants.rest(session, lease.tenant_id)
            if pause is not None:
                return pause
            webhook = await _locked(session, lease.key)
            if webhook is None or webhook.state != WebhookState.ENABLED:
                return None
            await leases.hold(session, lease)
            moved = await _move_on(session, webhook, now)
            if webhook.rest_until is not None and webhook.rest_until > now:
                return webhook.rest_until - now
            messages = await _due(session, webhook.id, now)
            pause = timedelta(0) if messages or moved else await _until_next(session, webhook, now)
            receiver = receiver_of(webhook, self._keys, now=now)
            places = await _places(session, messages)
        return Round(receiver=receiver, messages=messages, pause=pause, places=places)

    async def _deliver(
        self, lease: Lease, receiver: Receiver, message: WebhookMessage, place: bytes | None
    ) -> None:
        with tracing.span("webhook", place, type=message.type, attempt=message.attempts + 1):
            outcome = await attempt(
                self._outbound,
                receiver,
                message_id=str(message.id),
                body=message.body,
                now=self._clock.now(),
            )
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            await self._record(session, lease, message, outcome)

    async def _record(
        self, session: AsyncSession, lease: Lease, message: WebhookMessage, outcome: Outcome
    ) -> None:
        now = self._clock.now()
        reason = await _health(session, lease, outcome, now)
        attempts = message.attempts + 1
        again = wait(attempts, outcome, self._rng) if outcome.error else None
        state = MessageState.PENDING if again else MessageState.DEAD
        await (await driver(session)).execute(
            _END,
            message.id,
            state if outcome.error else MessageState.SENT,
            attempts,
            now + (again or timedelta(0)),
            None if again else now,
            outcome.status,
            outcome.error,
        )
        if reason is not None:
            webhook = await _locked(session, lease.key)
            if webhook is not None and webhook.state == WebhookState.ENABLED:
                await service.give_up(session, webhook, reason, now=now)


async def _health(
    session: AsyncSession, lease: Lease, outcome: Outcome, now: datetime
) -> Reason | None:
    """Note how the receiver does; why to give it up, if so. Holds the lease afterwards."""
    reason = None
    if outcome.error is None:
        await (await driver(session)).execute(_TOOK, lease.key)
    elif (webhook := await _locked(session, lease.key)) is not None:
        webhook.failing_since = webhook.failing_since or now
        if outcome.retry_after:
            rest = now + outcome.retry_after
            webhook.rest_until = max(webhook.rest_until or rest, rest)
        session.add(webhook)
        await session.flush()
        if outcome.status == GONE:
            reason = Reason.GONE
        elif now - webhook.failing_since >= FAILING_FOR:
            reason = Reason.FAILING
    if reason is not None:
        # What follows appends to the stream, and that locks all of it by key.
        await leases.call_tenant(session, WORK, lease.tenant_id)
    await leases.hold(session, lease)
    return reason


async def _locked(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    query = select(Webhook).where(Webhook.id == webhook_id).with_for_update(key_share=True)
    return (await session.exec(query)).one_or_none()


async def _move_on(session: AsyncSession, webhook: Webhook, now: datetime) -> bool:
    """Write messages for the entries behind the position, as far as there is room."""
    waiting = select(func.count()).where(
        WebhookMessage.webhook_id == webhook.id, WebhookMessage.state == MessageState.PENDING
    )
    room = AHEAD - (await session.exec(waiting)).one()
    if room <= 0:
        return False
    position = (webhook.epoch, webhook.seq)
    entries = await stream.follow(session, webhook.tenant_id, position, limit=min(room, ENTRIES))
    if not entries:
        return False
    rows = [row for entry in entries if (row := _row(entry, webhook.events)) is not None]
    connection = await driver(session)
    if rows:
        columns = map(list, zip(*rows, strict=True))
        await connection.execute(_MESSAGES, webhook.tenant_id, webhook.id, now, *columns)
    await connection.execute(_MOVE, webhook.id, entries[-1].epoch, entries[-1].seq)
    return True


def _row(entry: Followed, wanted: Sequence[str]) -> tuple[UUID, int, int, str, str] | None:
    told = public(entry.type, entry.data)
    if told is None or told[0] not in wanted:
        return None
    return new_id(), entry.epoch, entry.seq, told[0], body_of(entry, *told)


def body_of(entry: Followed, name: str, data: dict[str, Any]) -> str:
    """What is sent and signed; `sequence` orders what one tenant is told."""
    body = {
        "type": name,
        "timestamp": entry.at.astimezone(UTC).isoformat(),
        "sequence": {"epoch": entry.epoch, "seq": entry.seq},
        "data": data,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


async def _due(session: AsyncSession, webhook_id: UUID, now: datetime) -> Sequence[WebhookMessage]:
    query = (
        select(WebhookMessage)
        .where(
            WebhookMessage.webhook_id == webhook_id,
            WebhookMessage.state == MessageState.PENDING,
            col(WebhookMessage.due_at) <= now,
        )
        .order_by(col(WebhookMessage.due_at), col(WebhookMessage.epoch), col(WebhookMessage.seq))
        .limit(IN_FLIGHT)
    )
    return (await session.exec(query)).all()


async def _places(session: AsyncSession, messages: Sequence[WebhookMessage]) -> dict[UUID, bytes]:
    """Where in their traces the conversations are that these tell of."""
    told = {message.id: json.loads(message.body)["data"] for message in messages}
    about = {key: UUID(data["conversation_id"]) for key, data in told.items() if _is_about(data)}
    if not about:
        return {}
    rows = await (await driver(session)).fetch(_TRACES, list(set(about.values())))
    traces = {row["id"]: row["trace"] for row in rows}
    return {key: traces[about[key]] for key in about if about[key] in traces}


def _is_about(data: dict[str, Any]) -> bool:
    return bool(data.get("conversation_id"))


async def _until_next(session: AsyncSession, webhook: Webhook, now: datetime) -> timedelta:
    due_at: datetime | None = await (await driver(session)).fetchval(_NEXT, webhook.id)
    return min(IDLE, due_at - now) if due_at else IDLE
