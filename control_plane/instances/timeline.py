"""What happened to a bot and to its conversations: one list, newest first.

Ids are UUIDv7, so by id is by time, wherever a line comes from: the bot's own lines, changes of
who answers in a conversation, and the conversations themselves, whose beginning is their row.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver


class About(StrEnum):
    """Which lines."""

    ALL = "all"
    INSTANCE = "instance"
    CONVERSATIONS = "conversations"


_LINES = """
(SELECT id, at, type, message, data, conversation_id FROM timeline
 WHERE instance_id = $1 AND conversation_id IS {what} AND ($2::uuid IS NULL OR id < $2)
 ORDER BY id DESC LIMIT $3)
"""
_BEGINNINGS = """
(SELECT id, created_at, 'conversation.begin', '', '{}'::jsonb, id FROM conversations
 WHERE instance_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3)
"""
_OWN = [_LINES.format(what="NULL")]
_SAID = [_LINES.format(what="NOT NULL"), _BEGINNINGS]
_PARTS = {About.ALL: _OWN + _SAID, About.INSTANCE: _OWN, About.CONVERSATIONS: _SAID}
_PAGE = """
SELECT t.id, t.at, t.type, t.message, t.data, t.conversation_id, h.kind AS channel_kind,
    coalesce(k.remark, p.name) AS contact_name, m.name AS member_name
FROM (SELECT * FROM ({parts}) AS both_sorts ORDER BY id DESC LIMIT $3) AS t
LEFT JOIN conversations AS c ON c.id = t.conversation_id
LEFT JOIN contacts AS p ON p.id = c.contact_id
LEFT JOIN contact_cards AS k ON k.contact_id = p.id
LEFT JOIN channels AS h ON h.id = c.channel_id
LEFT JOIN members AS m ON t.conversation_id IS NOT NULL
    AND m.id = (t.data->>'member_id')::uuid
ORDER BY t.id DESC
"""
_QUERIES = {about: _PAGE.format(parts=" UNION ALL ".join(parts)) for about, parts in _PARTS.items()}


async def page(
    session: AsyncSession, instance_id: UUID, about: About, *, before: UUID | None, limit: int
) -> Sequence[Any]:
    """Lines of an instance that this session may see; one more than `limit` if there are."""
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _QUERIES[about], instance_id, before, limit + 1
    )
    return rows
