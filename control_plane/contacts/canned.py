"""Canned replies: everybody's, and each member's own.

Names are put into `{contact}` and `{member}` where somebody writes, before they send: so they see
what they are about to say.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.contacts.models import CannedReply
from control_plane.contacts.schemas import CannedReplyIn, CannedReplyPatch
from control_plane.conversations.search import form
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import service as tenants

# Texts that are everybody's, and that one member has besides: lists that people still search.
MAX_SHARED, MAX_OWN = 500, 200

_USE = "UPDATE canned_replies SET uses = uses + 1, used_at = $2 WHERE id = $1"


async def find(
    session: AsyncSession, *, text: str | None, actor: Actor, after: UUID | None, limit: int
) -> Sequence[CannedReply]:
    """Everybody's and one's own, oldest first; one more than `limit` when there are more."""
    query = select(CannedReply).where(_visible(actor))
    if text:
        words = col(CannedReply.code) + " " + col(CannedReply.title) + " " + col(CannedReply.text)
        query = query.where(func.strpos(func.search_form(words), form(text)) > 0)
    if after is not None:
        query = query.where(col(CannedReply.id) > after)
    return (await session.exec(query.order_by(col(CannedReply.id)).limit(limit + 1))).all()


async def create(
    session: AsyncSession,
    body: CannedReplyIn,
    *,
    owner: UUID | None,
    actor: Actor,
    now: datetime,
) -> CannedReply:
    """One more, of this member or, without one, for everybody."""
    codes = await _codes(session, owner, actor)
    most = MAX_SHARED if owner is None else MAX_OWN
    if len(codes) >= most:
        raise Conflict("too_many_canned_replies", f"There may be {most} of them.")
    _free(body.code, codes)
    reply = CannedReply(
        id=new_id(),
        tenant_id=actor.tenant,
        member_id=owner,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
    )
    session.add(reply)
    await session.flush()
    await _changed(session, reply, "create", actor=actor, now=now, after=_shown(reply))
    return reply


async def change(
    session: AsyncSession,
    reply_id: UUID,
    body: CannedReplyPatch,
    *,
    owner: UUID | None,
    actor: Actor,
    now: datetime,
) -> CannedReply:
    """Another code, title or text."""
    codes = await _codes(session, owner, actor)
    reply = await _get(session, reply_id, owner)
    before = _shown(reply)
    if body.code is not None and body.code != reply.code:
        _free(body.code, codes)
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(reply, name, value)
    reply.updated_at = now
    session.add(reply)
    await session.flush()
    after = _shown(reply)
    await _changed(session, reply, "change", actor=actor, now=now, before=before, after=after)
    return reply


async def remove(
    session: AsyncSession, reply_id: UUID, *, owner: UUID | None, actor: Actor, now: datetime
) -> None:
    """Take it off the list."""
    reply = await _get(session, reply_id, owner)
    before = _shown(reply)
    await session.delete(reply)
    await session.flush()
    await _changed(session, reply, "delete", actor=actor, now=now, before=before)


async def use(session: AsyncSession, reply_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Count that somebody has written with it."""
    found = await session.exec(
        select(CannedReply.id).where(CannedReply.id == reply_id, _visible(actor))
    )
    if found.one_or_none() is None:
        raise not_found("canned_reply")
    await (await driver(session)).execute(_USE, reply_id, now)


def _visible(actor: Actor) -> Any:
    owner = col(CannedReply.member_id)
    return or_(owner.is_(None), owner == actor.member_id) if actor.member_id else owner.is_(None)


async def _get(session: AsyncSession, reply_id: UUID, owner: UUID | None) -> CannedReply:
    found = await session.exec(
        select(CannedReply).where(CannedReply.id == reply_id, CannedReply.member_id == owner)
    )
    reply = found.one_or_none()
    if reply is None:
        raise not_found("canned_reply")
    return reply


async def _codes(session: AsyncSession, owner: UUID | None, actor: Actor) -> Sequence[str]:
    """The codes that are taken; the tenant's row is locked, so that they stay so."""
    await tenants.lock(session, actor.tenant)
    query = select(CannedReply.code).where(CannedReply.member_id == owner)
    return (await session.exec(query)).all()


def _free(code: str, taken: Sequence[str]) -> None:
    if code in taken:
        raise Conflict("code_taken", f"There is a canned reply {code} already.")


def _shown(reply: CannedReply) -> dict[str, Any]:
    own = str(reply.member_id) if reply.member_id else None
    return {"code": reply.code, "title": reply.title, "member_id": own}


async def _changed(
    session: AsyncSession,
    reply: CannedReply,
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
        tenant_id=reply.tenant_id,
        action=f"canned_reply.{action}",
        target=("canned_reply", reply.id),
        now=now,
        before=before,
        after=after,
    )
    data = {
        "reply_id": str(reply.id),
        "member_id": str(reply.member_id) if reply.member_id else None,
        "action": f"canned_reply.{action}",
    }
    await stream.append(session, reply.tenant_id, [Entry(type="canned_reply.changed", data=data)])
