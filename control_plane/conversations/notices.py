"""What members should know about a conversation's bot and channel, in one plain sentence."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver

DELETED = "The channel was deleted: nothing can be sent here any more."
STOPPED = "The bot is stopped. What was written is kept and goes on once it runs again."
FAILING = "The bot cannot start; its page says why. What was written is kept until it runs."
RESTARTING = "The bot is restarting. What was written is kept and goes on by itself."
NOT_CONNECTED = "The channel is not connected. What you write is kept and sent once it is."

_STANDS = """
SELECT c.deleted_at IS NOT NULL AS deleted, i.phase, c.state = 'connected' AS connected,
    EXISTS (SELECT FROM agent_sessions AS s
            WHERE s.instance_id = i.id AND s.state = 'active') AS active
FROM conversations AS v JOIN instances AS i ON i.id = v.instance_id
JOIN channels AS c ON c.id = v.channel_id WHERE v.id = $1
"""


async def notice(session: AsyncSession, conversation_id: UUID) -> str | None:
    """The sentence; None while everything works."""
    row = await (await driver(session)).fetchrow(_STANDS, conversation_id)
    return sentence(**dict(row)) if row else None


def sentence(*, deleted: bool, phase: str, active: bool, connected: bool) -> str | None:
    """Of all that is wrong, what has to be right first."""
    if deleted:
        return DELETED
    if phase in ("stopping", "stopped"):
        return STOPPED
    if phase == "hibernated":
        # The next message wakes it.
        return None
    if phase == "crash_loop":
        return FAILING
    if not active or phase in ("pending", "starting"):
        return RESTARTING
    return None if connected else NOT_CONNECTED
