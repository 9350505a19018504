"""What platforms sent of messages that we cannot carry whole: kept for support, for a while."""

from collections.abc import Sequence
from uuid import UUID

from control_plane.db.session import Session, driver
from control_plane.ingest.arrivals import Arrival

# Messages of one tenant of which it is kept; the oldest go first.
MAX_KEPT = 1_000
# Characters of one; an agent of ours cuts it far below, and another one's is not kept.
MAX_BODY = 16_000

_KEEP = """
INSERT INTO raw_messages (message_id, tenant_id, body, received_at)
SELECT g.message_id, g.tenant_id, g.body, g.received_at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])
        AS g (message_id, tenant_id, channel_id, body, received_at)
    JOIN channels AS c ON c.id = g.channel_id AND c.tenant_id = g.tenant_id AND c.keep_raw
ORDER BY g.message_id ON CONFLICT DO NOTHING
"""
# What somebody else removes just now need not be waited for.
_BOUND = """
DELETE FROM raw_messages WHERE message_id IN (
    SELECT message_id FROM raw_messages WHERE tenant_id = $1
    ORDER BY message_id DESC OFFSET $2 FOR UPDATE SKIP LOCKED)
"""


async def keep(session: Session, arrivals: Sequence[Arrival]) -> None:
    """Keep what came with the messages that were stored now, where their channel wants it."""
    new = [
        arrival
        for arrival in arrivals
        if arrival.is_new and 0 < len(arrival.message.raw) <= MAX_BODY
    ]
    if not new:
        return
    connection = await driver(session)
    await connection.execute(
        _KEEP,
        [UUID(arrival.message_id) for arrival in new],
        [arrival.tenant_id for arrival in new],
        [arrival.message.channel_id for arrival in new],
        [arrival.message.raw for arrival in new],
        [arrival.received_at for arrival in new],
    )
    for tenant_id in sorted({arrival.tenant_id for arrival in new}):
        await connection.execute(_BOUND, tenant_id, MAX_KEPT)
