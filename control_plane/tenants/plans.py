"""Plans: the platform's, written by operators, read by everybody."""

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.kit.errors import Conflict, not_found
from control_plane.tenants.models import Plan
from control_plane.tenants.schemas import PlanIn, QuotaPatch


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


async def create(session: AsyncSession, body: PlanIn, *, now: datetime) -> Plan:
    """A new plan."""
    if await session.get(Plan, body.name) is not None:
        raise Conflict("plan_exists", f"There is a plan {body.name} already.")
    plan = Plan(name=body.name, quotas=body.quotas.model_dump(), created_at=now, updated_at=now)
    session.add(plan)
    await session.flush()
    return plan


async def change(session: AsyncSession, name: str, quotas: QuotaPatch, *, now: datetime) -> Plan:
    """Other quotas, for every tenant of the plan; what they have beyond them stays."""
    plan = await get(session, name, lock=True)
    plan.quotas = plan.quotas | quotas.model_dump(exclude_none=True)
    plan.updated_at = now
    session.add(plan)
    await session.flush()
    return plan
