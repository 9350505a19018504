"""What a member may do: the four roles, a tenant's own ones, and who may give or take which.

Nobody gives what they do not have themselves, and nobody changes somebody who has more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import (
    ROLE_PERMISSIONS,
    Actor,
    Permission,
    Role,
    role_permissions,
)
from control_plane.kit.errors import Conflict, Forbidden, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.tenants.models import CustomRole, Member
from control_plane.tenants.schemas import RoleIn, RolePatch

# Roles of one tenant's own; a list that long is read by nobody.
MAX_ROLES = 50


class HasRole(Protocol):
    """A member, or an invitation that will make one."""

    role: str
    role_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class Given:
    """A role that is to be given, and what it may do."""

    role: Role
    role_id: UUID | None
    permissions: frozenset[Permission]


async def resolve(session: AsyncSession, wanted: str | UUID) -> Given:
    """The role of a name, or the tenant's own one of an id."""
    if isinstance(wanted, UUID):
        own = await get(session, wanted)
        return Given(
            role=Role.CUSTOM, role_id=own.id, permissions=role_permissions(own.permissions)
        )
    role = Role(wanted)
    return Given(role=role, role_id=None, permissions=ROLE_PERMISSIONS[role])


async def of(session: AsyncSession, who: HasRole) -> frozenset[Permission]:
    """What somebody may do."""
    return (await resolve(session, who.role_id or who.role)).permissions


def within(actor: Actor, permissions: frozenset[Permission]) -> None:
    """Raises Forbidden unless the actor has all of these."""
    beyond = permissions - actor.permissions
    if beyond:
        names = ", ".join(sorted(beyond))
        raise Forbidden("beyond_own_permissions", f"You do not have this yourself: {names}.")


async def list_roles(
    session: AsyncSession, *, after: UUID | None, limit: int
) -> Sequence[CustomRole]:
    """The tenant's own roles, oldest first; one more than `limit` when there are more."""
    query = select(CustomRole).order_by(col(CustomRole.id)).limit(limit + 1)
    if after is not None:
        query = query.where(col(CustomRole.id) > after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, role_id: UUID, *, lock: bool = False) -> CustomRole:
    """The role, if this session may see it."""
    query = select(CustomRole).where(CustomRole.id == role_id)
    role = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if role is None:
        raise not_found("role")
    return role


async def create(session: AsyncSession, body: RoleIn, *, actor: Actor, now: datetime) -> CustomRole:
    """A role of the tenant's own; the tenant's row must be locked."""
    within(actor, frozenset(body.permissions))
    names = (await session.exec(select(CustomRole.name))).all()
    if len(names) >= MAX_ROLES:
        raise Conflict("too_many_roles", f"A tenant may have {MAX_ROLES} roles of its own.")
    _free(body.name, names)
    role = CustomRole(
        id=new_id(),
        tenant_id=actor.tenant,
        name=body.name,
        permissions=sorted(body.permissions),
        created_at=now,
        updated_at=now,
    )
    session.add(role)
    await session.flush()
    await _changed(session, role, "create", actor=actor, now=now, after=_shown(role))
    return role


async def change(
    session: AsyncSession, role_id: UUID, body: RolePatch, *, actor: Actor, now: datetime
) -> CustomRole:
    """Another name, other permissions: for everybody who has the role, at once."""
    role = await get(session, role_id, lock=True)
    within(actor, role_permissions(role.permissions))
    before = _shown(role)
    if body.name is not None and body.name != role.name:
        _free(body.name, (await session.exec(select(CustomRole.name))).all())
        role.name = body.name
    if body.permissions is not None:
        within(actor, frozenset(body.permissions))
        role.permissions = sorted(body.permissions)
    role.updated_at = now
    session.add(role)
    await session.flush()
    after = _shown(role)
    await _changed(session, role, "change", actor=actor, now=now, before=before, after=after)
    return role


async def remove(session: AsyncSession, role_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Remove a role that nobody has; open invitations to it go with it."""
    role = await get(session, role_id, lock=True)
    within(actor, role_permissions(role.permissions))
    counted = await session.exec(
        select(func.count()).select_from(Member).where(Member.role_id == role_id)
    )
    if counted.one():
        raise Conflict("role_in_use", "Somebody has this role; give them another one first.")
    before = _shown(role)
    await session.delete(role)
    await session.flush()
    await _changed(session, role, "delete", actor=actor, now=now, before=before)


def _free(name: str, taken: Sequence[str]) -> None:
    if name in taken or name in set(Role):
        raise Conflict("role_exists", f"There is a role {name} already.")


def _shown(role: CustomRole) -> dict[str, Any]:
    return {"name": role.name, "permissions": list(role.permissions)}


async def _changed(
    session: AsyncSession,
    role: CustomRole,
    action: str,
    *,
    actor: Actor,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=role.tenant_id,
        action=f"role.{action}",
        target=("role", role.id),
        now=now,
        before=before,
        after=after,
    )
    await session.flush()
    data = {"role_id": str(role.id), "action": f"role.{action}"}
    await stream.append(session, role.tenant_id, [stream.Entry(type="role.changed", data=data)])
