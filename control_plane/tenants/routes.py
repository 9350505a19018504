"""/auth/register and /tenants."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, HouseDep, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.access.routes import stranger
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.tenants import service
from control_plane.tenants.models import Tenant, TenantState
from control_plane.tenants.schemas import ReasonIn, RegisteredOut, RegisterIn, TenantOut

router = APIRouter(tags=["tenants"], route_class=TransactionRoute)
plain = APIRouter(tags=["auth"])

Reader = Annotated[Call, permit(Permission.TENANT_READ)]
Lister = Annotated[Call, permit(Permission.TENANTS_LIST)]
Decider = Annotated[Call, permit(Permission.TENANTS_DECIDE)]
Deleter = Annotated[Call, permit(Permission.TENANT_DELETE)]


@plain.post("/auth/register", status_code=201, dependencies=[Depends(stranger)])
async def register(body: RegisterIn, house: HouseDep) -> RegisteredOut:
    """Register a company; an operator approves it before its bot may run."""
    return await service.register(house, body)


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


@router.post("/tenants/{tenant_id}/reject")
async def reject_tenant(tenant_id: UUID, call: Decider, body: ReasonIn | None = None) -> TenantOut:
    """Turn a registration down, saying why."""
    return await _move(call, tenant_id, "reject", body.reason if body else None)


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


def _out(tenant: Tenant) -> TenantOut:
    return TenantOut.model_validate(tenant, from_attributes=True)
