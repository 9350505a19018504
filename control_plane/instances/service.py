"""Instances: what people want to run. The fleet makes it so."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import driver
from control_plane.instances.models import Instance, TimelineEntry
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota

WORK = "instance"


async def create(
    session: AsyncSession, *, tenant_id: UUID, name: str, actor: Actor | None, now: datetime
) -> Instance:
    """An instance that should run; the fleet starts it."""
    standing = await quota.standing(session, tenant_id, now=now, lock=True)
    standing.room_for("instances")
    connection = await driver(session)
    instance = Instance(
        id=new_id(),
        tenant_id=tenant_id,
        name=name,
        release_id=await connection.fetchval("SELECT id FROM releases WHERE newcomers"),
        created_at=now,
        updated_at=now,
    )
    session.add(instance)
    await session.flush()
    await connection.execute(
        "INSERT INTO config_states (instance_id, tenant_id) VALUES ($1, $2)",
        instance.id,
        tenant_id,
    )
    entries = await quota.crossed(session, standing, now=now)
    await _changed(session, instance, "instance.create", actor=actor, now=now, entries=entries)
    return instance


async def list_instances(
    session: AsyncSession, *, after: UUID | None, limit: int
) -> Sequence[Instance]:
    """Instances that this session may see, oldest first; one more than `limit` if there are."""
    query = select(Instance).where(Instance.phase != "deleted").order_by(col(Instance.id))
    if after is not None:
        query = query.where(col(Instance.id) > after)
    return (await session.exec(query.limit(limit + 1))).all()


async def get(session: AsyncSession, instance_id: UUID, *, lock: bool = False) -> Instance:
    """The instance, if this session may see it and it still exists.

    `lock`: nobody else changes it meanwhile; rows that name it may still be added.
    """
    query = select(Instance).where(Instance.id == instance_id, Instance.phase != "deleted")
    found = await session.exec(query.with_for_update(key_share=True) if lock else query)
    instance = found.one_or_none()
    if instance is None:
        raise not_found("instance")
    return instance


async def want(
    session: AsyncSession, instance_id: UUID, desired: str, *, actor: Actor, now: datetime
) -> Instance:
    """Start (`running`), stop (`stopped`) or delete (`deleted`); repeating changes nothing."""
    instance = await get(session, instance_id, lock=True)
    if instance.desired == "deleted" and desired != "deleted":
        raise Conflict("instance_deleting", "The instance is being deleted.")
    if instance.desired != desired:
        before = instance.desired
        standing = await quota.standing(session, instance.tenant_id, now=now, lock=True)
        instance.desired = desired
        await _next_generation(session, instance, now)
        entries = await quota.crossed(session, standing, now=now)
        action = {"running": "start", "stopped": "stop", "deleted": "delete"}[desired]
        await _changed(
            session,
            instance,
            f"instance.{action}",
            actor=actor,
            now=now,
            before=before,
            entries=entries,
        )
    return instance


async def restart(
    session: AsyncSession, instance_id: UUID, *, actor: Actor, now: datetime
) -> Instance:
    """Replace the agent by a new one, forgetting earlier failures."""
    instance = await get(session, instance_id, lock=True)
    if instance.desired != "running":
        raise Conflict("instance_not_running", f"The instance is {instance.desired}; start it.")
    # What ended before is forgotten, but not counted again.
    instance.starts = {"ended_ref": instance.starts.get("ended_ref")}
    await _next_generation(session, instance, now)
    await _changed(session, instance, "instance.restart", actor=actor, now=now)
    return instance


async def release(
    session: AsyncSession,
    instance_id: UUID,
    release_id: UUID | None,
    *,
    number: int | None,
    reason: str,
    now: datetime,
) -> None:
    """Let its agent be of this release from now on, forgetting failures of the former one.

    A new generation: whatever replaces an older one safely does the rest.
    """
    instance = await get(session, instance_id, lock=True)
    instance.starts = {"ended_ref": instance.starts.get("ended_ref")}
    instance.release_id = release_id
    await _next_generation(session, instance, now)
    more = {"release": number, "reason": reason}
    await _changed(session, instance, "instance.release", actor=None, now=now, more=more)


async def rotate_secrets(
    session: AsyncSession, instance_id: UUID, *, actor: Actor, now: datetime
) -> Instance:
    """Replace what the agent and we show each other; its fleet does it with the next look."""
    instance = await get(session, instance_id, lock=True)
    instance.secrets_before = now
    session.add(instance)
    await _changed(session, instance, "instance.rotate_secrets", actor=actor, now=now)
    return instance


async def timeline(
    session: AsyncSession, instance_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[TimelineEntry]:
    """What happened to the instance, newest first; one more than `limit` when there is more."""
    await get(session, instance_id)
    query = select(TimelineEntry).where(TimelineEntry.instance_id == instance_id)
    if before is not None:
        query = query.where(col(TimelineEntry.id) < before)
    query = query.order_by(col(TimelineEntry.id).desc()).limit(limit + 1)
    return (await session.exec(query)).all()


def note(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    instance_id: UUID,
    event: str,
    message: str,
    now: datetime,
    data: dict[str, Any] | None = None,
) -> None:
    """Write a line into the instance's timeline."""
    session.add(
        TimelineEntry(
            id=new_id(),
            tenant_id=tenant_id,
            instance_id=instance_id,
            at=now,
            type=event,
            message=message,
            data=data or {},
        )
    )


async def _next_generation(session: AsyncSession, instance: Instance, now: datetime) -> None:
    instance.generation += 1
    instance.updated_at = now
    session.add(instance)
    await session.flush()


async def _changed(
    session: AsyncSession,
    instance: Instance,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
    before: str | None = None,
    entries: Sequence[Entry] = (),
    more: dict[str, Any] | None = None,
) -> None:
    more = more or {}
    audit.record(
        session,
        actor=actor,
        tenant_id=instance.tenant_id,
        action=action,
        target=("instance", instance.id),
        now=now,
        before={"desired": before} if before else None,
        after={"desired": instance.desired, "generation": instance.generation} | more,
    )
    note(
        session,
        tenant_id=instance.tenant_id,
        instance_id=instance.id,
        event=action,
        message=f"{action.removeprefix('instance.')} asked for",
        now=now,
        data={"generation": instance.generation} | more,
    )
    await session.flush()
    await leases.call(session, WORK, [(instance.id, instance.tenant_id)], cell=instance.cell)
    data = {"instance_id": str(instance.id), "desired": instance.desired, "action": action}
    told = Entry(type="instance.changed", data=data | more)
    await stream.append(session, instance.tenant_id, [told, *entries])
