"""Members as routing sees them: what they say of themselves, what they can, what they have."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor, Permission
from control_plane.db import leases
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Conflict, Forbidden, not_found
from control_plane.routing import hours, settings
from control_plane.routing.choosing import Candidate
from control_plane.routing.hours import Hours
from control_plane.routing.schemas import AbilityIn
from control_plane.routing.settings import Kept
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants.service import ROUTING

# Members of one tenant that are looked at together; the plans allow fewer.
MOST = 1000
# Who was not seen for so long may have been away, and may now be back: at least every process
# looks every half a minute.
_MAYBE_AWAY = timedelta(minutes=1)
# Seen again this soon, nothing is written.
_SEEN_EVERY = timedelta(seconds=20)

# A viewer has no conversations, nor who has lost the right to any.
_MEMBERS = """
SELECT m.id, m.name, coalesce(r.state, 'offline') AS said, r.state_at, r.seen_at, r.assigned_at,
    r.capacity, coalesce(r.skills, '{{}}') AS skills, r.shift,
    (SELECT count(*) FROM conversations AS c WHERE c.tenant_id = m.tenant_id
     AND c.owner_member_id = m.id AND c.owner = 'human') AS load
FROM members AS m LEFT JOIN routing_members AS r ON r.member_id = m.id
LEFT JOIN roles AS o ON o.id = m.role_id
WHERE m.tenant_id = $1 AND m.role <> 'viewer'
  AND (m.role <> 'custom' OR '{writes}' = ANY (o.permissions)){more}
ORDER BY m.id LIMIT {most}
"""
_ALL = _MEMBERS.format(
    writes=Permission.CONVERSATIONS_WRITE, most=MOST, more=" AND m.id > $2"
).replace(f"LIMIT {MOST}", "LIMIT $3")
_PRESENT = _MEMBERS.format(
    writes=Permission.CONVERSATIONS_WRITE, most=MOST, more=" AND r.state IN ('online', 'busy')"
)
_ONE = _MEMBERS.format(writes=Permission.CONVERSATIONS_WRITE, most=1, more=" AND m.id = $2")
_IS_MEMBER = "SELECT EXISTS (SELECT FROM members WHERE tenant_id = $1 AND id = $2)"
_LOCK_MEMBER = "SELECT 1 FROM members WHERE id = $1 FOR KEY SHARE"
_LOCK = "SELECT 1 FROM routing_members WHERE member_id = $1 FOR UPDATE"
_SAY = """
INSERT INTO routing_members AS r (member_id, tenant_id, state, state_at, seen_at)
VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (member_id) DO UPDATE SET state = excluded.state, seen_at = excluded.seen_at,
    state_at = CASE WHEN r.state = excluded.state THEN r.state_at ELSE excluded.state_at END
"""
_ABLE = """
INSERT INTO routing_members (member_id, tenant_id, state_at, seen_at, capacity, skills, shift)
VALUES ($1, $2, $3, $3, $4, $5, $6)
ON CONFLICT (member_id) DO UPDATE SET capacity = excluded.capacity, skills = excluded.skills,
    shift = excluded.shift
"""
_GIVEN = "UPDATE routing_members SET assigned_at = $2 WHERE member_id = $1"
# In one order, so that two processes that see the same people do not wait in a circle.
_SEEN = """
WITH them AS (
    SELECT member_id, seen_at FROM routing_members
    WHERE member_id = ANY ($1::uuid[]) AND seen_at < $3 ORDER BY member_id FOR UPDATE
)
UPDATE routing_members AS r SET seen_at = $2 FROM them
WHERE r.member_id = them.member_id
RETURNING r.tenant_id, r.state <> 'offline' AND them.seen_at < $4 AS back
"""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member; `state` is what they said, unless they have not shown themselves for a while."""

    id: UUID
    name: str
    said: str
    state: str
    state_at: datetime | None
    load: int
    capacity: int
    skills: dict[str, int]
    shift: Hours | None
    assigned_at: datetime | None

    def candidate(self, kept: Kept, now: datetime) -> Candidate:
        return Candidate(
            member_id=self.id,
            state=self.state,
            capacity=self.capacity,
            load=self.load,
            skills=self.skills,
            on_shift=hours.is_open(self.shift or kept.routing.hours, now),
            assigned_at=self.assigned_at,
        )


def standing(said: str, seen_at: datetime | None, away_after: timedelta, now: datetime) -> str:
    """How they are: who said to be there and was not seen for so long is away."""
    there = said in ("online", "busy")
    gone = seen_at is None or now - seen_at > away_after
    return "away" if there and gone else said


async def list_members(
    session: Session, tenant_id: UUID, *, after: UUID, limit: int, now: datetime
) -> Sequence[Member]:
    """Everybody who may answer, oldest first; one more than `limit` if there are."""
    kept = await settings.read(session, tenant_id)
    rows = await (await driver(session)).fetch(_ALL, tenant_id, after, limit + 1)
    return [_member(row, kept, now) for row in rows]


async def present(session: Session, tenant_id: UUID, kept: Kept, now: datetime) -> list[Member]:
    """Those who said to be there."""
    rows = await (await driver(session)).fetch(_PRESENT, tenant_id)
    return [_member(row, kept, now) for row in rows]


async def get(
    session: Session, tenant_id: UUID, member_id: UUID, *, kept: Kept, now: datetime
) -> Member:
    """One of those who may answer; raises Conflict for another member, NotFound for anybody."""
    connection = await driver(session)
    row = await connection.fetchrow(_ONE, tenant_id, member_id)
    if row is None:
        if await connection.fetchval(_IS_MEMBER, tenant_id, member_id):
            raise Conflict("member_cannot_answer", "This member may not answer customers.")
        raise not_found("member")
    return _member(row, kept, now)


async def locked(
    session: Session, tenant_id: UUID, member_id: UUID, *, kept: Kept, now: datetime
) -> Member | None:
    """The same, counted behind a lock that all who give something to this member take."""
    connection = await driver(session)
    # First the member, whom somebody may be removing, then their row here.
    await connection.execute(_LOCK_MEMBER, member_id)
    await connection.execute(_LOCK, member_id)
    row = await connection.fetchrow(_ONE, tenant_id, member_id)
    return None if row is None else _member(row, kept, now)


async def given(session: Session, member_id: UUID, now: datetime) -> None:
    """They were given something."""
    await (await driver(session)).execute(_GIVEN, member_id, now)


async def say(session: AsyncSession, state: str, *, actor: Actor, now: datetime) -> Member:
    """What a member says of themselves."""
    if actor.member_id is None:
        raise Forbidden("not_a_member", "Only a member can be there or away.")
    await (await driver(session)).execute(_SAY, actor.member_id, actor.tenant, state, now)
    return await _changed(session, actor.tenant, actor.member_id, now=now)


async def enable(
    session: AsyncSession, member_id: UUID, body: AbilityIn, *, actor: Actor, now: datetime
) -> Member:
    """What a member may be given: how much, and what they can."""
    kept = await settings.read(session, actor.tenant)
    before = await get(session, actor.tenant, member_id, kept=kept, now=now)
    settings.known_skills(kept.routing, body.skills)
    hours.check(body.shift, "/shift")
    await (await driver(session)).execute(
        _ABLE,
        member_id,
        actor.tenant,
        now,
        body.capacity,
        json.dumps(body.skills),
        body.shift.model_dump_json() if body.shift else None,
    )
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action="routing.change_member",
        target=("member", member_id),
        now=now,
        before={"capacity": before.capacity, "skills": before.skills},
        after={"capacity": body.capacity, "skills": body.skills},
    )
    return await _changed(session, actor.tenant, member_id, now=now)


async def seen(session: Session, member_ids: Collection[UUID], now: datetime) -> None:
    """These have a socket open; for those who come back something may wait."""
    rows = await (await driver(session)).fetch(
        _SEEN, list(member_ids), now, now - _SEEN_EVERY, now - _MAYBE_AWAY
    )
    for tenant_id in sorted({row["tenant_id"] for row in rows if row["back"]}):
        await leases.call_key(session, ROUTING, tenant_id)


async def _changed(
    session: AsyncSession, tenant_id: UUID, member_id: UUID, *, now: datetime
) -> Member:
    kept = await settings.read(session, tenant_id)
    member = await get(session, tenant_id, member_id, kept=kept, now=now)
    await leases.call_key(session, ROUTING, tenant_id)
    data = {"member_id": str(member_id), "state": member.state}
    await stream.append(session, tenant_id, [Entry(type="routing.member_changed", data=data)])
    return member


def _member(row: Any, kept: Kept, now: datetime) -> Member:
    return Member(
        id=row["id"],
        name=row["name"],
        said=row["said"],
        state=standing(row["said"], row["seen_at"], kept.away_after, now),
        state_at=row["state_at"],
        load=row["load"],
        capacity=row["capacity"] or kept.routing.capacity,
        skills=json.loads(row["skills"]),
        shift=Hours.model_validate_json(row["shift"]) if row["shift"] else None,
        assigned_at=row["assigned_at"],
    )
