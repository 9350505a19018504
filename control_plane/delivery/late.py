"""What a platform took and could not show after all: it tells so later, by its own id.

The delivery was `sent`, and becomes `failed`; nothing is tried again by itself. Found by the
conversation, so that it needs no index of platforms' ids.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from control_plane.db.session import Session, driver
from control_plane.delivery import groups
from control_plane.delivery.models import DeliveryState
from control_plane.delivery.verdict import Verdict
from control_plane.stream.log import Entry
from instance_agent.protocol import MessageFailed

# Platforms tell within minutes; WeCom keeps what it has to tell for three days.
TOLD_WITHIN = timedelta(days=7)
# What is kept of an agent's words.
_MAX_CLASS, _MAX_DETAIL = 100, 500

_FOUND = """
SELECT d.*, a.id AS attempt_id, a.parts FROM conversations AS c
JOIN deliveries AS d ON d.conversation_id = c.id
JOIN attempts AS a ON a.delivery_id = d.id
WHERE c.channel_id = $1 AND c.instance_id = $2 AND c.key_type = $3 AND c.key = $4
  AND d.state = 'sent' AND d.created_at > $5 AND a.outcome = 'sent' AND a.parts @> $6
ORDER BY d.number DESC, a.number DESC LIMIT 1 FOR UPDATE OF d
"""
_ATTEMPT = "UPDATE attempts SET outcome = 'failed', parts = $2 WHERE id = $1"
_DELIVERY = "UPDATE deliveries SET state = 'failed', error_class = $2 WHERE id = $1"

log = structlog.get_logger()


async def failed(
    session: Session, instance_id: UUID, failure: MessageFailed, *, now: datetime
) -> Sequence[Entry]:
    """Mark the delivery that is meant; what the stream is to tell, nothing where there is none."""
    connection = await driver(session)
    named = [{"platform_message_id": failure.platform_message_id}]
    row = await connection.fetchrow(
        _FOUND,
        failure.channel_id,
        instance_id,
        failure.conversation.type,
        failure.conversation.id,
        now - TOLD_WITHIN,
        json.dumps(named),
    )
    if row is None:
        log.warning("nothing is known of what was not delivered", channel=str(failure.channel_id))
        return []
    said = {
        "outcome": "failed",
        "error_class": failure.error_class[:_MAX_CLASS],
        "detail": failure.detail[:_MAX_DETAIL],
    }
    parts = [
        part | said if part.get("platform_message_id") == failure.platform_message_id else part
        for part in json.loads(row["parts"])
    ]
    await connection.execute(_ATTEMPT, row["attempt_id"], json.dumps(parts))
    await connection.execute(_DELIVERY, row["id"], said["error_class"])
    verdict = Verdict(state=DeliveryState.FAILED, error_class=said["error_class"])
    return [groups.told(row, verdict)]
