"""Plans: the platform's, written by operators, read by everybody."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db.session import Scope, enter
from control_plane.kit.errors import Conflict, not_found
from control_plane.stream import log as stream
from control_plane.tenants import quota
from control_plane.tenants.models import Plan, Tenant
from control_plane.tenants.schemas import PlanIn, PlanPatch

# Tenants that are told together of a change of their plan.
_PAGE = 500


async def list_plans(session: AsyncSession) -> Sequence[Plan]:
    """All plans by name: the platform has a handful."""
    return (await session.exec(select(Plan).order_by(col(Plan.name)))).all()


async def get(session: AsyncSession, name: str, *, lock: bool = False) -> Plan:
    """The plan of that name."""
    query = select(Plan).where(Plan.name == name)
    plan = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if plan is None:
        raise not_found("plan")
    return plan


async def create(session: AsyncSession, body: PlanIn, *, actor: Actor, now: datetime) -> Plan:
    """A new plan."""
    if await session.get(Plan, body.name) is not None:
        raise Conflict("plan_exists", f"There is a plan {body.name} already.")
    plan = Plan(
        name=body.name,
        quotas=body.quotas.model_dump(),
        retention_days=body.retention_days,
        created_at=now,
        updated_at=now,
    )
    session.add(plan)
    await session.flush()
    _note(session, plan, "create", before=None, actor=actor, now=now)
    return plan


async def change(
    session: AsyncSession, name: str, body: PlanPatch, *, actor: Actor, now: datetime
) -> Plan:
    """Other terms for every tenant of the plan; what they have beyond the quotas stays.

    Tenants whose use is near or over a quota by it, or no longer, are told in their streams.
    """
    plan = await get(session, name, lock=True)
    before = _shown(plan)
    plan.quotas = plan.quotas | body.quotas.model_dump(exclude_none=True)
    if "retention_days" in body.model_fields_set:
        plan.retention_days = body.retention_days
    plan.updated_at = now
    session.add(plan)
    await session.flush()
    if _shown(plan) != before:
        _note(session, plan, "change", before=before, actor=actor, now=now)
        await _tell_tenants(session, plan, before["quotas"], actor=actor, now=now)
    return plan


async def _tell_tenants(
    session: AsyncSession, plan: Plan, quotas: dict[str, Any], *, actor: Actor, now: datetime
) -> None:
    # In the order of their ids, in which everybody locks the heads of streams.
    after: UUID | None = None
    while True:
        query = select(Tenant.id).where(Tenant.plan == plan.name).order_by(col(Tenant.id))
        if after is not None:
            query = query.where(col(Tenant.id) > after)
        page = (await session.exec(query.limit(_PAGE))).all()
        if not page:
            return
        await enter(session, Scope(tenants=tuple(page), identity=actor.identity_id, operator=True))
        await quota.limits_change(session, page, now=now)
        for tenant_id, entries in await quota.moved(
            session, page, before=quotas, after=plan.quotas, now=now
        ):
            await stream.append(session, tenant_id, entries)
        after = page[-1]


def _note(
    session: AsyncSession,
    plan: Plan,
    action: str,
    *,
    before: dict[str, Any] | None,
    actor: Actor,
    now: datetime,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=audit.PLATFORM,
        action=f"plan.{action}",
        target=("plan", None),
        now=now,
        before=before,
        after=_shown(plan),
    )


def _shown(plan: Plan) -> dict[str, Any]:
    return {"name": plan.name, "quotas": plan.quotas, "retention_days": plan.retention_days}
