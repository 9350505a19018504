"""What people decide about deliveries that did not reach anybody, or that may have.

Every decision locks its delivery, so two of them never both take effect; repeating one changes
nothing. The caller has locked the conversations first (see `control_plane.db.leases`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import driver
from control_plane.delivery.lanes import WORK
from control_plane.delivery.models import DeliveryState
from control_plane.kit.errors import Conflict, not_found
from control_plane.stream import log as stream

Outcome = Literal["sent", "not_sent"]
NOT_SENT = "not_sent"

# Those that ended without reaching the contact, as far as anybody knows.
RESENDABLE = frozenset({DeliveryState.FAILED, DeliveryState.EXPIRED, DeliveryState.UNCONFIRMED})

_LOCK = "SELECT * FROM deliveries WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE"
# What may have been sent stays so until the repeat has ended: a take-over must not hide it.
_RESEND = """
UPDATE deliveries SET state = 'queued', decision = 'resend', decided_at = $2, decided_by = $3,
    resent_from = attempts, due_at = now(),
    error_class = CASE WHEN state = 'unconfirmed' THEN 'unknown_outcome' END
WHERE id = ANY ($1::uuid[])
"""
_SETTLE = """
UPDATE deliveries SET state = $2, error_class = $3, decision = $4, decided_at = $5, decided_by = $6
WHERE id = $1
"""


async def resend(session: AsyncSession, delivery_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Have it sent again, before everything that still waits in its conversation."""
    row = await _locked(session, delivery_id)
    if row["state"] in ("queued", "sending") and row["decision"] == "resend":
        return
    if row["state"] not in RESENDABLE:
        raise Conflict("not_resendable", f"It is {row['state']}: there is nothing to send again.")
    if row["key"].startswith("erased:"):
        raise Conflict("contact_erased", "What it said was erased.")
    await _again(session, [row], actor=actor, now=now)


async def resend_all(
    session: AsyncSession, delivery_ids: Sequence[UUID], *, actor: Actor, now: datetime
) -> int:
    """The same for many, whose conversations are locked; those that changed meanwhile are left."""
    found = await (await driver(session)).fetch(_LOCK, list(delivery_ids))
    rows = [row for row in found if row["state"] in RESENDABLE]
    await _again(session, rows, actor=actor, now=now)
    return len(rows)


async def settle(
    session: AsyncSession, delivery_id: UUID, outcome: Outcome, *, actor: Actor, now: datetime
) -> None:
    """Say what became of an unconfirmed one; nothing is sent."""
    row = await _locked(session, delivery_id)
    state, error_class = (
        (DeliveryState.SENT, None) if outcome == "sent" else (DeliveryState.FAILED, NOT_SENT)
    )
    if row["decision"] == outcome and row["state"] == state:
        return
    if row["state"] != DeliveryState.UNCONFIRMED:
        raise Conflict("not_unconfirmed", f"It is {row['state']}: there is nothing to decide.")
    await (await driver(session)).execute(
        _SETTLE, delivery_id, state, error_class, outcome, now, actor.member_id
    )
    _record(session, row, "delivery.settle", {"state": str(state)}, actor=actor, now=now)
    entry = _entry(row, state, error_class)
    await stream.append(session, row["tenant_id"], [entry])


async def _again(
    session: AsyncSession, rows: Sequence[Any], *, actor: Actor, now: datetime
) -> None:
    if not rows:
        return
    ids = [row["id"] for row in rows]
    await (await driver(session)).execute(_RESEND, ids, now, actor.member_id)
    lanes = {(row["conversation_id"], row["tenant_id"]) for row in rows}
    await leases.call(session, WORK, lanes)
    entries = []
    for row in rows:
        _record(session, row, "delivery.resend", {"state": "queued"}, actor=actor, now=now)
        unknown = "unknown_outcome" if row["state"] == DeliveryState.UNCONFIRMED else None
        entries.append(_entry(row, DeliveryState.QUEUED, unknown))
    await stream.append(session, rows[0]["tenant_id"], entries)


async def _locked(session: AsyncSession, delivery_id: UUID) -> Any:
    rows = await (await driver(session)).fetch(_LOCK, [delivery_id])
    if not rows:
        raise not_found("delivery")
    return rows[0]


def _record(
    session: AsyncSession,
    row: Any,
    action: str,
    after: dict[str, Any],
    *,
    actor: Actor,
    now: datetime,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=row["tenant_id"],
        action=action,
        target=("delivery", row["id"]),
        now=now,
        before={"state": row["state"], "error_class": row["error_class"]},
        after=after,
    )


def _entry(row: Any, state: DeliveryState, error_class: str | None) -> stream.Entry:
    data = {
        "conversation_id": str(row["conversation_id"]),
        "message_id": str(row["message_id"]),
        "number": row["number"],
        "state": str(state),
        "error_class": error_class,
    }
    return stream.Entry(type="delivery.changed", data=data)
