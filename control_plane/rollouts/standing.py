"""Reads how the members of a rollout stand: of the fleet by operators' eyes, of talks by counts."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from control_plane.db.session import Database, Scope, Session, driver
from control_plane.rollouts.advance import Member, MemberState, Share, Talk

# How far back a member's own former share of failures is taken from.
BEFORE = timedelta(hours=24)
# Turns, and deliveries, of a tenant that are looked at for one member, newest first.
MOST = 500
# Of an answer or a message that is still under way after this, nothing comes any more soon.
STUCK_AFTER = timedelta(minutes=2)
# Members whose talks are counted in one statement.
PAGE = 200

# The better a phase is, the higher; what is not here does not run.
_RANK = {"connecting": 1, "degraded": 2, "running": 3}
# A bot that was in trouble by itself says nothing about a release.
_TROUBLED = frozenset({"crash_loop"})
# Nothing is to run, so nothing can fail.
_AT_REST = frozenset({"hibernated", "stopped"})

# What is being deleted is nobody's member any more.
_MEMBERS = """
SELECT m.instance_id, m.tenant_id, m.wave, m.state, m.moved_at, m.before_phase, m.mark,
    i.phase, i.desired = 'running' AND i.suspended_at IS NULL AND t.state = 'active' AS wanted,
    i.observed_generation = i.generation AS looked,
    CASE WHEN m.state = 'moved' THEN i.conditions END AS conditions
FROM rollout_members AS m
JOIN instances AS i ON i.id = m.instance_id JOIN tenants AS t ON t.id = m.tenant_id
WHERE m.rollout_id = $1 AND i.desired <> 'deleted' AND i.phase <> 'deleted'
  AND t.state NOT IN ('deleting', 'deleted')
ORDER BY m.instance_id
"""
# Ids say when they were made, and every tenant's are in an index: (tenant_id, id).
_TALKS = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
        AS g (tenant_id, instance_id, since, mark)
)
SELECT g.instance_id, t.of_before, t.failed_before, t.of_since, t.failed_since,
    d.of_before AS sent_before, d.failed_before AS unsent_before,
    d.of_since AS sent_since, d.failed_since AS unsent_since
FROM given AS g, LATERAL (
    SELECT count(*) FILTER (WHERE NOT since) AS of_before,
        count(*) FILTER (WHERE NOT since AND failed) AS failed_before,
        count(*) FILTER (WHERE since) AS of_since,
        count(*) FILTER (WHERE since AND failed) AS failed_since
    FROM (
        SELECT n.id > g.mark AS since,
            n.reason = 'model_failed' OR n.state = 'running' AS failed
        FROM (
            (SELECT * FROM turns WHERE tenant_id = g.tenant_id AND id > g.mark
             ORDER BY id DESC LIMIT $5)
            UNION ALL
            (SELECT * FROM turns
             WHERE tenant_id = g.tenant_id AND id < g.mark AND id >= g.since
             ORDER BY id DESC LIMIT $5)
        ) AS n JOIN conversations AS c ON c.id = n.conversation_id
        WHERE c.instance_id = g.instance_id AND n.state <> 'dropped'
          AND (n.state <> 'running' OR n.id < $6)
    ) AS judged
) AS t, LATERAL (
    SELECT count(*) FILTER (WHERE NOT since) AS of_before,
        count(*) FILTER (WHERE NOT since AND failed) AS failed_before,
        count(*) FILTER (WHERE since) AS of_since,
        count(*) FILTER (WHERE since AND failed) AS failed_since
    FROM (
        SELECT n.id > g.mark AS since, n.state <> 'sent' AS failed
        FROM (
            (SELECT * FROM deliveries WHERE tenant_id = g.tenant_id AND id > g.mark
             ORDER BY id DESC LIMIT $5)
            UNION ALL
            (SELECT * FROM deliveries
             WHERE tenant_id = g.tenant_id AND id < g.mark AND id >= g.since
             ORDER BY id DESC LIMIT $5)
        ) AS n
        WHERE n.instance_id = g.instance_id AND n.state <> 'withheld'
          AND (n.state NOT IN ('queued', 'sending') OR n.id < $6)
    ) AS judged
) AS d
"""


async def members(
    session: Session, rollout_id: UUID
) -> tuple[list[Member], dict[UUID, tuple[UUID, UUID]]]:
    """All members without their talks, and (tenant, mark) of those whose talks count."""
    rows = await (await driver(session)).fetch(_MEMBERS, rollout_id)
    watched = {
        row["instance_id"]: (row["tenant_id"], row["mark"])
        for row in rows
        if row["state"] == MemberState.MOVED and row["mark"] is not None
    }
    return [_member(row) for row in rows], watched


async def talks(
    database: Database, watched: Mapping[UUID, tuple[UUID, UUID]], stuck_before: UUID
) -> dict[UUID, Talk]:
    """What became of turns and deliveries: numbers, a page of tenants at a time."""
    found: dict[UUID, Talk] = {}
    ids = sorted(watched)
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        tenants = [watched[each][0] for each in page]
        marks = [watched[each][1] for each in page]
        async with database.plain(Scope(tenants=tuple(sorted(set(tenants))))) as session:
            rows = await (await driver(session)).fetch(
                _TALKS,
                tenants,
                page,
                [earlier(mark, BEFORE) for mark in marks],
                marks,
                MOST,
                stuck_before,
            )
        found |= {row["instance_id"]: _talk(row) for row in rows}
    return found


def earlier(mark: UUID, by: timedelta) -> UUID:
    """The first id of the moment that lies so long before the one of `mark`."""
    made_ms = mark.int >> 80
    before_ms = max(made_ms - by // timedelta(milliseconds=1), 0)
    return UUID(int=before_ms << 80)


def well(before: str | None, phase: str) -> bool:
    """Whether a bot in `phase` runs, and as well as it did before."""
    needed = max(_RANK.get(before or "", 0), min(_RANK.values()))
    return _RANK.get(phase, 0) >= needed


def unwell_since(
    before: str | None, phase: str, conditions: Sequence[Mapping[str, Any]], moved_at: datetime
) -> datetime | None:
    """Since when it does not run as it did, by the first condition that does not hold."""
    if well(before, phase):
        return None
    missing = (datetime.fromisoformat(each["at"]) for each in conditions if not each["status"])
    return max(moved_at, next(missing, moved_at))


def _member(row: Any) -> Member:
    moved_at, phase = row["moved_at"], row["phase"]
    since = None
    if row["conditions"] is not None and moved_at is not None:
        since = unwell_since(row["before_phase"], phase, json.loads(row["conditions"]), moved_at)
    return Member(
        id=row["instance_id"],
        tenant_id=row["tenant_id"],
        wave=row["wave"],
        state=MemberState(row["state"]),
        moved_at=moved_at,
        counts=row["before_phase"] not in _TROUBLED,
        wanted=row["wanted"] and not (row["looked"] and phase in _AT_REST),
        looked=row["looked"],
        unwell_since=since,
        looping=phase == "crash_loop",
    )


def _talk(row: Any) -> Talk:
    return Talk(
        turns_before=Share(of=row["of_before"], failed=row["failed_before"]),
        turns_since=Share(of=row["of_since"], failed=row["failed_since"]),
        deliveries_before=Share(of=row["sent_before"], failed=row["unsent_before"]),
        deliveries_since=Share(of=row["sent_since"], failed=row["unsent_since"]),
    )
