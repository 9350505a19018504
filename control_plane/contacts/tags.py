"""Tags: the tenant's list, and who and what carries them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.contacts.models import Tag
from control_plane.contacts.schemas import TagIn, TagPatch
from control_plane.contacts.service import standing
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import service as tenants

# Tags of one tenant: a list that people still choose from.
MAX_TAGS = 200
# Tags of one contact or conversation: as many as a row can show.
MAX_WORN = 20

Whose = Literal["contact", "conversation"]

_EXISTS = "SELECT 1 FROM conversations WHERE id = $1 FOR KEY SHARE"
_ATTACH = """
INSERT INTO {whose}_tags ({whose}_id, tag_id, tenant_id) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING tag_id
"""
_DETACH = "DELETE FROM {whose}_tags WHERE {whose}_id = $1 AND tag_id = $2 RETURNING tag_id"
_WORN = "SELECT count(*) FROM {whose}_tags WHERE {whose}_id = $1"


async def list_tags(session: AsyncSession, *, after: UUID | None, limit: int) -> Sequence[Tag]:
    """The tenant's tags, oldest first; one more than `limit` when there are more."""
    query = select(Tag).order_by(col(Tag.id)).limit(limit + 1)
    if after is not None:
        query = query.where(col(Tag.id) > after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, tag_id: UUID) -> Tag:
    """The tag, if this session may see it."""
    tag = (await session.exec(select(Tag).where(Tag.id == tag_id))).one_or_none()
    if tag is None:
        raise not_found("tag")
    return tag


async def create(session: AsyncSession, body: TagIn, *, actor: Actor, now: datetime) -> Tag:
    """One more word on the tenant's list."""
    names = await _names(session, actor)
    if len(names) >= MAX_TAGS:
        raise Conflict("too_many_tags", f"A tenant may have {MAX_TAGS} tags.")
    _free(body.name, names)
    tag = Tag(
        id=new_id(),
        tenant_id=actor.tenant,
        name=body.name,
        colour=body.colour,
        created_at=now,
    )
    session.add(tag)
    await session.flush()
    await _changed(session, tag, "create", actor=actor, now=now, after=_shown(tag))
    return tag


async def change(
    session: AsyncSession, tag_id: UUID, body: TagPatch, *, actor: Actor, now: datetime
) -> Tag:
    """Another name or colour, wherever it is worn."""
    names = await _names(session, actor)
    tag = await get(session, tag_id)
    before = _shown(tag)
    if body.name is not None and body.name != tag.name:
        _free(body.name, names)
        tag.name = body.name
    tag.colour = body.colour or tag.colour
    session.add(tag)
    await session.flush()
    await _changed(session, tag, "change", actor=actor, now=now, before=before, after=_shown(tag))
    return tag


async def remove(session: AsyncSession, tag_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Take it off the list and off whatever wears it."""
    await tenants.lock(session, actor.tenant)
    tag = await get(session, tag_id)
    before = _shown(tag)
    await session.delete(tag)
    await session.flush()
    await _changed(session, tag, "delete", actor=actor, now=now, before=before)


async def attach(
    session: AsyncSession, whose: Whose, key: UUID, tag_id: UUID, *, actor: Actor, now: datetime
) -> None:
    """Give a contact or conversation a tag; nothing happens when it has it."""
    await _known(session, whose, key)
    await get(session, tag_id)
    connection = await driver(session)
    done = await connection.fetchval(_ATTACH.format(whose=whose), key, tag_id, actor.tenant)
    if done is None:
        return
    if await connection.fetchval(_WORN.format(whose=whose), key) > MAX_WORN:
        raise Conflict("too_many_tags", f"There may be {MAX_WORN} tags on one {whose}.")
    await _worn(session, whose, key, tag_id, attached=True, actor=actor, now=now)


async def detach(
    session: AsyncSession, whose: Whose, key: UUID, tag_id: UUID, *, actor: Actor, now: datetime
) -> None:
    """Take a tag off a contact or conversation; nothing happens when it has it not."""
    await _known(session, whose, key)
    await get(session, tag_id)
    done = await (await driver(session)).fetchval(_DETACH.format(whose=whose), key, tag_id)
    if done is not None:
        await _worn(session, whose, key, tag_id, attached=False, actor=actor, now=now)


async def _known(session: AsyncSession, whose: Whose, key: UUID) -> None:
    if whose == "contact":
        await standing(session, key)
    elif await (await driver(session)).fetchval(_EXISTS, key) is None:
        raise not_found("conversation")


async def _worn(
    session: AsyncSession,
    whose: Whose,
    key: UUID,
    tag_id: UUID,
    *,
    attached: bool,
    actor: Actor,
    now: datetime,
) -> None:
    change = {"tag_id": str(tag_id)}
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action=f"{whose}.{'tag' if attached else 'untag'}",
        target=(whose, key),
        now=now,
        before=None if attached else change,
        after=change if attached else None,
    )
    if whose == "contact":
        entry = Entry(type="contact.changed", data={"contact_id": str(key), "changed": ["tags"]})
    else:
        data = {"conversation_id": str(key), "tag_id": str(tag_id), "attached": attached}
        entry = Entry(type="conversation.tags_changed", data=data)
    await stream.append(session, actor.tenant, [entry])


async def _names(session: AsyncSession, actor: Actor) -> Sequence[str]:
    """The names that are taken; the tenant's row is locked, so that they stay so."""
    await tenants.lock(session, actor.tenant)
    return (await session.exec(select(Tag.name))).all()


def _free(name: str, taken: Sequence[str]) -> None:
    if name in taken:
        raise Conflict("tag_exists", f"There is a tag {name} already.")


def _shown(tag: Tag) -> dict[str, Any]:
    return {"name": tag.name, "colour": tag.colour}


async def _changed(
    session: AsyncSession,
    tag: Tag,
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
        tenant_id=tag.tenant_id,
        action=f"tag.{action}",
        target=("tag", tag.id),
        now=now,
        before=before,
        after=after,
    )
    data = {"tag_id": str(tag.id), "action": f"tag.{action}"}
    await stream.append(session, tag.tenant_id, [Entry(type="tag.changed", data=data)])
