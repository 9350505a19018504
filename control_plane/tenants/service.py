"""Registration and the life of a tenant. A change of state is a row; the fleet reads it, and so do
those who work on turns and lanes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, passwords
from control_plane.access import service as access
from control_plane.access.http import House
from control_plane.access.permissions import Actor, Role
from control_plane.db import leases
from control_plane.db.session import Scope, Session, driver, enter, hint
from control_plane.kit.errors import not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import life, plans, quota
from control_plane.tenants.models import Member, Tenant, TenantState
from control_plane.tenants.schemas import RegisterIn, TenantPatch, TenantSettingsPatch

# A rest for work of a tenant that is not active; to resume it calls all of it.
_REST = timedelta(hours=1)
# The queue of a tenant, keyed by the tenant; only who has switched routing on has such a row.
ROUTING = "routing"
# What waits while a tenant is not active, in the order in which such rows are locked.
_KINDS = ("turn", "speech", "lane", ROUTING, "callback", "instance", stream.FOLLOWER)

_NO_BOTS = "SELECT NOT EXISTS (SELECT FROM instances WHERE tenant_id = $1 AND phase <> 'deleted')"
_STATE = "SELECT state FROM tenants WHERE id = $1"


def topic(tenant_id: UUID) -> str:
    """What to listen to for changes of a tenant's state, and of what it has."""
    return f"tenant.{tenant_id}"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A new tenant and its owner."""

    tenant_id: UUID
    identity_id: UUID


async def register(house: House, body: RegisterIn) -> bool:
    """A new tenant with its owner; False, and nothing, for an address that has an account.

    With `automatic` approval it is active at once, else it waits for an operator.
    """
    # Also for an address that is taken: the answer takes the same time.
    password_hash = await passwords.hash_password(body.password)
    now = house.clock.now()
    try:
        async with house.database.session() as session:
            made = await create(
                session,
                company=body.company,
                email=body.email,
                password_hash=password_hash,
                now=now,
            )
            if house.approval == "automatic":
                await move(session, made.tenant_id, "approve", actor=None, now=now)
    except IntegrityError:
        return False
    return True


async def create(
    session: AsyncSession,
    *,
    company: str,
    email: str,
    password_hash: str,
    now: datetime,
    plan: str = "free",
) -> Registered:
    """A pending tenant, its stream and its owner; the session speaks for it afterwards."""
    identity = await access.create_identity(
        session, email=email, password_hash=password_hash, operator=False, now=now
    )
    tenant = Tenant(id=new_id(), name=company, plan=plan, created_at=now, updated_at=now)
    await enter(session, Scope(tenants=(tenant.id,)))
    session.add(tenant)
    await session.flush()
    session.add(
        Member(
            id=new_id(),
            tenant_id=tenant.id,
            identity_id=identity.id,
            role=Role.OWNER,
            created_at=now,
        )
    )
    await session.flush()
    connection = await driver(session)
    await connection.execute("INSERT INTO stream_heads (tenant_id) VALUES ($1)", tenant.id)
    audit.record(
        session,
        actor=None,
        tenant_id=tenant.id,
        action="tenant.register",
        target=("tenant", tenant.id),
        now=now,
        after={"name": company},
    )
    await session.flush()
    return Registered(tenant_id=tenant.id, identity_id=identity.id)


async def list_tenants(
    session: AsyncSession, *, state: TenantState | None, after: UUID | None, limit: int
) -> Sequence[Tenant]:
    """Tenants, newest first, one more than `limit` when there are more."""
    query = select(Tenant).order_by(col(Tenant.id).desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Tenant.state == state)
    if after is not None:
        query = query.where(col(Tenant.id) < after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, tenant_id: UUID) -> Tenant:
    """The tenant, if this session may see it."""
    tenant = await session.get(Tenant, tenant_id)
    if tenant is None:
        raise not_found("tenant")
    return tenant


async def move(
    session: AsyncSession,
    tenant_id: UUID,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    reason: str | None = None,
) -> Tenant:
    """One of `life.MOVES`; doing it twice is doing it once.

    A tenant without bots is deleted at once; otherwise the fleet ends its deletion with the last.
    """
    tenant = await lock(session, tenant_id)
    target = life.after(tenant.state, action)
    asked_again = action == "ask" and tenant.reason != reason
    if tenant.state == target and not asked_again:
        return tenant
    before = {"state": tenant.state, "reason": tenant.reason}
    tenant.state, tenant.reason = target, reason
    await speak_for(session, tenant_id, actor)
    if target == TenantState.DELETING and await _without_bots(session, tenant_id):
        tenant.state = TenantState.DELETED
        await leases.call_tenant(session, life.REMOVAL, tenant_id)
    await _changed(session, tenant, action, before=before, actor=actor, now=now)
    return tenant


async def inform(
    session: AsyncSession, tenant_id: UUID, text: str, *, actor: Actor, now: datetime
) -> Tenant:
    """The tenant answers what an operator asked, or says more; it waits for a decision again."""
    tenant = await lock(session, tenant_id)
    target = life.after(tenant.state, "inform")
    before = {"state": tenant.state, "information": tenant.information}
    tenant.state, tenant.information = target, text
    await _changed(session, tenant, "inform", before=before, actor=actor, now=now)
    return tenant


async def change_plan(
    session: AsyncSession, tenant_id: UUID, body: TenantPatch, *, actor: Actor, now: datetime
) -> Tenant:
    """Another plan, or exceptions from it; what the tenant has beyond them stays."""
    tenant = await lock(session, tenant_id)
    await speak_for(session, tenant_id, actor)
    standing = await quota.standing(session, tenant_id, now=now)
    before = {"plan": tenant.plan, "quota_overrides": tenant.quota_overrides}
    if body.plan is not None:
        await plans.get(session, body.plan)
        tenant.plan = body.plan
    if body.quota_overrides is not None:
        tenant.quota_overrides = body.quota_overrides.model_dump(exclude_none=True)
    session.add(tenant)
    await session.flush()
    # What its pods may use has perhaps changed.
    await leases.call_tenant(session, "instance", tenant_id)
    # Behind the work, as counts are locked everywhere; what is read next stays so until the end.
    await quota.limits_change(session, [tenant_id], now=now)
    entries = await quota.crossed(session, standing, now=now)
    await _changed(
        session, tenant, "change_plan", before=before, actor=actor, now=now, entries=entries
    )
    return tenant


async def change_settings(
    session: AsyncSession, body: TenantSettingsPatch, *, actor: Actor, now: datetime
) -> Tenant:
    """What the tenant decides for itself."""
    tenant = await lock(session, actor.tenant)
    if tenant.mask_numbers == body.mask_numbers:
        return tenant
    before = {"mask_numbers": tenant.mask_numbers}
    tenant.mask_numbers = body.mask_numbers
    await _changed(session, tenant, "change_settings", before=before, actor=actor, now=now)
    return tenant


async def lock(session: AsyncSession, tenant_id: UUID) -> Tenant:
    """The tenant, if this session may see it, locked for this transaction."""
    query = select(Tenant).where(Tenant.id == tenant_id)
    found = await session.exec(
        query.with_for_update(key_share=True).execution_options(populate_existing=True)
    )
    tenant = found.one_or_none()
    if tenant is None:
        raise not_found("tenant")
    return tenant


async def speak_for(session: AsyncSession, tenant_id: UUID, actor: Actor | None) -> None:
    """Let an operator's transaction write beside this tenant too: its audit, its stream."""
    operator = actor is not None and actor.as_operator
    await enter(session, Scope(tenants=(tenant_id,), operator=operator))


async def rest(session: Session, tenant_id: UUID) -> timedelta | None:
    """How long work of a tenant must rest because of its state; None for an active one."""
    return rest_in(await (await driver(session)).fetchval(_STATE, tenant_id))


def rest_in(state: str) -> timedelta | None:
    """The same of a state that was read already."""
    return None if state == TenantState.ACTIVE else _REST


async def _without_bots(session: AsyncSession, tenant_id: UUID) -> bool:
    none: bool = await (await driver(session)).fetchval(_NO_BOTS, tenant_id)
    return none


async def _changed(
    session: AsyncSession,
    tenant: Tenant,
    action: str,
    *,
    before: dict[str, Any],
    actor: Actor | None,
    now: datetime,
    entries: Sequence[Entry] = (),
) -> None:
    tenant.updated_at = now
    session.add(tenant)
    audit.record(
        session,
        actor=actor,
        tenant_id=tenant.id,
        action=f"tenant.{action}",
        target=("tenant", tenant.id),
        now=now,
        before=before,
        after={name: getattr(tenant, name) for name in before},
    )
    await session.flush()
    for kind in _KINDS if before.get("state", tenant.state) != tenant.state else ():
        await leases.call_tenant(session, kind, tenant.id)
    hint(session, topic(tenant.id))
    data = {
        "tenant_id": str(tenant.id),
        "state": tenant.state,
        "reason": tenant.reason,
        "plan": tenant.plan,
    }
    await stream.append(session, tenant.id, [Entry(type="tenant.changed", data=data), *entries])
