"""The people of a tenant: list, change, remove. All changes are under the tenant's row lock.

The last owner stays an owner. Somebody who is removed leaves their conversations to the others,
and takes the invitations they made along.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.models import Identity
from control_plane.access.permissions import Actor, Role
from control_plane.db import leases
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, not_found
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota, roles
from control_plane.tenants.models import Member
from control_plane.tenants.schemas import MemberPatch
from control_plane.tenants.service import ROUTING

_LOCK = "SELECT 1 FROM members WHERE id = $1 FOR UPDATE"
# Locked in one order, so that two removals at once do not wait for each other in a circle.
_LEAVE = """
WITH theirs AS (
    SELECT id FROM conversations WHERE owner_member_id = $1 ORDER BY id FOR UPDATE
)
UPDATE conversations AS c
SET owner_member_id = NULL, owner_version = owner_version + (owner = 'human')::integer,
    waiting_reason = CASE WHEN owner = 'human' THEN 'member_removed' ELSE waiting_reason END,
    owner = CASE WHEN owner = 'human' THEN 'waiting' ELSE owner END
FROM theirs WHERE c.id = theirs.id RETURNING c.id, c.owner, c.owner_version, c.waiting_reason
"""


async def list_members(
    session: AsyncSession, *, after: UUID | None, limit: int
) -> Sequence[tuple[Member, str]]:
    """Members with their e-mail addresses, oldest first; one more than `limit` if there are."""
    query = select(Member, Identity.email).join(
        Identity, col(Identity.id) == col(Member.identity_id)
    )
    if after is not None:
        query = query.where(col(Member.id) > after)
    return (await session.exec(query.order_by(col(Member.id)).limit(limit + 1))).all()


async def get(session: AsyncSession, member_id: UUID) -> tuple[Member, str]:
    """The member and their e-mail address, if this session may see them."""
    found = await session.exec(
        select(Member, Identity.email)
        .join(Identity, col(Identity.id) == col(Member.identity_id))
        .where(Member.id == member_id)
        .execution_options(populate_existing=True)
    )
    row = found.one_or_none()
    if row is None:
        raise not_found("member")
    return row


async def change(
    session: AsyncSession, member_id: UUID, body: MemberPatch, *, actor: Actor, now: datetime
) -> tuple[Member, str]:
    """Another name or role; it holds from the member's next request on."""
    await quota.standing(session, actor.tenant, now=now, lock=True)
    member, email = await get(session, member_id)
    roles.within(actor, await roles.of(session, member))
    before = shown(member)
    if body.name is not None:
        member.name = body.name
    if body.role is not None:
        given = await roles.resolve(session, body.role)
        roles.within(actor, given.permissions)
        if given.role != Role.OWNER:
            await _not_the_last_owner(session, member)
        member.role, member.role_id = given.role, given.role_id
    session.add(member)
    await session.flush()
    await changed(session, member, "change", actor=actor, now=now, before=before)
    return member, email


async def remove(session: AsyncSession, member_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Remove somebody, or leave; it holds from their next request on."""
    standing = await quota.standing(session, actor.tenant, now=now, lock=True)
    member, _email = await get(session, member_id)
    roles.within(actor, await roles.of(session, member))
    await _not_the_last_owner(session, member)
    # Who gives them a conversation meanwhile has done so before us, or finds nobody.
    await (await driver(session)).execute(_LOCK, member_id)
    left = await (await driver(session)).fetch(_LEAVE, member_id)
    await leases.call_key(session, ROUTING, member.tenant_id)
    before = shown(member)
    await session.delete(member)
    await session.flush()
    entries = [_left(row) for row in left] + await quota.crossed(session, standing, now=now)
    await changed(
        session, member, "remove", actor=actor, now=now, before=before, gone=True, entries=entries
    )


async def changed(
    session: AsyncSession,
    member: Member,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    gone: bool = False,
    entries: Sequence[Entry] = (),
) -> None:
    """Tell the audit and the stream."""
    audit.record(
        session,
        actor=actor,
        tenant_id=member.tenant_id,
        action=f"member.{action}",
        target=("member", member.id),
        now=now,
        before=before,
        after=None if gone else shown(member),
    )
    await session.flush()
    data = {"member_id": str(member.id), "action": f"member.{action}"}
    told = Entry(type="member.changed", data=data)
    await stream.append(session, member.tenant_id, [told, *entries])


def shown(member: Member) -> dict[str, Any]:
    """What may be written down about a member."""
    return {"name": member.name, "role": role_name(member)}


def role_name(who: roles.HasRole) -> str:
    """The role as the API has it: a name, or the id of one of the tenant's own."""
    return str(who.role_id or who.role)


async def _not_the_last_owner(session: AsyncSession, member: Member) -> None:
    if member.role != Role.OWNER:
        return
    others = await session.exec(
        select(func.count())
        .select_from(Member)
        .where(Member.role == Role.OWNER, col(Member.id) != member.id)
    )
    if not others.one():
        raise Conflict("last_owner", "A tenant keeps at least one owner; name another one first.")


def _left(row: Any) -> Entry:
    data = {
        "conversation_id": str(row["id"]),
        "owner": row["owner"],
        "owner_member_id": None,
        "owner_version": row["owner_version"],
        "reason": row["waiting_reason"],
        "withheld": [],
    }
    return Entry(type="conversation.owner_changed", data=data)
