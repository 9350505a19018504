"""Fills `message_grams` behind ingest: follows every tenant's stream from a position of its own.

One row of work for the whole installation. A round takes some tenants at once and a batch of each,
so that a flood of one holds up nobody. Messages are read under the lock of their tenant's position;
whoever erases takes it, too, so no word comes into the index after it was erased.
"""

from datetime import timedelta
from uuid import UUID

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver

WORK = "search"
# Between rounds: until then the end of the stream is searched itself.
EVERY = timedelta(seconds=2)
# Tenants of one transaction, and entries of each.
TENANTS = 20
BATCH = 500

_BEHIND = "SELECT id FROM tenants_to_index($1, $2)"
_KNOW = """
INSERT INTO search_positions (tenant_id) SELECT * FROM unnest($1::uuid[]) AS t (id)
ORDER BY t.id ON CONFLICT DO NOTHING
"""
_LOCK = """
SELECT FROM search_positions WHERE tenant_id = ANY ($1::uuid[]) ORDER BY tenant_id FOR UPDATE
"""
# Entries that were forgotten are passed over with the rest: the position goes to the head where
# nothing more is left before it. The walls let no index be searched by what a function says of a
# row's data, so ids are read out of it first.
_INDEX = """
WITH places AS MATERIALIZED (
    SELECT p.tenant_id, p.epoch, p.seq, h.epoch AS head_epoch, h.seq AS head_seq
    FROM search_positions AS p JOIN stream_heads AS h USING (tenant_id)
    WHERE p.tenant_id = ANY ($1::uuid[])
), news AS MATERIALIZED (
    SELECT p.tenant_id, s.*, row_number() OVER (PARTITION BY p.tenant_id
        ORDER BY s.epoch, s.seq) AS n
    FROM places AS p, LATERAL (
        SELECT epoch, seq,
            CASE WHEN type = 'message.created' THEN (data ->> 'message_id')::uuid END AS message_id
        FROM stream
        WHERE tenant_id = p.tenant_id AND (epoch, seq) > (p.epoch, p.seq)
        ORDER BY epoch, seq LIMIT $2) AS s
), kept AS (
    INSERT INTO message_grams (id, tenant_id, conversation_id, channel_id, sender_id, grams)
    SELECT m.id, m.tenant_id, m.conversation_id, c.channel_id, m.sender_id,
           search_grams(m.tenant_id, search_words(m.segments))
    FROM news AS s
        JOIN messages AS m ON m.id = s.message_id
        JOIN conversations AS c ON c.id = m.conversation_id
    ON CONFLICT DO NOTHING
)
UPDATE search_positions AS p
SET epoch = coalesce(s.epoch, l.head_epoch), seq = coalesce(s.seq, l.head_seq)
FROM places AS l LEFT JOIN news AS s ON s.tenant_id = l.tenant_id AND s.n = $2
WHERE p.tenant_id = l.tenant_id
RETURNING s.n IS NOT NULL AS more
"""
_FIRST = UUID(int=0)


class SearchIndex:
    """Indexes what tenants said, some tenants at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, lease: Lease) -> timedelta:
        """Work handler: one batch of every tenant that has something new."""
        after, more = _FIRST, False
        while True:
            async with self._database.plain() as session:
                rows = await (await driver(session)).fetch(_BEHIND, after, TENANTS)
            behind = [row["id"] for row in rows]
            if behind:
                more |= await self._index(lease, behind)
            if len(behind) < TENANTS:
                return timedelta(0) if more else EVERY
            after = behind[-1]

    async def _index(self, lease: Lease, tenants: list[UUID]) -> bool:
        """Whether one of them has more."""
        async with self._database.plain(Scope(tenants=tuple(tenants))) as session:
            connection = await driver(session)
            await connection.execute(_KNOW, tenants)
            await connection.fetch(_LOCK, tenants)
            moved = await connection.fetch(_INDEX, tenants, BATCH)
            await leases.hold(session, lease)
        return any(row["more"] for row in moved)
