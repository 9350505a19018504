"""A chat whose id the platform has changed: its conversation goes on under the new one.

We hear of it when a send is refused. The conversation takes the new id, and so does all that waits
in it. Where somebody has written under the new id before, there is a conversation of that id
already; the two stay apart, since nothing of either may be lost or renumbered: the new one goes on
by itself, and what waits in the old one is sent to the new place. Whatever is found done is done:
a worker that dies in between is followed by one that asks the agent again, and hears the same.
"""

from uuid import UUID

from control_plane.db.session import Session, driver

# Conversations before deliveries, as everywhere. One that is made under the new id at this very
# moment fails us; the next try finds it.
_LOCK = "SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE"
_MOVE = """
UPDATE conversations AS c SET key = $3 WHERE id = $1 AND key = $2 AND NOT EXISTS (
    SELECT FROM conversations AS o
    WHERE o.channel_id = c.channel_id AND o.key_type = c.key_type AND o.key = $3)
"""
_LOCK_WAITING = """
SELECT 1 FROM deliveries
WHERE conversation_id = $1 AND state IN ('queued', 'sending') ORDER BY number FOR UPDATE
"""
_REDIRECT = """
UPDATE deliveries SET key = $3
WHERE conversation_id = $1 AND key = $2 AND state IN ('queued', 'sending')
"""


async def follow(session: Session, conversation_id: UUID, *, before: str, after: str) -> None:
    """Let the conversation and all that waits in it go on under another id of its chat."""
    connection = await driver(session)
    await connection.execute(_LOCK, conversation_id)
    await connection.execute(_MOVE, conversation_id, before, after)
    await connection.execute(_LOCK_WAITING, conversation_id)
    await connection.execute(_REDIRECT, conversation_id, before, after)
