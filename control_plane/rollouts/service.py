"""Releases and rollouts as operators steer them; the worker does what they ask."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db import leases
from control_plane.db.session import driver, hint
from control_plane.instances.service import FLEET
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.rollouts.advance import MemberState, State, wave_of
from control_plane.rollouts.models import Member, Release, Rollout
from control_plane.rollouts.schemas import ReleaseIn, RolloutIn, RolloutOut

WORK = "rollout"
# Whose work it is: nobody's. Work needs a tenant's id, for fairness.
NOBODYS = UUID(int=3)

# One after the other, so that no two get one number.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('releases'))"
_NEXT_RELEASE = "SELECT coalesce(max(number), 0) + 1 FROM releases"
_BEGIN = """
INSERT INTO rollouts (id, number, release_id, waves, began, budget_percent, ready_within_s, watch_s,
    at_once, created_at, updated_at)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3::text::jsonb, jsonb_build_array($4::text), $5, $6,
    $7, $8, $9, $9
FROM rollouts
ON CONFLICT DO NOTHING
"""
# Who has the release already need not be moved.
_CANDIDATES = """
SELECT i.id, i.tenant_id, t.rollout_group
FROM instances AS i JOIN tenants AS t ON t.id = i.tenant_id
WHERE i.phase <> 'deleted' AND i.desired <> 'deleted' AND i.release_id IS DISTINCT FROM $2
  AND NOT EXISTS (SELECT FROM rollout_members AS m
                  WHERE m.rollout_id = $1 AND m.instance_id = i.id)
"""
_ENROL = """
INSERT INTO rollout_members (rollout_id, instance_id, tenant_id, wave, updated_at)
SELECT $1, item.id, item.tenant_id, item.wave, $5
FROM unnest($2::uuid[], $3::uuid[], $4::int[]) AS item (id, tenant_id, wave)
ON CONFLICT DO NOTHING
"""
_COUNTS = """
SELECT rollout_id, wave, state, count(*) AS n FROM rollout_members
WHERE rollout_id = ANY ($1::uuid[]) GROUP BY rollout_id, wave, state
"""
_GROUP = "UPDATE tenants SET rollout_group = $2, updated_at = $3 WHERE id = $1"


async def create_release(
    session: AsyncSession, body: ReleaseIn, *, actor: Actor | None, now: datetime
) -> Release:
    """A new release; nobody gets it before a rollout."""
    settings = {
        name: str(value) for name, value in body.settings.model_dump(exclude_none=True).items()
    }
    connection = await driver(session)
    await connection.execute(_ALONE)
    release = Release(
        id=new_id(),
        number=await connection.fetchval(_NEXT_RELEASE),
        image=body.image,
        settings=settings,
        note=body.note,
        created_at=now,
    )
    session.add(release)
    await session.flush()
    after = {"number": release.number, "image": release.image, "settings": settings}
    _record(session, "release.create", ("release", release.id), actor=actor, now=now, after=after)
    return release


async def list_releases(
    session: AsyncSession, *, before: UUID | None, limit: int
) -> Sequence[Release]:
    """Releases, newest first; one more than `limit` if there are."""
    query = select(Release).order_by(col(Release.id).desc())
    if before is not None:
        query = query.where(col(Release.id) < before)
    return (await session.exec(query.limit(limit + 1))).all()


async def start(
    session: AsyncSession, body: RolloutIn, *, actor: Actor | None, now: datetime
) -> Rollout:
    """Begin to bring a release out; one at a time."""
    release = (
        await session.exec(select(Release).where(Release.number == body.release))
    ).one_or_none()
    if release is None:
        raise not_found("release")
    rollout_id = new_id()
    made = await (await driver(session)).execute(
        _BEGIN,
        rollout_id,
        release.id,
        str(body.waves),
        now.isoformat(),
        body.budget_percent,
        body.ready_within_s,
        body.watch_s,
        body.at_once,
        now,
    )
    if made != "INSERT 0 1":
        raise Conflict("rollout_under_way", "Another rollout has not ended; abort it first.")
    rollout = await get(session, rollout_id)
    enrolled = await enrol(session, rollout, now=now)
    await leases.call(session, WORK, [(rollout_id, NOBODYS)])
    _record(
        session,
        "rollout.start",
        ("rollout", rollout_id),
        actor=actor,
        now=now,
        after=body.model_dump() | {"members": enrolled},
    )
    return rollout


async def enrol(
    session: AsyncSession, rollout: Rollout, *, now: datetime, last: bool = False
) -> int:
    """Take in every instance that has another release; with `last`, into the last wave."""
    connection = await driver(session)
    found = await connection.fetch(_CANDIDATES, rollout.id, rollout.release_id)
    if not found:
        return 0
    waves = [
        len(rollout.waves) - 1
        if last
        else wave_of(rollout.id, row["id"], row["rollout_group"], rollout.waves)
        for row in found
    ]
    ids = [row["id"] for row in found]
    tenants = [row["tenant_id"] for row in found]
    await connection.execute(_ENROL, rollout.id, ids, tenants, waves, now)
    return len(found)


async def list_rollouts(
    session: AsyncSession, *, before: UUID | None, limit: int
) -> Sequence[Rollout]:
    """Rollouts, newest first; one more than `limit` if there are."""
    query = select(Rollout).order_by(col(Rollout.id).desc())
    if before is not None:
        query = query.where(col(Rollout.id) < before)
    return (await session.exec(query.limit(limit + 1))).all()


async def get(session: AsyncSession, rollout_id: UUID, *, lock: bool = False) -> Rollout:
    """One rollout; with `lock`, nobody else changes it meanwhile."""
    query = select(Rollout).where(Rollout.id == rollout_id)
    if lock:
        query = query.with_for_update()
    query = query.execution_options(populate_existing=True)
    rollout = (await session.exec(query)).one_or_none()
    if rollout is None:
        raise not_found("rollout")
    return rollout


async def by_number(session: AsyncSession, number: int) -> Rollout:
    """One rollout, as people name it."""
    rollout = (await session.exec(select(Rollout).where(Rollout.number == number))).one_or_none()
    if rollout is None:
        raise not_found("rollout")
    return rollout


async def members(
    session: AsyncSession,
    rollout_id: UUID,
    *,
    state: MemberState | None,
    after: UUID | None,
    limit: int,
) -> Sequence[Member]:
    """Its members by id; one more than `limit` if there are."""
    await get(session, rollout_id)
    query = select(Member).where(Member.rollout_id == rollout_id).order_by(col(Member.instance_id))
    if state is not None:
        query = query.where(Member.state == state.value)
    if after is not None:
        query = query.where(col(Member.instance_id) > after)
    return (await session.exec(query.limit(limit + 1))).all()


async def shown(session: AsyncSession, rollouts: Sequence[Rollout]) -> list[RolloutOut]:
    """Rollouts with the numbers of their releases and of their members."""
    query = select(Release.id, Release.number).where(
        col(Release.id).in_({each.release_id for each in rollouts})
    )
    numbers = dict((await session.exec(query)).all())
    by_wave = {each.id: [_none() for _ in each.waves] for each in rollouts}
    for row in await (await driver(session)).fetch(_COUNTS, list(by_wave)):
        by_wave[row["rollout_id"]][row["wave"]][row["state"]] = row["n"]
    return [
        RolloutOut.model_validate(
            each.model_dump()
            | {
                "release": numbers[each.release_id],
                "members_by_wave": by_wave[each.id],
                "members": _sum(by_wave[each.id]),
            }
        )
        for each in rollouts
    ]


async def pause(
    session: AsyncSession, rollout_id: UUID, *, actor: Actor | None, now: datetime
) -> Rollout:
    """Move nobody forward; what fails still goes back."""
    rollout = await get(session, rollout_id, lock=True)
    if rollout.state == State.PAUSED:
        return rollout
    _must_be(rollout, State.RUNNING)
    return await _turn(session, rollout, State.PAUSED, "pause", actor=actor, now=now)


async def resume(
    session: AsyncSession, rollout_id: UUID, *, actor: Actor | None, now: datetime
) -> Rollout:
    """Go on after a pause."""
    rollout = await get(session, rollout_id, lock=True)
    if rollout.state == State.RUNNING:
        return rollout
    _must_be(rollout, State.PAUSED)
    return await _turn(session, rollout, State.RUNNING, "resume", actor=actor, now=now)


async def abort(
    session: AsyncSession,
    rollout_id: UUID,
    *,
    roll_back: bool,
    actor: Actor | None,
    now: datetime,
) -> Rollout:
    """Leave it; who has the release keeps it unless it fails, or with `roll_back`, goes back."""
    rollout = await get(session, rollout_id, lock=True)
    state = State.ROLLING_BACK if roll_back else State.ABORTED
    if rollout.state == state and rollout.ended_at is None:
        return rollout
    _must_be(rollout, State.RUNNING, State.PAUSED, *([State.ABORTED] if roll_back else []))
    if roll_back:
        rollout.reason = "asked"
    return await _turn(session, rollout, state, "abort", actor=actor, now=now)


async def group_of(session: AsyncSession, tenant_id: UUID) -> str:
    """The group of a tenant: "canary" or none."""
    query = "SELECT rollout_group FROM tenants WHERE id = $1"
    group: str | None = await (await driver(session)).fetchval(query, tenant_id)
    if group is None:
        raise not_found("tenant")
    return group


async def set_group(
    session: AsyncSession, tenant_id: UUID, group: str, *, actor: Actor | None, now: datetime
) -> None:
    """Let a tenant's bots go first, or no longer; a rollout under way keeps its order."""
    before = await group_of(session, tenant_id)
    if before == group:
        return
    await (await driver(session)).execute(_GROUP, tenant_id, group, now)
    _record(
        session,
        "tenant.rollout_group",
        ("tenant", tenant_id),
        actor=actor,
        now=now,
        before={"group": before},
        after={"group": group},
    )


def note(session: AsyncSession, rollout: Rollout, action: str, *, now: datetime) -> None:
    """Write down what the rollout did by itself."""
    after = {"state": rollout.state, "reason": rollout.reason}
    target = ("rollout", rollout.id)
    _record(session, f"rollout.{action}", target, actor=None, now=now, after=after)


def _none() -> dict[str, int]:
    return {state.value: 0 for state in MemberState}


def _sum(waves: Sequence[dict[str, int]]) -> dict[str, int]:
    return {state: sum(wave[state] for wave in waves) for state in _none()}


def _must_be(rollout: Rollout, *states: State) -> None:
    if rollout.ended_at is not None:
        raise Conflict("rollout_ended", f"The rollout is over: {rollout.state}.")
    if rollout.state not in states:
        raise Conflict("rollout_state", f"The rollout is {rollout.state}.")


async def _turn(
    session: AsyncSession,
    rollout: Rollout,
    state: State,
    action: str,
    *,
    actor: Actor | None,
    now: datetime,
) -> Rollout:
    before = rollout.state
    rollout.state, rollout.updated_at = state.value, now
    session.add(rollout)
    await session.flush()
    await leases.call(session, WORK, [(rollout.id, NOBODYS)])
    _record(
        session,
        f"rollout.{action}",
        ("rollout", rollout.id),
        actor=actor,
        now=now,
        before={"state": before},
        after={"state": state.value},
    )
    return rollout


def _record(
    session: AsyncSession,
    action: str,
    target: tuple[str, UUID],
    *,
    actor: Actor | None,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    hint(session, FLEET)
    audit.record(
        session,
        actor=actor,
        tenant_id=audit.PLATFORM,
        action=action,
        target=target,
        now=now,
        before=before,
        after=after,
    )
