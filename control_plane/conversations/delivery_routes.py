"""/deliveries: what went out or did not, each attempt, and a person's decision."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.conversations import deliveries as service
from control_plane.delivery.models import DeliveryState
from control_plane.delivery.reasons import reason
from control_plane.kit.given import Moment
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/deliveries", tags=["deliveries"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
WindowDep = Annotated[Window, Depends()]

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class DecisionOut(BaseModel):
    """What a person decided last; `what` is resend, sent or not_sent."""

    what: str
    at: datetime
    member_id: UUID | None


class DeliveryEntryOut(BaseModel):
    """An outgoing message on its way. `reason` says in a sentence why it is where it is."""

    id: UUID
    conversation_id: UUID
    channel_id: UUID
    message_id: UUID
    number: int
    author: str
    state: str
    error_class: str | None
    reason: str | None
    attempts: int
    due_at: datetime
    created_at: datetime
    decision: DecisionOut | None


class PartOut(BaseModel):
    """One call to the platform; `outcome` is sent, failed or unknown."""

    outcome: str
    platform_message_id: str | None = None
    error_class: str | None = None
    detail: Words | None = None
    retry_after_s: float | None = None


class AttemptOut(BaseModel):
    """One try; without `ended_at` its outcome is still open."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    parts: list[PartOut]


class DeliveryLogOut(DeliveryEntryOut):
    """A delivery with everything that was tried."""

    log: list[AttemptOut]


class SettleIn(Body):
    outcome: Literal["sent", "not_sent"]


class ResendIn(Body):
    """Which: in this state, of this class if given, and not older than `since`."""

    state: Literal["failed", "expired"]
    error_class: str | None = Field(default=None, max_length=100)
    since: Moment | None = None


class ResentOut(BaseModel):
    """With `more`, ask again."""

    resent: int
    more: bool


@router.get("")
async def list_deliveries(
    call: Reader,
    window: WindowDep,
    state: DeliveryState | None = None,
    conversation_id: UUID | None = None,
) -> Page[DeliveryEntryOut]:
    """Outgoing messages, newest first."""
    rows = await service.deliveries(
        call.session,
        tenant_id=call.actor.tenant,
        state=state,
        conversation_id=conversation_id,
        before=window.after_id(),
        limit=window.limit,
    )
    page, last = cut(rows, window.limit)
    items = [DeliveryEntryOut(**_shown(row)) for row in page]
    return Page(items=items, next=cursor(last["id"]) if last else None)


@router.get("/{delivery_id}")
async def get_delivery(delivery_id: UUID, call: Reader) -> DeliveryLogOut:
    """One outgoing message, and what was tried."""
    row = await service.delivery(call.session, delivery_id)
    tried = await service.attempts(call.session, delivery_id)
    log = [
        AttemptOut.model_validate({**dict(one), "parts": json.loads(one["parts"])}) for one in tried
    ]
    return DeliveryLogOut(**_shown(row), log=log)


@router.post("/resend")
async def resend_deliveries(body: ResendIn, call: Writer) -> ResentOut:
    """Send those that failed or expired again, oldest first, up to 100 at a time."""
    resent, more = await service.resend_all(
        call.session,
        state=DeliveryState(body.state),
        error_class=body.error_class,
        since=body.since or _EVER,
        actor=call.actor,
        now=call.now,
    )
    return ResentOut(resent=resent, more=more)


@router.post("/{delivery_id}/resend")
async def resend_delivery(delivery_id: UUID, call: Writer) -> DeliveryEntryOut:
    """Send it again, before everything that still waits in its conversation.

    For what failed or expired, and for what is unconfirmed: then the contact may get it twice.
    """
    row = await service.resend(call.session, delivery_id, actor=call.actor, now=call.now)
    return DeliveryEntryOut(**_shown(row))


@router.post("/{delivery_id}/settle")
async def settle_delivery(delivery_id: UUID, body: SettleIn, call: Writer) -> DeliveryEntryOut:
    """Say what became of an unconfirmed one, having looked at the platform; nothing is sent."""
    row = await service.settle(
        call.session, delivery_id, body.outcome, actor=call.actor, now=call.now
    )
    return DeliveryEntryOut(**_shown(row))


def _shown(row: Any) -> dict[str, Any]:
    fields = {name: row[name] for name in DeliveryEntryOut.model_fields if name in dict(row)}
    decision = None
    if row["decision"] is not None:
        decision = DecisionOut(
            what=row["decision"], at=row["decided_at"], member_id=row["decided_by"]
        )
    return fields | {
        "author": row["author_kind"],
        "reason": reason(row["state"], row["error_class"]),
        "decision": decision,
    }
