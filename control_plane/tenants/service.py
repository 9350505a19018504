"""Registration and the life of a tenant. A change of state is a row; the fleet reads it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, passwords
from control_plane.access import service as access
from control_plane.access.permissions import Actor, Role
from control_plane.db import leases
from control_plane.db.session import Database, Scope, driver, enter
from control_plane.kit.clock import Clock
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.tenants.models import Member, Tenant, TenantState
from control_plane.tenants.schemas import RegisteredOut, RegisterIn

# From which states each action leads where.
_MOVES: dict[str, tuple[frozenset[TenantState], TenantState]] = {
    "approve": (frozenset({TenantState.PENDING, TenantState.REJECTED}), TenantState.ACTIVE),
    "reject": (frozenset({TenantState.PENDING}), TenantState.REJECTED),
    "suspend": (frozenset({TenantState.ACTIVE}), TenantState.SUSPENDED),
    "resume": (frozenset({TenantState.SUSPENDED}), TenantState.ACTIVE),
    "delete": (
        frozenset(TenantState) - {TenantState.DELETING, TenantState.DELETED},
        TenantState.DELETING,
    ),
}


async def register(database: Database, clock: Clock, body: RegisterIn) -> RegisteredOut:
    """A new tenant with its owner; repeating it with the same words answers the same."""
    password_hash = await passwords.hash_password(body.password)
    try:
        async with database.session() as session:
            return await create(
                session,
                company=body.company,
                email=body.email,
                password_hash=password_hash,
                now=clock.now(),
            )
    except IntegrityError:
        return await _registered_before(database, body)


async def create(
    session: AsyncSession, *, company: str, email: str, password_hash: str, now: datetime
) -> RegisteredOut:
    """A pending tenant, its stream and its owner; the session speaks for it afterwards."""
    identity = await access.create_identity(
        session, email=email, password_hash=password_hash, operator=False, now=now
    )
    tenant = Tenant(id=new_id(), name=company, created_at=now, updated_at=now)
    await enter(session, Scope(tenants=(tenant.id,), identity=identity.id))
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
    return RegisteredOut(tenant_id=tenant.id, identity_id=identity.id, state=tenant.state)


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
    """Approve, reject, suspend, resume or delete; doing it twice is doing it once."""
    found = await session.exec(select(Tenant).where(Tenant.id == tenant_id).with_for_update())
    tenant = found.one_or_none()
    if tenant is None:
        raise not_found("tenant")
    allowed, target = _MOVES[action]
    if tenant.state == target:
        return tenant
    if tenant.state not in allowed:
        raise Conflict("wrong_tenant_state", f"A tenant that is {tenant.state} cannot {action}.")
    before = tenant.state
    tenant.state, tenant.reason, tenant.updated_at = target, reason, now
    session.add(tenant)
    await session.flush()
    operator = actor is not None and actor.as_operator
    await enter(session, Scope(tenants=(tenant_id,), operator=operator))
    audit.record(
        session,
        actor=actor,
        tenant_id=tenant_id,
        action=f"tenant.{action}",
        target=("tenant", tenant_id),
        now=now,
        before={"state": before},
        after={"state": str(target), "reason": reason},
    )
    await leases.call_tenant(session, "instance", tenant_id)
    return tenant


async def _registered_before(database: Database, body: RegisterIn) -> RegisteredOut:
    """The same answer to the same registration; anything else about that e-mail is a conflict."""
    taken = Conflict("email_taken", "An account with this e-mail address exists already.")
    async with database.session() as session:
        identity = await access.find_identity(session, body.email)
    if identity is None:
        raise taken
    if not await passwords.matches(body.password, identity.password_hash):
        raise taken
    async with database.session(Scope(identity=identity.id)) as session:
        mine = await access.memberships(session, identity.id)
    for membership in mine:
        if membership.tenant_name == body.company and membership.role == Role.OWNER:
            return RegisteredOut(
                tenant_id=membership.tenant_id,
                identity_id=identity.id,
                state=membership.tenant_state,
            )
    raise taken
