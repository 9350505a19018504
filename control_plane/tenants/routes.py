"""/auth/register, /tenants, /plans, /quota and /support-access."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends

from control_plane.access import account
from control_plane.access.http import Call, HouseDep, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.access.routes import stranger
from control_plane.kit.errors import not_found
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.tenants import plans, quota, service, support
from control_plane.tenants.models import Plan, SupportGrant, Tenant, TenantState
from control_plane.tenants.schemas import (
    InformationIn,
    LevelOut,
    PlanIn,
    PlanOut,
    PlanPatch,
    QuestionIn,
    QuotaOut,
    Quotas,
    ReasonIn,
    RegisteredOut,
    RegisterIn,
    SupportIn,
    SupportOut,
    TenantOut,
    TenantPatch,
    TenantSettingsPatch,
)

router = APIRouter(tags=["tenants"], route_class=TransactionRoute)
plain = APIRouter(tags=["auth"])

Reader = Annotated[Call, permit(Permission.TENANT_READ)]
Lister = Annotated[Call, permit(Permission.TENANTS_LIST)]
Decider = Annotated[Call, permit(Permission.TENANTS_DECIDE)]
Informer = Annotated[Call, permit(Permission.TENANT_INFORM)]
Writer = Annotated[Call, permit(Permission.TENANT_WRITE)]
Planner = Annotated[Call, permit(Permission.PLANS_WRITE)]
Supporter = Annotated[Call, permit(Permission.SUPPORT_GRANT)]
SupportEnder = Annotated[Call, permit(Permission.SUPPORT_END)]
Deleter = Annotated[Call, permit(Permission.TENANT_DELETE)]


@plain.post("/auth/register", status_code=201, dependencies=[Depends(stranger)])
async def register(body: RegisterIn, house: HouseDep, later: BackgroundTasks) -> RegisteredOut:
    """Register a company; its bot may run once it is approved.

    The answer does not tell whether the address has an account already; its owner gets a mail.
    """
    if not await service.register(house, body):
        later.add_task(account.remind, house, body.email)
    return RegisteredOut(state="active" if house.approval == "automatic" else "pending")


@router.get("/tenants")
async def list_tenants(
    call: Lister, window: Annotated[Window, Depends()], state: TenantState | None = None
) -> Page[TenantOut]:
    """All tenants, newest first."""
    rows = await service.list_tenants(
        call.session, state=state, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_out(tenant) for tenant in page], next=cursor(last.id) if last else None)


@router.get("/tenants/{tenant_id}")
async def get_tenant(tenant_id: UUID, call: Reader) -> TenantOut:
    """One tenant."""
    return _out(await service.get(call.session, tenant_id))


@router.post("/tenants/{tenant_id}/approve")
async def approve_tenant(tenant_id: UUID, call: Decider) -> TenantOut:
    """Let a tenant's bots run."""
    return await _move(call, tenant_id, "approve")


@router.post("/tenants/{tenant_id}/ask")
async def ask_tenant(tenant_id: UUID, body: QuestionIn, call: Decider) -> TenantOut:
    """Ask for information before deciding."""
    return await _move(call, tenant_id, "ask", body.question)


@router.post("/tenants/{tenant_id}/information")
async def inform(tenant_id: UUID, body: InformationIn, call: Informer) -> TenantOut:
    """Answer what was asked; the tenant waits for a decision again."""
    return _out(
        await service.inform(call.session, tenant_id, body.text, actor=call.actor, now=call.now)
    )


@router.patch("/tenants/{tenant_id}")
async def change_tenant(tenant_id: UUID, body: TenantPatch, call: Planner) -> TenantOut:
    """Give a tenant another plan, or exceptions from it."""
    return _out(
        await service.change_plan(call.session, tenant_id, body, actor=call.actor, now=call.now)
    )


@router.patch("/tenant")
async def change_settings(body: TenantSettingsPatch, call: Writer) -> TenantOut:
    """Change what one's own tenant decides for itself."""
    return _out(await service.change_settings(call.session, body, actor=call.actor, now=call.now))


@router.post("/tenants/{tenant_id}/support", status_code=201)
async def grant_support(tenant_id: UUID, body: SupportIn, call: Supporter) -> SupportOut:
    """Look into a tenant for a while, with the header X-Botyard-Tenant; the tenant sees it."""
    return _grant(
        await support.grant(call.session, tenant_id, body, actor=call.actor, now=call.now)
    )


@router.get("/support-access")
async def list_support_access(
    call: Reader, window: Annotated[Window, Depends()]
) -> Page[SupportOut]:
    """Which operators could look into the tenant, when and why; for operators, their own looks."""
    rows = await support.list_grants(call.session, before=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_grant(row) for row in page], next=cursor(last.id) if last else None)


@router.delete("/support-access/{grant_id}", status_code=204)
async def end_support_access(grant_id: UUID, call: SupportEnder) -> None:
    """Let an operator look no longer; operators end their own looks."""
    await support.end(call.session, grant_id, actor=call.actor, now=call.now)


@router.get("/plans")
async def list_plans(call: Reader) -> list[PlanOut]:
    """What tenants can have."""
    return [_plan(plan) for plan in await plans.list_plans(call.session)]


@router.post("/plans", status_code=201)
async def create_plan(body: PlanIn, call: Planner) -> PlanOut:
    """A new plan."""
    return _plan(await plans.create(call.session, body, actor=call.actor, now=call.now))


@router.patch("/plans/{name}")
async def change_plan(name: str, body: PlanPatch, call: Planner) -> PlanOut:
    """Other terms for every tenant of the plan; what they have beyond its quotas stays."""
    return _plan(await plans.change(call.session, name, body, actor=call.actor, now=call.now))


@router.get("/quota")
async def get_quota(call: Reader) -> QuotaOut:
    """What the tenant's plan gives, and what is used of it."""
    if call.actor.tenant_id is None:
        raise not_found("tenant")
    standing = await quota.standing(call.session, call.actor.tenant_id, now=call.now)
    return QuotaOut(
        plan=standing.plan,
        items=[
            LevelOut(name=level.name, used=level.used, limit=level.limit, state=level.state.value)
            for level in standing.levels.values()
        ],
        quotas=Quotas.model_validate(standing.quotas),
    )


@router.post("/tenants/{tenant_id}/reject")
async def reject_tenant(tenant_id: UUID, body: ReasonIn, call: Decider) -> TenantOut:
    """Turn a registration down, saying why."""
    return await _move(call, tenant_id, "reject", body.reason)


@router.post("/tenants/{tenant_id}/suspend")
async def suspend_tenant(tenant_id: UUID, call: Decider, body: ReasonIn | None = None) -> TenantOut:
    """Stop a tenant's bots; nothing is lost."""
    return await _move(call, tenant_id, "suspend", body.reason if body else None)


@router.post("/tenants/{tenant_id}/resume")
async def resume_tenant(tenant_id: UUID, call: Decider) -> TenantOut:
    """Let a suspended tenant's bots run again."""
    return await _move(call, tenant_id, "resume")


@router.delete("/tenants/{tenant_id}", status_code=202)
async def delete_tenant(tenant_id: UUID, call: Deleter) -> TenantOut:
    """Begin to remove a tenant; its bots go first."""
    return await _move(call, tenant_id, "delete")


async def _move(call: Call, tenant_id: UUID, action: str, reason: str | None = None) -> TenantOut:
    tenant = await service.move(
        call.session, tenant_id, action, actor=call.actor, now=call.now, reason=reason
    )
    return _out(tenant)


def _plan(plan: Plan) -> PlanOut:
    return PlanOut.model_validate(plan, from_attributes=True)


def _grant(granted: SupportGrant) -> SupportOut:
    return SupportOut.model_validate(granted, from_attributes=True)


def _out(tenant: Tenant) -> TenantOut:
    return TenantOut.model_validate(tenant, from_attributes=True)
