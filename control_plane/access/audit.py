"""The audit: written in the transaction that makes the change, never changed afterwards."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.models import AuditEntry
from control_plane.access.permissions import Actor
from control_plane.kit.ids import new_id


def record(
    session: AsyncSession,
    *,
    actor: Actor | None,
    tenant_id: UUID,
    action: str,
    target: tuple[str, UUID],
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write down who did what; None means that the system did. Values hold no secrets."""
    session.add(
        AuditEntry(
            id=new_id(),
            tenant_id=tenant_id,
            at=now,
            actor_kind=_kind(actor),
            actor_id=actor.identity_id if actor else None,
            action=action,
            target_kind=target[0],
            target_id=target[1],
            before=before,
            after=after,
        )
    )


def _kind(actor: Actor | None) -> str:
    if actor is None:
        return "system"
    if actor.scopes is not None:
        return "key"
    return "person" if actor.role else "operator"
