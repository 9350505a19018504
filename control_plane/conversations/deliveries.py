"""Deliveries as people look at them, and what they decide about those that went wrong."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.permissions import Actor
from control_plane.conversations.models import Owner
from control_plane.conversations.service import lock
from control_plane.db.session import driver
from control_plane.delivery import decisions
from control_plane.delivery.decisions import Outcome
from control_plane.delivery.models import DeliveryState
from control_plane.kit.errors import Conflict, not_found

# Deliveries that one call has sent again: each locks its conversation for the transaction.
MAX_AT_ONCE = 100

_COLUMNS = """
SELECT id, conversation_id, channel_id, message_id, number, author_kind, author_name, state,
    error_class, attempts, due_at, created_at, decision, decided_at, decided_by FROM deliveries
"""
_LAST = UUID(int=2**128 - 1)
_ATTEMPTS = """
SELECT number, started_at, ended_at, outcome, parts FROM attempts
WHERE delivery_id = $1 ORDER BY number
"""
# Not those in a conversation that a colleague answers, nor what was erased.
_AGAIN = """
SELECT d.id, d.conversation_id FROM deliveries AS d
JOIN conversations AS c ON c.id = d.conversation_id
WHERE d.tenant_id = $1 AND d.state = $2 AND ($3::text IS NULL OR d.error_class = $3)
  AND d.created_at >= $4 AND d.key NOT LIKE 'erased:%'
  AND NOT (c.owner = 'human' AND c.owner_member_id IS DISTINCT FROM $5)
ORDER BY d.id LIMIT $6
"""
_LOCK = """
SELECT 1 FROM conversations WHERE id = ANY ($1::uuid[])
ORDER BY channel_id, key_type, key FOR UPDATE
"""


async def deliveries(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    state: DeliveryState | None,
    conversation_id: UUID | None,
    before: UUID | None,
    limit: int,
) -> Sequence[Any]:
    """Newest first; one more than `limit` if any."""
    query = f"{_COLUMNS} WHERE tenant_id = $1 AND id < $2"
    given: list[object] = [tenant_id, before or _LAST]
    if state is not None:
        # Written out, so that PostgreSQL sees that the index of what is not sent fits.
        query += f" AND state = '{state.value}'"
    if conversation_id is not None:
        given.append(conversation_id)
        query += " AND conversation_id = $3"
    query += f" ORDER BY id DESC LIMIT {limit + 1}"
    rows: Sequence[Any] = await (await driver(session)).fetch(query, *given)
    return rows


async def delivery(session: AsyncSession, delivery_id: UUID) -> Any:
    """One delivery."""
    row = await (await driver(session)).fetchrow(f"{_COLUMNS} WHERE id = $1", delivery_id)
    if row is None:
        raise not_found("delivery")
    return row


async def attempts(session: AsyncSession, delivery_id: UUID) -> Sequence[Any]:
    """What was tried, in order."""
    rows: Sequence[Any] = await (await driver(session)).fetch(_ATTEMPTS, delivery_id)
    return rows


async def resend(session: AsyncSession, delivery_id: UUID, *, actor: Actor, now: datetime) -> Any:
    """Have one sent again; where a colleague answers, only they may."""
    await _lock(session, delivery_id, actor)
    await decisions.resend(session, delivery_id, actor=actor, now=now)
    return await delivery(session, delivery_id)


async def settle(
    session: AsyncSession, delivery_id: UUID, outcome: Outcome, *, actor: Actor, now: datetime
) -> Any:
    """Say what became of an unconfirmed one."""
    await _lock(session, delivery_id, actor)
    await decisions.settle(session, delivery_id, outcome, actor=actor, now=now)
    return await delivery(session, delivery_id)


async def resend_all(
    session: AsyncSession,
    *,
    state: DeliveryState,
    error_class: str | None,
    since: datetime,
    actor: Actor,
    now: datetime,
) -> tuple[int, bool]:
    """Have the oldest of a kind sent again; how many, and whether there may be more."""
    connection = await driver(session)
    found = await connection.fetch(
        _AGAIN, actor.tenant, str(state), error_class, since, actor.member_id, MAX_AT_ONCE + 1
    )
    chosen = found[:MAX_AT_ONCE]
    await connection.execute(_LOCK, [row["conversation_id"] for row in chosen])
    count = await decisions.resend_all(session, [row["id"] for row in chosen], actor=actor, now=now)
    return count, len(found) > MAX_AT_ONCE


async def _lock(session: AsyncSession, delivery_id: UUID, actor: Actor) -> None:
    conversation = await lock(session, (await delivery(session, delivery_id))["conversation_id"])
    if conversation.owner == Owner.HUMAN and conversation.owner_member_id != actor.member_id:
        raise Conflict("not_owner", "A colleague is answering there: it is theirs to decide.")
