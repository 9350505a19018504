"""Support access: an operator's leave to look into a tenant, for a while and for a reason.

What it allows is in `access.support`; here it is given, shown to the tenant, and ended by them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.tenants import life, service
from control_plane.tenants.models import SupportGrant
from control_plane.tenants.schemas import SupportIn


async def grant(
    session: AsyncSession, tenant_id: UUID, body: SupportIn, *, actor: Actor, now: datetime
) -> SupportGrant:
    """Let this operator look into the tenant from now on."""
    tenant = await service.get(session, tenant_id)
    if tenant.state in life.GONE:
        raise Conflict("wrong_tenant_state", f"The tenant is {tenant.state}.")
    await service.speak_for(session, tenant_id, actor)
    granted = SupportGrant(
        id=new_id(),
        tenant_id=tenant_id,
        operator_id=actor.identity_id,
        operator=actor.email,
        reason=body.reason,
        created_at=now,
        expires_at=now + timedelta(minutes=body.minutes),
    )
    session.add(granted)
    await session.flush()
    await _changed(session, granted, "grant", actor=actor, now=now)
    return granted


async def list_grants(
    session: AsyncSession, *, before: UUID | None, limit: int
) -> Sequence[SupportGrant]:
    """Who could look and why, newest first; one more than `limit` when there are more."""
    query = select(SupportGrant).order_by(col(SupportGrant.id).desc()).limit(limit + 1)
    if before is not None:
        query = query.where(col(SupportGrant.id) < before)
    return (await session.exec(query)).all()


async def end(session: AsyncSession, grant_id: UUID, *, actor: Actor, now: datetime) -> None:
    """No more looking, from the next request on; ending it twice is ending it once."""
    query = select(SupportGrant).where(SupportGrant.id == grant_id)
    granted = (await session.exec(query)).one_or_none()
    if granted is None:
        raise not_found("support_grant")
    if actor.as_operator:
        await service.speak_for(session, granted.tenant_id, actor)
    locked = query.with_for_update().execution_options(populate_existing=True)
    granted = (await session.exec(locked)).one()
    if granted.ended_at is None:
        granted.ended_at = now
        session.add(granted)
        await session.flush()
        await _changed(session, granted, "end", actor=actor, now=now)


async def _changed(
    session: AsyncSession, granted: SupportGrant, action: str, *, actor: Actor, now: datetime
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=granted.tenant_id,
        action=f"support.{action}",
        target=("support_grant", granted.id),
        now=now,
        after={"operator": granted.operator, "reason": granted.reason},
    )
    await session.flush()
    data = {"support_grant_id": str(granted.id), "action": f"support.{action}"}
    entry = stream.Entry(type="support.changed", data=data)
    await stream.append(session, granted.tenant_id, [entry])
