"""Instances: what people want to run. The fleet makes it so.

A bot may sleep: it is wanted, and has no agent. Whoever needs its agent and finds none wakes it;
all of them come again until they were served, so that no word of theirs can come too early.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import any_, column, func, literal, literal_column, or_, table
from sqlalchemy import select as select_of
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters import registry
from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import Scope, Session, driver, enter, hint
from control_plane.instances.models import Instance, TimelineEntry
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants.models import Tenant

WORK = "instance"
# What to listen to for anything that operators see of the fleet.
FLEET = "fleet"

_WAKE = """
UPDATE instances SET asleep_at = NULL, awake_at = $2, updated_at = $2
WHERE id = $1 AND asleep_at IS NOT NULL
"""
_NOTES = """
INSERT INTO timeline (id, tenant_id, instance_id, at, type, message, data)
SELECT *, '{}'::jsonb
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
"""
# As the index of them says it.
_DRIFTED: Any = literal_column("(observed_generation < generation OR drift <> '{}')")
_RELEASES = table("releases", column("id"), column("number"))
_AROUND = """
SELECT i.id, t.name AS tenant, r.number AS release
FROM instances AS i JOIN tenants AS t ON t.id = i.tenant_id
LEFT JOIN releases AS r ON r.id = i.release_id
WHERE i.id = ANY ($1)
"""
_COUNTS = """
SELECT i.phase, r.number AS release, count(*) AS n,
    count(*) FILTER (WHERE i.observed_generation < i.generation OR i.drift <> '{}') AS drifted,
    count(*) FILTER (WHERE i.suspended_at IS NOT NULL) AS suspended
FROM instances AS i LEFT JOIN releases AS r ON r.id = i.release_id
WHERE i.phase <> 'deleted' GROUP BY i.phase, r.number
"""
_CHANNELS = "SELECT kind, settings FROM channels WHERE instance_id = $1 AND deleted_at IS NULL"


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
        phase_at=now,
        awake_at=now,
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


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which instances: those to which all applies that is given.

    `drift` "any" takes every kind of it; `release` 0 is for those without one; `named` stands in
    the name of the bot or of its tenant.
    """

    phase: str | None = None
    drift: str | None = None
    release: int | None = None
    tenant_id: UUID | None = None
    named: str | None = None
    suspended: bool | None = None

    def conditions(self) -> list[Any]:
        """As a query says it."""
        found: list[Any] = [Instance.phase != "deleted"]
        if self.phase is not None:
            found.append(Instance.phase == self.phase)
        if self.tenant_id is not None:
            found.append(Instance.tenant_id == self.tenant_id)
        if self.suspended is not None:
            since = col(Instance.suspended_at)
            found.append(since.is_not(None) if self.suspended else since.is_(None))
        return [*found, *self._release(), *self._drift(), *self._named()]

    def _release(self) -> Iterable[Any]:
        if self.release == 0:
            yield col(Instance.release_id).is_(None)
        elif self.release is not None:
            numbered = select_of(_RELEASES.c.id).where(_RELEASES.c.number == self.release)
            yield col(Instance.release_id) == numbered.scalar_subquery()

    def _drift(self) -> Iterable[Any]:
        if self.drift is not None:
            yield _DRIFTED
        if self.drift == "generation":
            yield col(Instance.observed_generation) < col(Instance.generation)
        elif self.drift not in (None, "any"):
            yield literal(self.drift) == any_(col(Instance.drift))

    def _named(self) -> Iterable[Any]:
        if self.named:
            sought = self.named.lower()
            tenants = select(Tenant.id).where(func.strpos(func.lower(Tenant.name), sought) > 0)
            yield or_(
                func.strpos(func.lower(col(Instance.name)), sought) > 0,
                col(Instance.tenant_id).in_(tenants),
            )


async def list_instances(
    session: AsyncSession, *, which: Which, after: UUID | None, limit: int
) -> Sequence[Instance]:
    """Instances that this session may see, oldest first; one more than `limit` if there are."""
    query = select(Instance).where(*which.conditions()).order_by(col(Instance.id))
    if after is not None:
        query = query.where(col(Instance.id) > after)
    return (await session.exec(query.limit(limit + 1))).all()


@dataclass(frozen=True, kw_only=True)
class Around:
    """What people call an instance's tenant, and its release by number."""

    tenant: str
    release: int | None


async def around(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Around]:
    """What stands around these instances."""
    rows = await (await driver(session)).fetch(_AROUND, list(ids))
    return {row["id"]: Around(tenant=row["tenant"], release=row["release"]) for row in rows}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many instances there are; a release of None is for those without one."""

    phases: Mapping[str, int]
    releases: Mapping[int | None, int]
    drifted: int
    suspended: int


async def counts(session: AsyncSession) -> Counts:
    """The instances that this session may see, counted."""
    phases: Counter[str] = Counter()
    releases: Counter[int | None] = Counter()
    drifted = suspended = 0
    for row in await (await driver(session)).fetch(_COUNTS):
        phases[row["phase"]] += row["n"]
        releases[row["release"]] += row["n"]
        drifted += row["drifted"]
        suspended += row["suspended"]
    return Counts(phases=phases, releases=releases, drifted=drifted, suspended=suspended)


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
    """Start (`running`), stop (`stopped`) or delete (`deleted`); repeating changes nothing.

    Starting one that sleeps wakes it.
    """
    instance = await get(session, instance_id, lock=True)
    if instance.desired == "deleted" and desired != "deleted":
        raise Conflict("instance_deleting", "The instance is being deleted.")
    if desired == "running":
        _not_suspended(instance)
    if instance.desired != desired:
        before = instance.desired
        _awake(instance, now)
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
    elif desired == "running" and instance.asleep_at is not None:
        _awake(instance, now)
        await _changed(session, instance, "instance.wake", actor=actor, now=now)
    return instance


async def hibernate(
    session: AsyncSession, instance_id: UUID, *, actor: Actor | None, now: datetime
) -> Instance:
    """Let it sleep until somebody needs it; raises Conflict where nobody could call it."""
    instance = await get(session, instance_id, lock=True)
    if instance.desired != "running":
        raise Conflict("instance_not_running", f"The instance is {instance.desired}; start it.")
    _not_suspended(instance)
    rows = await (await driver(session)).fetch(_CHANNELS, instance_id)
    if not may_sleep((row["kind"], json.loads(row["settings"])) for row in rows):
        raise Conflict("cannot_hibernate", "One of its channels needs an agent that is connected.")
    if instance.asleep_at is None:
        instance.asleep_at = now
        await _changed(session, instance, "instance.hibernate", actor=actor, now=now)
    return instance


async def wake(session: Session, instance_id: UUID, *, now: datetime) -> None:
    """Let a bot that sleeps run again: one write, and none for whoever comes after.

    Call it wherever no agent was found, and again for as long as there is none.
    """
    if await (await driver(session)).execute(_WAKE, instance_id, now) == "UPDATE 1":
        await leases.call_key(session, WORK, instance_id)


def may_sleep(channels: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether a bot with channels of these kinds, set so, hears of messages while no agent runs."""
    return all(registry.kind(kind).may_wait(settings) for kind, settings in channels)


async def restart(
    session: AsyncSession, instance_id: UUID, *, actor: Actor | None, now: datetime
) -> Instance:
    """Replace the agent by a new one, forgetting earlier failures."""
    instance = await get(session, instance_id, lock=True)
    if instance.desired != "running":
        raise Conflict("instance_not_running", f"The instance is {instance.desired}; start it.")
    _not_suspended(instance)
    # What ended before is forgotten, but not counted again.
    instance.starts = {"ended_ref": instance.starts.get("ended_ref")}
    _awake(instance, now)
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


async def reconcile(
    session: AsyncSession, instance_id: UUID, *, actor: Actor | None, now: datetime
) -> Instance:
    """Have the fleet look at it now, for people who would not wait."""
    instance = await get(session, instance_id, lock=True)
    await _changed(session, instance, "instance.reconcile", actor=actor, now=now)
    return instance


async def suspend(
    session: AsyncSession, instance_id: UUID, reason: str, *, actor: Actor, now: datetime
) -> Instance:
    """Let it rest whatever its tenant wants; customers' messages wait."""
    instance = await get(session, instance_id, lock=True)
    if instance.desired == "deleted":
        raise Conflict("instance_deleting", "The instance is being deleted.")
    if instance.suspended_at is None or instance.suspended_reason != reason:
        instance.suspended_at = instance.suspended_at or now
        instance.suspended_reason = reason
        session.add(instance)
        more = {"reason": reason}
        await _changed(session, instance, "instance.suspend", actor=actor, now=now, more=more)
    return instance


async def resume(
    session: AsyncSession, instance_id: UUID, *, actor: Actor, now: datetime
) -> Instance:
    """Let its tenant decide again; what was wanted all the while is so once more."""
    instance = await get(session, instance_id, lock=True)
    if instance.suspended_at is not None:
        instance.suspended_at = instance.suspended_reason = None
        _awake(instance, now)
        # A start of its own: an agent of before the rest is never taken for a new one.
        await _next_generation(session, instance, now)
        await _changed(session, instance, "instance.resume", actor=actor, now=now)
    return instance


async def as_operator(session: AsyncSession, instance_id: UUID) -> None:
    """Let an operator's transaction write beside this instance: its row, its audit, its stream."""
    instance = await get(session, instance_id)
    await enter(session, Scope(tenants=(instance.tenant_id,), operator=True))


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of an instance's timeline."""

    tenant_id: UUID
    instance_id: UUID
    at: datetime
    type: str
    message: str


async def note_all(session: Session, lines: Collection[Line]) -> None:
    """Write lines into instances' timelines, in one statement."""
    if lines:
        rows = [
            (new_id(), line.tenant_id, line.instance_id, line.at, line.type, line.message)
            for line in lines
        ]
        await (await driver(session)).execute(_NOTES, *map(list, zip(*rows, strict=True)))


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


def _not_suspended(instance: Instance) -> None:
    if instance.suspended_at is not None:
        raise Conflict("instance_suspended", "The platform lets the instance rest for now.")


def _awake(instance: Instance, now: datetime) -> None:
    instance.asleep_at = None
    instance.awake_at = now
    instance.updated_at = now


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
    hint(session, FLEET)
    data = {"instance_id": str(instance.id), "desired": instance.desired, "action": action}
    told = Entry(type="instance.changed", data=data | more)
    await stream.append(session, instance.tenant_id, [told, *entries])
