"""A tenant's endpoints and what they were told: make, change, rotate, look, try again.

Locks are taken in the order tenant, webhooks, work, messages, stream head. Appending to the stream
locks the work of all endpoints of the tenant by key, so whoever will append takes all of it first.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters import standard_webhooks
from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import driver
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Conflict, Forbidden, Invalid, not_found
from control_plane.kit.ids import new_id
from control_plane.kit.outbound import Outbound, Refused
from control_plane.stream import log as stream
from control_plane.tenants import service as tenants
from control_plane.webhooks.events import DISABLED, EVENTS
from control_plane.webhooks.models import (
    MessageState,
    Reason,
    Webhook,
    WebhookMessage,
    WebhookState,
)
from control_plane.webhooks.schemas import WebhookIn, WebhookPatch

WORK = stream.FOLLOWER
# Endpoints of a tenant: one for each of its systems, and room. Each follows the whole stream.
MAX_WEBHOOKS = 20
# How long the secret before stays valid: a day to deploy the new one.
OLD_SECRET_FOR = timedelta(hours=24)
# Dead messages that one call tries again.
REPLAY_AT_ONCE = 1000
_SECRET_BYTES = 32

_REPLAY = """
UPDATE webhook_messages SET state = 'pending', attempts = 0, due_at = $3, ended_at = NULL
WHERE id IN (
    SELECT id FROM webhook_messages
    WHERE webhook_id = $1 AND state = 'dead' AND created_at >= $2
    ORDER BY epoch, seq LIMIT $4 FOR UPDATE
)
"""
_REPLAY_ONE = """
UPDATE webhook_messages SET state = 'pending', attempts = 0, due_at = $3, ended_at = NULL
WHERE webhook_id = $1 AND id = $2 AND state = 'dead'
"""
_DROP_PENDING = "DELETE FROM webhook_messages WHERE webhook_id = $1 AND state = 'pending'"


async def create(
    session: AsyncSession,
    keys: Keyring,
    outbound: Outbound,
    *,
    body: WebhookIn,
    actor: Actor,
    now: datetime,
) -> tuple[Webhook, str]:
    """A new endpoint that hears what happens from now on, and its secret."""
    _check(outbound, actor, body.url, body.events)
    # The lock keeps the count true while several are made at once.
    await tenants.lock(session, actor.tenant)
    if (await session.exec(select(func.count()).select_from(Webhook))).one() >= MAX_WEBHOOKS:
        raise Conflict("too_many_webhooks", f"A tenant has at most {MAX_WEBHOOKS} webhooks.")
    secret = standard_webhooks.make_secret(secrets.token_bytes(_SECRET_BYTES))
    epoch, seq = (await stream.heads(session, [actor.tenant]))[actor.tenant]
    webhook = Webhook(
        id=new_id(),
        tenant_id=actor.tenant,
        url=body.url,
        description=body.description,
        events=body.events,
        secret=keys.seal(secret.encode()),
        epoch=epoch,
        seq=seq,
        created_at=now,
        updated_at=now,
    )
    session.add(webhook)
    await leases.call_tenant(session, WORK, webhook.tenant_id)
    await leases.call(session, WORK, [(webhook.id, webhook.tenant_id)])
    await _tell(session, webhook, "create", actor=actor, now=now, after=_shown(webhook))
    return webhook, secret


async def list_webhooks(
    session: AsyncSession, *, after: UUID | None, limit: int
) -> Sequence[Webhook]:
    """The tenant's endpoints, newest first; one more than `limit` if any."""
    query = select(Webhook).order_by(col(Webhook.id).desc()).limit(limit + 1)
    if after is not None:
        query = query.where(col(Webhook.id) < after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, webhook_id: UUID, *, lock: bool = False) -> Webhook:
    """The endpoint, if this session may see it."""
    query = select(Webhook).where(Webhook.id == webhook_id)
    if lock:
        query = query.with_for_update(key_share=True)
    webhook = (await session.exec(query)).one_or_none()
    if webhook is None:
        raise not_found("webhook")
    return webhook


async def change(
    session: AsyncSession,
    outbound: Outbound,
    webhook_id: UUID,
    *,
    body: WebhookPatch,
    actor: Actor,
    now: datetime,
) -> Webhook:
    """Change what is given; one that is enabled again goes on where it stood."""
    webhook = await get(session, webhook_id, lock=True)
    before = _shown(webhook)
    given = body.model_dump(exclude_none=True, exclude={"enabled"})
    for name, value in given.items():
        setattr(webhook, name, value)
    # Whatever is changed: who changes it will be the one whom it serves.
    _check(outbound, actor, webhook.url, webhook.events)
    was = webhook.state
    if body.enabled is not None and body.enabled != (was == WebhookState.ENABLED):
        _switch(webhook, None if body.enabled else Reason.SWITCHED_OFF)
    if _shown(webhook) == before and not given:
        return webhook
    webhook.updated_at = now
    session.add(webhook)
    await session.flush()
    await leases.call_tenant(session, WORK, webhook.tenant_id)
    if webhook.state == WebhookState.ENABLED:
        await leases.call(session, WORK, [(webhook.id, webhook.tenant_id)])
    else:
        await leases.drop(session, WORK, webhook.id)
    await _tell(
        session, webhook, "change", actor=actor, now=now, before=before, after=_shown(webhook)
    )
    return webhook


async def delete(session: AsyncSession, webhook_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Tell an endpoint nothing more; what it was told is removed by age."""
    webhook = await get(session, webhook_id, lock=True)
    await leases.call_tenant(session, WORK, webhook.tenant_id)
    await leases.drop(session, WORK, webhook.id)
    await (await driver(session)).execute(_DROP_PENDING, webhook.id)
    await session.delete(webhook)
    await _tell(session, webhook, "delete", actor=actor, now=now, before=_shown(webhook))


async def rotate(
    session: AsyncSession, keys: Keyring, webhook_id: UUID, *, actor: Actor, now: datetime
) -> tuple[Webhook, str]:
    """A new secret; the one before signs too for a day, and one before that no more."""
    webhook = await get(session, webhook_id, lock=True)
    _check_events(actor, webhook.events)
    secret = standard_webhooks.make_secret(secrets.token_bytes(_SECRET_BYTES))
    webhook.old_secret, webhook.old_secret_until = webhook.secret, now + OLD_SECRET_FOR
    webhook.secret = keys.seal(secret.encode())
    webhook.updated_at = now
    session.add(webhook)
    await session.flush()
    await _tell(session, webhook, "rotate", actor=actor, now=now)
    return webhook, secret


async def list_messages(
    session: AsyncSession,
    webhook_id: UUID,
    *,
    state: MessageState | None,
    after: UUID | None,
    limit: int,
) -> Sequence[WebhookMessage]:
    """What an endpoint was or is to be told, newest first; one more than `limit` if any."""
    await get(session, webhook_id)
    query = (
        select(WebhookMessage)
        .where(WebhookMessage.webhook_id == webhook_id)
        .order_by(col(WebhookMessage.id).desc())
        .limit(limit + 1)
    )
    if state is not None:
        query = query.where(WebhookMessage.state == state)
    if after is not None:
        query = query.where(col(WebhookMessage.id) < after)
    return (await session.exec(query)).all()


async def replay(
    session: AsyncSession, webhook_id: UUID, message_id: UUID, *, actor: Actor, now: datetime
) -> WebhookMessage:
    """Try a dead message again, under its own id."""
    webhook = await get(session, webhook_id)
    await leases.call_key(session, WORK, webhook_id)
    done = await (await driver(session)).execute(_REPLAY_ONE, webhook_id, message_id, now)
    found = await session.exec(
        select(WebhookMessage).where(
            WebhookMessage.webhook_id == webhook_id, WebhookMessage.id == message_id
        )
    )
    message = found.one_or_none()
    if message is None:
        raise not_found("webhook_message")
    if done != "UPDATE 1":
        raise Conflict("not_dead", f"Only dead messages are replayed; this one is {message.state}.")
    _record(session, webhook, "replay", actor=actor, now=now, after={"messages": 1})
    return message


async def replay_since(
    session: AsyncSession, webhook_id: UUID, *, since: datetime, actor: Actor, now: datetime
) -> int:
    """Try the oldest dead messages since then again; how many."""
    webhook = await get(session, webhook_id)
    await leases.call_key(session, WORK, webhook_id)
    done: str = await (await driver(session)).execute(
        _REPLAY, webhook_id, since, now, REPLAY_AT_ONCE
    )
    replayed = int(done.removeprefix("UPDATE "))
    if replayed:
        _record(session, webhook, "replay", actor=actor, now=now, after={"messages": replayed})
    return replayed


async def give_up(
    session: AsyncSession, webhook: Webhook, reason: Reason, *, now: datetime
) -> None:
    """Switch off a locked endpoint whose receiver is gone or keeps failing, and say so.

    The caller has taken all of the tenant's work first.
    """
    before = _shown(webhook)
    _switch(webhook, reason)
    webhook.updated_at = now
    session.add(webhook)
    told = stream.Entry(type=DISABLED, data={"webhook_id": str(webhook.id), "reason": reason})
    await _tell(
        session,
        webhook,
        "disable",
        actor=None,
        now=now,
        before=before,
        after=_shown(webhook),
        entries=[told],
    )


def _switch(webhook: Webhook, reason: Reason | None) -> None:
    webhook.state = WebhookState.DISABLED if reason else WebhookState.ENABLED
    webhook.reason = reason
    webhook.failing_since = webhook.rest_until = None


def _check(outbound: Outbound, actor: Actor, url: str, events: Sequence[str]) -> None:
    _check_events(actor, events)
    try:
        outbound.check(url)
    except Refused as refused:
        raise Invalid("address_refused", str(refused)) from None


def _check_events(actor: Actor, events: Sequence[str]) -> None:
    """Nobody has told to an address what they could not see themselves."""
    # An event that a later version took away is told to nobody.
    needed = {EVENTS[name].needs for name in events if name in EVENTS}
    if missing := needed - actor.permissions:
        names = ", ".join(sorted(missing))
        raise Forbidden("beyond_own_permissions", f"These events need: {names}.")


def _shown(webhook: Webhook) -> dict[str, Any]:
    """What may be written down; the rest of an address is often a secret."""
    return {
        "host": httpx2.URL(webhook.url).host,
        "description": webhook.description,
        "events": webhook.events,
        "state": webhook.state,
        "reason": webhook.reason,
    }


def _record(
    session: AsyncSession,
    webhook: Webhook,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=webhook.tenant_id,
        action=f"webhook.{action}",
        target=("webhook", webhook.id),
        now=now,
        before=before,
        after=after,
    )


async def _tell(
    session: AsyncSession,
    webhook: Webhook,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    entries: Sequence[stream.Entry] = (),
) -> None:
    """Audit and stream; flushed first, for the stream's lock comes last."""
    _record(session, webhook, action, actor=actor, now=now, before=before, after=after)
    await session.flush()
    data = {"webhook_id": str(webhook.id), "action": action, "state": webhook.state}
    told = stream.Entry(type="webhook.changed", data=data)
    await stream.append(session, webhook.tenant_id, [told, *entries])
