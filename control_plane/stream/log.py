"""Each tenant's append-only stream of what happened, in the order of `(epoch, seq)`.

`append` takes the tenant's counter lock and holds it to the end of the transaction, so positions
are gapless and visible in order. Take it last (see `control_plane.db.leases` for the lock order).
Work of the kind `FOLLOWER` is called by every append of its tenant, just before that lock; whoever
holds such a row for longer than a moment holds up the tenant.
Retention removes beginnings of it, so a gap behind a position means that entries were forgotten.
"""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.session import Session, driver, hint
from control_plane.kit.ids import new_id

# The work that follows a tenant's stream from a position of its own.
FOLLOWER = "webhook"

# Appends what stands in `grown (tenant_id, n)` and `entry (id, tenant_id, n, type, data)`, each
# entry with its place among its tenant's, as parts of one statement. Followers are counted first,
# and the heads are locked behind them, in one order.
APPENDING = f"""
followers AS (
    SELECT kind, key FROM work
    WHERE kind = '{FOLLOWER}' AND tenant_id = ANY (ARRAY(SELECT tenant_id FROM grown))
    ORDER BY tenant_id, key FOR UPDATE
), called AS (
    UPDATE work AS w SET version = version + 1, due_at = least(due_at, now())
    FROM followers AS f WHERE w.kind = f.kind AND w.key = f.key RETURNING 1
), heads AS (
    -- An upsert, because it takes its rows in the order in which they are given. A head that was
    -- not there has nothing before it, which whoever appends takes for an error.
    INSERT INTO stream_heads AS h (tenant_id, seq)
    SELECT tenant_id, n FROM grown WHERE (SELECT count(*) FROM called) >= 0 ORDER BY tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET seq = h.seq + excluded.seq
    RETURNING h.tenant_id, h.epoch, old.seq AS before
), added AS (
    INSERT INTO stream (id, tenant_id, epoch, seq, type, data, created_at)
    SELECT i.id, i.tenant_id, h.epoch, h.before + i.n, i.type, i.data, now()
    -- Joined in full, and not strictly, so that the planner cannot compare all with all.
    FROM entry AS i FULL JOIN heads AS h USING (tenant_id) WHERE coalesce(h.before, -1) >= 0
)
"""  # noqa: S608 - our own constant
_APPEND = f"""
WITH grown AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS g (tenant_id, n)
), entry AS (
    SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::jsonb[])
        AS i (id, tenant_id, n, type, data)
), {APPENDING}
SELECT (SELECT count(*) FROM called) AS called, (SELECT count(before) FROM heads) AS heads
"""  # noqa: S608 - our own constants
# The head and the entries in one snapshot: what is missing between them was forgotten.
_READ = """
SELECT h.epoch AS head_epoch, h.seq AS head_seq, s.seq, s.type, s.data
FROM stream_heads AS h LEFT JOIN LATERAL (
    SELECT seq, type, data FROM stream
    WHERE tenant_id = $1 AND epoch = $2 AND seq > $3 ORDER BY seq LIMIT $4) AS s ON true
WHERE h.tenant_id = $1 ORDER BY s.seq
"""
_FOLLOW = """
SELECT epoch, seq, type, data, created_at FROM stream
WHERE tenant_id = $1 AND (epoch, seq) > ($2, $3) ORDER BY epoch, seq LIMIT $4
"""
_HEADS = "SELECT tenant_id, epoch, seq FROM stream_heads WHERE tenant_id = ANY ($1)"


class Forgotten(Exception):
    """Entries behind the position are no longer kept: whoever follows has to start over."""


class Entry(Struct, frozen=True, kw_only=True):
    """Something that happened; `data` is plain JSON."""

    type: str
    data: Mapping[str, Any]


class Placed(Struct, frozen=True, kw_only=True):
    """An entry with its position."""

    epoch: int
    seq: int
    type: str
    data: dict[str, Any]


class Followed(Placed, frozen=True, kw_only=True):
    """An entry with its position and time."""

    at: datetime


def topic(tenant_id: UUID) -> str:
    """What to listen to for a tenant's new entries."""
    return f"stream.{tenant_id}"


async def append(session: Session, tenant_id: UUID, entries: Collection[Entry]) -> None:
    """Add entries to a tenant's stream in the transaction that makes them true."""
    await append_all(session, {tenant_id: entries})


async def append_all(session: Session, entries: Mapping[UUID, Collection[Entry]]) -> None:
    """Add entries to the streams of several tenants, in one statement."""
    grown = sorted((tenant_id, len(added)) for tenant_id, added in entries.items() if added)
    if not grown:
        return
    rows = [
        (new_id(), tenant_id, n, entry.type, _json(entry.data))
        for tenant_id, _ in grown
        for n, entry in enumerate(entries[tenant_id], start=1)
    ]
    tenants, counts = map(list, zip(*grown, strict=True))
    done = await (await driver(session)).fetchrow(
        _APPEND, tenants, counts, *map(list, zip(*rows, strict=True))
    )
    appended(session, tenants, done)


def appended(session: Session, tenants: Collection[UUID], done: Mapping[str, Any]) -> None:
    """See that a statement has appended to these tenants' streams, and tell who follows them."""
    if done["heads"] != len(tenants):
        raise LookupError("a tenant has no stream")
    hint(session, *map(topic, tenants))
    if done["called"]:
        hint(session, leases.topic(FOLLOWER))


def _json(data: Mapping[str, Any]) -> str:
    return msgspec.json.encode(data, enc_hook=str).decode()


async def read(
    session: AsyncSession, tenant_id: UUID, *, epoch: int, after: int, limit: int
) -> list[Placed]:
    """Entries behind a position, oldest first; raises Forgotten where the next ones are gone."""
    rows = await (await driver(session)).fetch(_READ, tenant_id, epoch, after, limit)
    found = [row for row in rows if row["seq"] is not None]
    if found and found[0]["seq"] > after + 1:
        raise Forgotten
    if not found and any(r["head_epoch"] == epoch and r["head_seq"] > after for r in rows):
        raise Forgotten
    return [
        Placed(epoch=epoch, seq=r["seq"], type=r["type"], data=json.loads(r["data"])) for r in found
    ]


async def follow(
    session: AsyncSession, tenant_id: UUID, position: tuple[int, int], *, limit: int
) -> list[Followed]:
    """Entries behind a position, oldest first, on into later epochs."""
    rows = await (await driver(session)).fetch(_FOLLOW, tenant_id, *position, limit)
    return [
        Followed(
            epoch=r["epoch"],
            seq=r["seq"],
            type=r["type"],
            data=json.loads(r["data"]),
            at=r["created_at"],
        )
        for r in rows
    ]


async def heads(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, tuple[int, int]]:
    """Where these tenants' streams end: `(epoch, seq)`."""
    rows = await (await driver(session)).fetch(_HEADS, list(tenant_ids))
    return {row["tenant_id"]: (row["epoch"], row["seq"]) for row in rows}
