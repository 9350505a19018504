"""Plans and quotas: what a tenant may have, what it has, and when that comes near its end.

What can be refused (instances, channels, members, stored bytes) is counted under the lock of the
tenant's row. Customers' messages are counted as they are stored and never refused: over the quota,
the bot hands over to people. Lock order: instances, tenants, then as in `control_plane.db.leases`;
the counters of messages just before the stream heads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import Session, driver
from control_plane.kit.errors import Conflict, Forbidden, not_found
from control_plane.stream.log import Entry
from control_plane.tenants.models import TenantState

# A share of the limit from which people should think about more.
NEAR = 0.8

_LIMITS = """
SELECT t.state, t.plan, p.quotas || t.quota_overrides AS quotas
FROM tenants AS t JOIN plans AS p ON p.name = t.plan WHERE t.id = $1
"""
# An invitation that is open holds a member's place; bytes count from their reservation until
# their object is removed.
_USED = """
SELECT t.id AS tenant_id, t.quota_overrides,
    (SELECT count(*) FROM instances AS i
     WHERE i.tenant_id = t.id AND i.desired <> 'deleted') AS instances,
    (SELECT count(*) FROM channels AS c JOIN instances AS i ON i.id = c.instance_id
     WHERE c.tenant_id = t.id AND c.deleted_at IS NULL AND i.desired <> 'deleted') AS channels,
    (SELECT count(*) FROM members AS m WHERE m.tenant_id = t.id)
        + (SELECT count(*) FROM invitations AS v
           WHERE v.tenant_id = t.id AND v.accepted_at IS NULL AND v.expires_at > $2) AS members,
    coalesce((SELECT c.received FROM message_counts AS c
              WHERE c.tenant_id = t.id AND c.month = $3), 0) AS messages_month,
    (SELECT coalesce(sum(size), 0)::bigint FROM media AS b
     WHERE b.tenant_id = t.id) AS storage_bytes
FROM tenants AS t WHERE t.id = ANY ($1::uuid[]) ORDER BY t.id
"""
_COUNTED = ("instances", "channels", "members", "messages_month", "storage_bytes")
# Counts what stands in `arrived (tenant_id, month, n)`, as a part of one statement. Limits are not
# looked up for each message: a count knows from where on its quota is looked at again.
COUNTING = """
counted AS (
    INSERT INTO message_counts AS m (tenant_id, month, received)
    SELECT tenant_id, month, n FROM arrived ORDER BY tenant_id, month
    ON CONFLICT (tenant_id, month) DO UPDATE SET received = m.received + excluded.received
    RETURNING tenant_id, month, received, received >= look_at AS look
)
"""
_COUNT = f"""
WITH arrived AS (
    SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS a (tenant_id, month, n)
), {COUNTING}
SELECT tenant_id, month, received FROM counted WHERE look
"""  # noqa: S608 - our own constant
# Behind the lock of the counts: who changes a limit has them looked at again (`_LOOK_AGAIN`).
_MESSAGES = """
SELECT t.id, ((p.quotas || t.quota_overrides)->>'messages_month')::bigint
FROM tenants AS t JOIN plans AS p ON p.name = t.plan WHERE t.id = ANY ($1::uuid[])
"""
_LOOK_AT = """
UPDATE message_counts AS m SET look_at = i.look_at
FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS i (tenant_id, month, look_at)
WHERE m.tenant_id = i.tenant_id AND m.month = i.month
"""
# A count that somebody begins at this moment waits for us, or we for it.
_LOOK_AGAIN = """
INSERT INTO message_counts (tenant_id, month, received)
SELECT id, $2, 0 FROM unnest($1::uuid[]) AS i (id) ORDER BY id
ON CONFLICT (tenant_id, month) DO UPDATE SET look_at = 0
"""
_EGRESS = """
SELECT (p.quotas || t.quota_overrides)->'egress_allow'
FROM tenants AS t JOIN plans AS p ON p.name = t.plan WHERE t.id = $1
"""
# Part of other statements, too: whoever works on conversations asks it again and again.
OVER = """
SELECT m.received > ((p.quotas || t.quota_overrides)->>'messages_month')::bigint
FROM tenants AS t JOIN plans AS p ON p.name = t.plan
JOIN message_counts AS m ON m.tenant_id = t.id AND m.month = {month} WHERE t.id = {tenant}
"""
_OVER = OVER.format(tenant="$1", month="$2")


class State(StrEnum):
    """How a use stands to its limit."""

    OK = "ok"
    NEAR = "near"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One quota: what is used of it."""

    name: str
    used: int
    limit: int

    @property
    def state(self) -> State:
        if self.used > self.limit:
            return State.OVER
        return State.NEAR if self.used >= self.limit * NEAR else State.OK

    @property
    def next_at(self) -> int | None:
        """The use with which the state is another one, if more can change it."""
        match self.state:
            case State.OK:
                return math.ceil(self.limit * NEAR)
            case State.NEAR:
                return self.limit + 1
        return None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A tenant beside its plan at one moment."""

    tenant_id: UUID
    state: str
    plan: str
    quotas: Mapping[str, Any]
    levels: Mapping[str, Level]

    def room_for(self, name: str, amount: int = 1) -> None:
        """Raises unless so many more fit; true for as long as the tenant's row is locked."""
        if self.state != TenantState.ACTIVE:
            raise Forbidden("tenant_not_active", f"The tenant is {self.state}.")
        level = self.levels[name]
        if level.used + amount > level.limit:
            raise Conflict(
                "quota_exceeded", f"The plan {self.plan} has room for {level.limit} {name}."
            )


def month_of(moment: datetime) -> int:
    """The month that a message counts in: YYYYMM, UTC."""
    return moment.year * 100 + moment.month


async def standing(
    session: AsyncSession, tenant_id: UUID, *, now: datetime, lock: bool = False
) -> Standing:
    """What the tenant has and may have; with `lock`, nobody else changes it meanwhile."""
    connection = await driver(session)
    query = _LIMITS + ("FOR NO KEY UPDATE OF t" if lock else "")
    row = await connection.fetchrow(query, tenant_id)
    if row is None:
        raise not_found("tenant")
    # A statement of its own: what others committed while we waited for the lock must count.
    used = await connection.fetchrow(_USED, [tenant_id], now, month_of(now))
    quotas = json.loads(row["quotas"])
    return Standing(
        tenant_id=tenant_id,
        state=row["state"],
        plan=row["plan"],
        quotas=quotas,
        levels=_levels(used, quotas),
    )


async def crossed(session: AsyncSession, before: Standing, *, now: datetime) -> list[Entry]:
    """Stream entries for the quotas whose state has changed since `before`."""
    after = await standing(session, before.tenant_id, now=now)
    return [
        _entry(level)
        for name, level in after.levels.items()
        if level.state != before.levels[name].state
    ]


async def moved(
    session: AsyncSession,
    tenant_ids: Sequence[UUID],
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    now: datetime,
) -> list[tuple[UUID, list[Entry]]]:
    """Whose quotas' states another plan has changed; the session speaks for all of them."""
    rows = await (await driver(session)).fetch(_USED, list(tenant_ids), now, month_of(now))
    found = []
    for row in rows:
        exceptions = json.loads(row["quota_overrides"])
        was = _levels(row, {**before, **exceptions})
        levels = _levels(row, {**after, **exceptions}).values()
        entries = [_entry(level) for level in levels if level.state != was[level.name].state]
        if entries:
            found.append((row["tenant_id"], entries))
    return found


async def count_messages(
    session: Session, counts: Mapping[tuple[UUID, int], int]
) -> list[tuple[UUID, Entry]]:
    """Add messages per (tenant, month); who came near or over the quota by it."""
    if not counts:
        return []
    ordered = sorted(counts.items())
    rows = await (await driver(session)).fetch(
        _COUNT,
        [tenant_id for (tenant_id, _), _ in ordered],
        [month for (_, month), _ in ordered],
        [count for _, count in ordered],
    )
    return await _look(session, rows, counts) if rows else []


async def _look(
    session: Session, rows: Sequence[Sequence[Any]], counts: Mapping[tuple[UUID, int], int]
) -> list[tuple[UUID, Entry]]:
    """Who came near or over the quota by the last `counts`, and from where on to look again."""
    connection = await driver(session)
    limits = dict(await connection.fetch(_MESSAGES, [tenant_id for tenant_id, *_ in rows]))
    found, looked = [], []
    for tenant_id, month, received in rows:
        level = Level(name="messages_month", used=received, limit=limits[tenant_id])
        before = replace(level, used=received - counts[tenant_id, month])
        if level.state != before.state:
            found.append((tenant_id, _entry(level)))
        looked.append((tenant_id, month, level.next_at))
    await connection.execute(_LOOK_AT, *map(list, zip(*looked, strict=True)))
    return found


async def limits_change(session: Session, tenant_ids: Sequence[UUID], *, now: datetime) -> None:
    """The tenants' messages of this month are held against their quota with the next.

    Their rows are locked, or their plan's.
    """
    await (await driver(session)).execute(_LOOK_AGAIN, list(tenant_ids), month_of(now))


async def over_messages(session: Session, tenant_id: UUID, *, now: datetime) -> bool:
    """Whether this month's messages are more than the plan has."""
    over: bool | None = await (await driver(session)).fetchval(_OVER, tenant_id, month_of(now))
    return bool(over)


async def egress(session: Session, tenant_id: UUID) -> list[str]:
    """Host names and networks that the tenant's bots may call beside the public internet."""
    allowed = await (await driver(session)).fetchval(_EGRESS, tenant_id)
    return list(json.loads(allowed)) if allowed else []


def _levels(used: Mapping[str, Any], quotas: Mapping[str, Any]) -> dict[str, Level]:
    return {name: Level(name=name, used=used[name], limit=quotas[name]) for name in _COUNTED}


def _entry(level: Level) -> Entry:
    data = {
        "quota": level.name,
        "used": level.used,
        "limit": level.limit,
        "state": str(level.state),
    }
    return Entry(type="quota.changed", data=data)
