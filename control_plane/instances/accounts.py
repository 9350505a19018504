"""Accounts that take one connection: leased to a channel of an active session, one at a time.

Whoever holds one has it until the lease ends or is given back, whatever becomes of its session:
an agent that was cut off may still be connected. It lets go by itself before the lease ends. One
whose process has surely ended holds nothing: its successor gets the account at once.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from control_plane.db.session import Session, driver
from control_plane.kit.ids import new_id
from instance_agent.protocol import LeaseState

# Longer than a control plane takes to be replaced, and confirmed with each heartbeat; so long an
# account waits when its agent was lost and nobody knows that it has ended.
LIFE = timedelta(seconds=60)

# A session that is being replaced meanwhile waits: it is active here or it is not.
_ACTIVE = """
SELECT epoch FROM agent_sessions WHERE id = $1 AND instance_id = $2 AND state = 'active' FOR SHARE
"""
_OWN_CHANNELS = """
SELECT id FROM channels WHERE instance_id = $1 AND id = ANY($2::uuid[]) AND deleted_at IS NULL
"""
_CLAIM = """
INSERT INTO credentials AS held (id, kind, sha256, tenant_id, instance_id, channel_id, session_id,
    epoch, created_at, expires_at, number)
SELECT item.id, 'account', item.sha256, $4, $5, item.channel_id, $6, $7, $8, $9, $10
FROM unnest($1::uuid[], $2::bytea[], $3::uuid[]) AS item (id, sha256, channel_id)
ORDER BY item.sha256
ON CONFLICT (sha256) DO UPDATE SET tenant_id = EXCLUDED.tenant_id,
    instance_id = EXCLUDED.instance_id, channel_id = EXCLUDED.channel_id,
    session_id = EXCLUDED.session_id, epoch = EXCLUDED.epoch, expires_at = EXCLUDED.expires_at,
    number = EXCLUDED.number
WHERE held.kind = 'account'
  AND (held.session_id = EXCLUDED.session_id AND held.number < EXCLUDED.number
       OR held.expires_at <= EXCLUDED.created_at
       OR held.instance_id = EXCLUDED.instance_id AND EXISTS (
           SELECT FROM agent_sessions AS s
           WHERE s.id = held.session_id AND s.instance_id = held.instance_id
             AND s.gone_at IS NOT NULL))
RETURNING sha256
"""
# What this session does not name any more, and what ended of the sessions before it.
_RELEASE = """
DELETE FROM credentials WHERE kind = 'account' AND instance_id = $2 AND (expires_at <= $5
    OR (session_id = $1 AND number < $4 AND sha256 <> ALL($3::bytea[])))
"""


async def claim(
    session: Session,
    *,
    tenant_id: UUID,
    instance_id: UUID,
    session_id: UUID,
    accounts: Mapping[bytes, UUID],
    number: int,
    now: datetime,
) -> dict[bytes, LeaseState]:
    """Claim or hold on to these, give back all others; what became of each, by SHA-256.

    `number` rises from one call of a session to the next.
    """
    connection = await driver(session)
    await connection.execute(_RELEASE, session_id, instance_id, list(accounts), number, now)
    if not accounts:
        return {}
    epoch = await connection.fetchval(_ACTIVE, session_id, instance_id)
    if epoch is None:
        return dict.fromkeys(accounts, "not_active")
    rows = await connection.fetch(_OWN_CHANNELS, instance_id, list(set(accounts.values())))
    own = {row["id"] for row in rows}
    claimed = [(new_id(), sha256, each) for sha256, each in accounts.items() if each in own]
    held = await connection.fetch(
        _CLAIM,
        [item[0] for item in claimed],
        [item[1] for item in claimed],
        [item[2] for item in claimed],
        tenant_id,
        instance_id,
        session_id,
        epoch,
        now,
        now + LIFE,
        number,
    )
    states: dict[bytes, LeaseState] = dict.fromkeys(accounts, "elsewhere")
    return states | dict.fromkeys((row["sha256"] for row in held), "held")
