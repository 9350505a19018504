"""Conversations whose customer has gone silent: a warning, then the end.

Silence is counted from what a person answered last: whoever waits for us is never closed. The
warning is a message like any other; if anything is said behind it, silence begins anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.model import Segment, Text
from control_plane.access import audit
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Conversation, Owner
from control_plane.conversations.ownership import Ownership
from control_plane.db.session import Session, driver
from control_plane.routing.settings import Kept
from control_plane.routing.waiting import SYSTEM
from control_plane.stream.log import Entry

REASON = "silent"

# Of those that a member has: few beside all.
_SILENT = """
SELECT c.id, c.owner_version, c.last_number, coalesce(w.number = c.last_number, false) AS warned
FROM conversations AS c LEFT JOIN routing_warnings AS w ON w.conversation_id = c.id
WHERE c.tenant_id = $1 AND c.owner = 'human' AND c.last_number > c.heard_number
  AND CASE WHEN w.number = c.last_number THEN w.warned_at <= $3 ELSE c.last_message_at <= $2
      AND EXISTS (SELECT FROM messages AS m WHERE m.conversation_id = c.id
          AND m.number = c.last_number AND m.sender_kind = 'human') END
ORDER BY c.id LIMIT $4
"""
_WARNED = """
INSERT INTO routing_warnings (conversation_id, tenant_id, number, warned_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (conversation_id) DO UPDATE SET number = excluded.number, warned_at = excluded.warned_at
"""


@dataclass(frozen=True, kw_only=True)
class Silent:
    """A conversation as it was when it was found silent."""

    id: UUID
    owner_version: int
    last_number: int
    warned: bool


async def silent(
    session: Session, tenant_id: UUID, kept: Kept, *, now: datetime, limit: int
) -> Sequence[Silent]:
    """Those that are to be warned or closed now."""
    closing = kept.routing.closing
    if not closing.after_min:
        return []
    early = closing.warn_before_min if closing.warning else 0
    first = now - timedelta(minutes=closing.after_min - early)
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _SILENT, tenant_id, first, now - timedelta(minutes=closing.warn_before_min), limit
    )
    return [Silent(**row) for row in rows]


async def go_on(session: AsyncSession, one: Silent, kept: Kept, *, now: datetime) -> list[Entry]:
    """Warn, or close what was warned, unless anything happened meanwhile."""
    conversation = await conversations.lock(session, one.id)
    same = conversation.owner_version == one.owner_version
    if not same or conversation.last_number != one.last_number:
        return []
    if kept.routing.closing.warning and not one.warned:
        return [await _warn(session, conversation, kept.routing.closing.warning, now)]
    return [await _close(session, conversation, now)]


async def _warn(
    session: AsyncSession, conversation: Conversation, text: str, now: datetime
) -> Entry:
    segments: list[Segment] = [Text(text=text)]
    _id, entry = await conversations.say(
        session, conversation, author=SYSTEM, segments=segments, now=now
    )
    await (await driver(session)).execute(
        _WARNED, conversation.id, conversation.tenant_id, conversation.last_number, now
    )
    return entry


async def _close(session: AsyncSession, conversation: Conversation, now: datetime) -> Entry:
    before = conversation.owner_version
    after = Ownership(owner=Owner.CLOSED, member_id=None, version=before + 1)
    entry = await conversations.own(session, conversation, after, reason=REASON)
    audit.record(
        session,
        actor=None,
        tenant_id=conversation.tenant_id,
        action="conversation.close",
        target=("conversation", conversation.id),
        now=now,
        before={"owner": Owner.HUMAN, "version": before},
        after={"owner": after.owner, "version": after.version, "reason": REASON},
    )
    return entry
