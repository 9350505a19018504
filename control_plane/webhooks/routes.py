"""/webhooks and /webhook-events: a tenant's own systems are told what happens."""

import json
import time
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, HouseDep, TransactionRoute, admit, permit, scope_of
from control_plane.access.permissions import Actor, Permission
from control_plane.kit.ids import new_id
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.webhooks import service
from control_plane.webhooks.attempt import attempt, receiver_of
from control_plane.webhooks.events import EVENTS, TEST
from control_plane.webhooks.models import MessageState, Webhook, WebhookMessage
from control_plane.webhooks.schemas import (
    EventOut,
    ReplayIn,
    ReplayOut,
    TestOut,
    WebhookIn,
    WebhookMade,
    WebhookMessageOut,
    WebhookOut,
    WebhookPatch,
)

router = APIRouter(tags=["webhooks"], route_class=TransactionRoute)
plain = APIRouter(tags=["webhooks"])

Reader = Annotated[Call, permit(Permission.WEBHOOKS_READ)]
Writer = Annotated[Call, permit(Permission.WEBHOOKS_WRITE)]


@router.get("/webhook-events")
async def list_webhook_events(call: Reader) -> list[EventOut]:
    """What a webhook can be told, and which permission one needs to subscribe to it."""
    return [
        EventOut(
            name=event.name,
            description=event.says,
            fields=list(event.fields),
            permission=event.needs,
        )
        for event in EVENTS.values()
    ]


@router.post("/webhooks", status_code=201)
async def create_webhook(body: WebhookIn, call: Writer) -> WebhookMade:
    """Have an address told what happens from now on; the secret is shown in this answer only."""
    webhook, secret = await service.create(
        call.session, call.keys, call.house.outbound, body=body, actor=call.actor, now=call.now
    )
    return WebhookMade(**_out(webhook).model_dump(), secret=secret)


@router.get("/webhooks")
async def list_webhooks(call: Reader, window: Annotated[Window, Depends()]) -> Page[WebhookOut]:
    """The tenant's webhooks, newest first."""
    rows = await service.list_webhooks(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.get("/webhooks/{webhook_id}")
async def read_webhook(webhook_id: UUID, call: Reader) -> WebhookOut:
    """One webhook, and how its receiver does."""
    return _out(await service.get(call.session, webhook_id))


@router.patch("/webhooks/{webhook_id}")
async def change_webhook(webhook_id: UUID, body: WebhookPatch, call: Writer) -> WebhookOut:
    """Change what is given; while it is disabled, nothing is sent and nothing is lost."""
    webhook = await service.change(
        call.session, call.house.outbound, webhook_id, body=body, actor=call.actor, now=call.now
    )
    return _out(webhook)


@router.delete("/webhooks/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: UUID, call: Writer) -> None:
    """Tell this address nothing more."""
    await service.delete(call.session, webhook_id, actor=call.actor, now=call.now)


@router.post("/webhooks/{webhook_id}/secret")
async def rotate_webhook_secret(webhook_id: UUID, call: Writer) -> WebhookMade:
    """A new secret, shown in this answer only; the old one signs as well for 24 hours."""
    webhook, secret = await service.rotate(
        call.session, call.keys, webhook_id, actor=call.actor, now=call.now
    )
    return WebhookMade(**_out(webhook).model_dump(), secret=secret)


@plain.post("/webhooks/{webhook_id}/test")
async def try_webhook(
    webhook_id: UUID,
    actor: Annotated[Actor, admit(Permission.WEBHOOKS_WRITE)],
    house: HouseDep,
) -> TestOut:
    """Send one `webhook.test` now, also to a disabled webhook, and say how it went."""
    now = house.clock.now()
    async with house.database.session(scope_of(actor)) as session:
        webhook = await service.get(session, webhook_id)
    body = {"type": TEST, "timestamp": now.isoformat(), "data": {"webhook_id": str(webhook.id)}}
    started = time.monotonic()
    outcome = await attempt(
        house.outbound,
        receiver_of(webhook, house.keys, now=now),
        message_id=str(new_id()),
        body=json.dumps(body),
        now=now,
    )
    return TestOut(
        ok=outcome.error is None,
        status=outcome.status,
        error=outcome.error,
        latency_ms=round((time.monotonic() - started) * 1000),
    )


@router.get("/webhooks/{webhook_id}/messages")
async def list_webhook_messages(
    webhook_id: UUID,
    call: Reader,
    window: Annotated[Window, Depends()],
    state: MessageState | None = None,
) -> Page[WebhookMessageOut]:
    """What a webhook was or is to be told, newest first."""
    rows = await service.list_messages(
        call.session, webhook_id, state=state, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_message(row) for row in page], next=cursor(last.id) if last else None)


@router.post("/webhooks/{webhook_id}/messages/{message_id}/replay")
async def replay_webhook_message(
    webhook_id: UUID, message_id: UUID, call: Writer
) -> WebhookMessageOut:
    """Try a dead message again, under the same id."""
    message = await service.replay(
        call.session, webhook_id, message_id, actor=call.actor, now=call.now
    )
    return _message(message)


@router.post("/webhooks/{webhook_id}/replay")
async def replay_webhook_messages(webhook_id: UUID, body: ReplayIn, call: Writer) -> ReplayOut:
    """Try dead messages since a moment again, oldest first, at most 1,000 a call."""
    replayed = await service.replay_since(
        call.session, webhook_id, since=body.since, actor=call.actor, now=call.now
    )
    return ReplayOut(replayed=replayed, more=replayed == service.REPLAY_AT_ONCE)


def _out(webhook: Webhook) -> WebhookOut:
    return WebhookOut.model_validate(webhook, from_attributes=True)


def _message(message: WebhookMessage) -> WebhookMessageOut:
    return WebhookMessageOut.model_validate(message, from_attributes=True)
