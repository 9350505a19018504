"""Revisions: write, compare, publish, roll back. Publishing is a row; the fleet delivers it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.instances import service as instances
from control_plane.kit.errors import not_found
from control_plane.kit.ids import new_id
from control_plane.revisions import documents
from control_plane.revisions.models import ConfigState, Revision
from control_plane.stream import log as stream


async def write(
    session: AsyncSession,
    *,
    instance_id: UUID,
    document: dict[str, Any],
    note: str,
    actor: Actor,
    now: datetime,
    reverts: int | None = None,
) -> Revision:
    """A new draft under the next number; raises Invalid where the document is wrong."""
    checked = documents.check(document)
    # The instance's row lock makes the numbers gapless.
    instance = await instances.get(session, instance_id, lock=True)
    await documents.check_providers(session, checked)
    newest = await session.exec(
        select(func.max(Revision.number)).where(Revision.instance_id == instance_id)
    )
    revision = Revision(
        id=new_id(),
        tenant_id=instance.tenant_id,
        instance_id=instance_id,
        number=(newest.one() or 0) + 1,
        document=checked,
        note=note,
        reverts=reverts,
        created_by=actor.identity_id,
        created_at=now,
    )
    session.add(revision)
    await session.flush()
    audit.record(
        session,
        actor=actor,
        tenant_id=revision.tenant_id,
        action="revision.create",
        target=("revision", revision.id),
        now=now,
        after={"number": revision.number, "note": note, "reverts": reverts},
    )
    return revision


async def publish(
    session: AsyncSession, revision_id: UUID, *, actor: Actor, now: datetime
) -> Revision:
    """Make a revision the desired one; repeating it changes nothing."""
    revision = await get(session, revision_id)
    await instances.get(session, revision.instance_id, lock=True)
    state = await standing(session, revision.instance_id)
    if state.desired == revision.number:
        return revision
    await documents.check_providers(session, documents.current(revision.document))
    before = state.desired
    state.desired = revision.number
    revision.state = "published"
    revision.published_at = now
    session.add_all([state, revision])
    audit.record(
        session,
        actor=actor,
        tenant_id=revision.tenant_id,
        action="revision.publish",
        target=("instance", revision.instance_id),
        now=now,
        before={"desired": before},
        after={"desired": revision.number, "reverts": revision.reverts},
    )
    instances.note(
        session,
        tenant_id=revision.tenant_id,
        instance_id=revision.instance_id,
        event="revision.publish",
        message=f"revision {revision.number} published",
        now=now,
        data={"number": revision.number, "reverts": revision.reverts},
    )
    await session.flush()
    await instances.wake(session, revision.instance_id, now=now)
    await leases.call(session, instances.WORK, [(revision.instance_id, revision.tenant_id)])
    data = {"instance_id": str(revision.instance_id), "number": revision.number}
    await stream.append(
        session, revision.tenant_id, [stream.Entry(type="revision.published", data=data)]
    )
    return revision


async def roll_back(
    session: AsyncSession, *, instance_id: UUID, number: int, actor: Actor, now: datetime
) -> Revision:
    """Publish an earlier document again, as a new revision: history stays linear."""
    document = await document_of(session, instance_id, number)
    revision = await write(
        session,
        instance_id=instance_id,
        document=document,
        note=f"back to revision {number}",
        actor=actor,
        now=now,
        reverts=number,
    )
    return await publish(session, revision.id, actor=actor, now=now)


async def get(session: AsyncSession, revision_id: UUID) -> Revision:
    """The revision, if this session may see it."""
    revision = await session.get(Revision, revision_id)
    if revision is None:
        raise not_found("revision")
    return revision


async def list_revisions(
    session: AsyncSession, instance_id: UUID, *, before: int | None, limit: int
) -> Sequence[Revision]:
    """An instance's revisions, newest first; one more than `limit` when there are more."""
    query = select(Revision).where(Revision.instance_id == instance_id)
    if before is not None:
        query = query.where(col(Revision.number) < before)
    query = query.order_by(col(Revision.number).desc()).limit(limit + 1)
    return (await session.exec(query)).all()


async def standing(session: AsyncSession, instance_id: UUID) -> ConfigState:
    """Where an instance stands."""
    state = await session.get(ConfigState, instance_id)
    if state is None:
        raise not_found("instance")
    return state


async def document_of(session: AsyncSession, instance_id: UUID, number: int) -> dict[str, Any]:
    """The document under a number; 0 is the built-in default."""
    if number == 0:
        return documents.default()
    found = await session.exec(
        select(Revision).where(Revision.instance_id == instance_id, Revision.number == number)
    )
    revision = found.one_or_none()
    if revision is None:
        raise not_found("revision")
    # Defaults that came later apply to older documents as well.
    return documents.current(revision.document)
