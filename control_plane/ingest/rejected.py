"""Events that were signed well and are refused for good: kept as they came, for people to see.

The agent keeps them too, on its disk; here they outlive it, can be looked at, and replayed.
"""

from collections.abc import Sequence

import msgspec

from control_plane.db.session import Session, driver
from control_plane.ingest.batch import AnyEvent
from control_plane.ingest.commit import Pending
from control_plane.kit.ids import new_id
from instance_agent.protocol import EventResult

# Rejected events of one tenant; the oldest go first.
MAX_KEPT = 1_000
# Bytes of one; a larger one is on the agent's disk only.
MAX_BYTES = 64 * 1024

_KEEP = """
INSERT INTO rejected_events AS r
    (id, tenant_id, instance_id, event_id, type, reason, body, received_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[],
                     $7::bytea[], $8::timestamptz[])
ON CONFLICT (instance_id, event_id) DO UPDATE SET reason = excluded.reason
"""
_BOUND = """
DELETE FROM rejected_events WHERE id IN (
    SELECT id FROM rejected_events WHERE tenant_id = $1 ORDER BY id DESC OFFSET $2)
"""


async def keep(
    session: Session,
    group: Sequence[Pending],
    results: Sequence[Sequence[EventResult | None]],
) -> None:
    """Keep the rejected events of a group."""
    found = {
        (pending.proven.instance_id, event.id): (pending, event, result.code or "unknown", body)
        for pending, settled in zip(group, results, strict=True)
        for event, result in zip(pending.batch.events, settled, strict=True)
        if result is not None and result.status == "rejected"
        if len(body := _encoded(event)) <= MAX_BYTES
    }
    if not found:
        return
    rows = [
        (
            new_id(),
            pending.proven.tenant_id,
            pending.proven.instance_id,
            event.id,
            event.type,
            reason,
            body,
            pending.received_at,
        )
        for _, (pending, event, reason, body) in sorted(found.items())
    ]
    connection = await driver(session)
    await connection.execute(_KEEP, *map(list, zip(*rows, strict=True)))
    for tenant_id in sorted({row[1] for row in rows}):
        await connection.execute(_BOUND, tenant_id, MAX_KEPT)


def _encoded(event: AnyEvent) -> bytes:
    return msgspec.json.encode(event)
