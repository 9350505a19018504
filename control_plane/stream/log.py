"""Each tenant's append-only stream of what happened, in the order of `(epoch, seq)`.

`append` takes the tenant's counter lock and holds it to the end of the transaction, so positions
are gapless and visible in order. Take it last (see `control_plane.db.leases` for the lock order).
"""

import json
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver, hint
from control_plane.kit.ids import new_id

_ADVANCE = """
UPDATE stream_heads SET seq = seq + $2 WHERE tenant_id = $1 RETURNING epoch, seq - $2 AS before
"""
_INSERT = """
INSERT INTO stream (id, tenant_id, epoch, seq, type, data, created_at)
SELECT item.id, $1, $2, $3 + item.n, item.type, item.data, now()
FROM unnest($4::uuid[], $5::text[], $6::jsonb[]) WITH ORDINALITY AS item (id, type, data, n)
"""
_READ = """
SELECT epoch, seq, type, data FROM stream
WHERE tenant_id = $1 AND epoch = $2 AND seq > $3 ORDER BY seq LIMIT $4
"""
_HEADS = "SELECT tenant_id, epoch, seq FROM stream_heads WHERE tenant_id = ANY ($1)"


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


def topic(tenant_id: UUID) -> str:
    """What to listen to for a tenant's new entries."""
    return f"stream.{tenant_id}"


async def append(session: AsyncSession, tenant_id: UUID, entries: Collection[Entry]) -> None:
    """Add entries to a tenant's stream in the transaction that makes them true."""
    if not entries:
        return
    connection = await driver(session)
    head = await connection.fetchrow(_ADVANCE, tenant_id, len(entries))
    await connection.execute(
        _INSERT,
        tenant_id,
        head["epoch"],
        head["before"],
        [new_id() for _ in entries],
        [entry.type for entry in entries],
        [json.dumps(entry.data, default=str) for entry in entries],
    )
    hint(session, topic(tenant_id))


async def read(
    session: AsyncSession, tenant_id: UUID, *, epoch: int, after: int, limit: int
) -> list[Placed]:
    """Entries behind a position, oldest first."""
    rows = await (await driver(session)).fetch(_READ, tenant_id, epoch, after, limit)
    return [
        Placed(epoch=r["epoch"], seq=r["seq"], type=r["type"], data=json.loads(r["data"]))
        for r in rows
    ]


async def heads(session: AsyncSession, tenant_ids: Collection[UUID]) -> dict[UUID, tuple[int, int]]:
    """Where these tenants' streams end: `(epoch, seq)`."""
    rows = await (await driver(session)).fetch(_HEADS, list(tenant_ids))
    return {row["tenant_id"]: (row["epoch"], row["seq"]) for row in rows}
