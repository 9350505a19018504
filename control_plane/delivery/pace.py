"""What a platform lets one chat get: whether its reply window is open, and how many in a while.

Looked at before a call, since some platforms drop what is too much without saying so. The parts of
one message count one by one; a message is begun when there is room for its first.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from adapters.kind import Kind, Pace
from control_plane.db.session import Session, driver

# The class of a delivery that waits for its turn within the platform's limits.
PACED = "paced"

_HEARD = """
SELECT c.key_type, m.occurred_at FROM conversations AS c
LEFT JOIN messages AS m ON m.conversation_id = c.id AND m.number = c.heard_number WHERE c.id = $1
"""
# What was not tried has cost nothing; an attempt that is still open counts as one.
_TRIED = """
SELECT i.conversation_id, a.started_at, a.parts FROM unnest($1::uuid[]) AS i (conversation_id)
CROSS JOIN LATERAL (
    SELECT started_at, greatest(1, (
        SELECT count(*) FROM jsonb_array_elements(parts) AS part
        WHERE part ->> 'error_class' IS DISTINCT FROM 'not_tried')) AS parts
    FROM attempts WHERE paced_conversation_id = i.conversation_id AND started_at > $2
    ORDER BY started_at DESC LIMIT $3
) AS a
"""


async def closed(session: Session, kind: Kind, conversation_id: UUID, *, now: datetime) -> bool:
    """Whether the contact has been silent for longer than the platform lets us answer."""
    if not kind.windows:
        return False
    row = await (await driver(session)).fetchrow(_HEARD, conversation_id)
    window = kind.windows.get(row["key_type"])
    if window is None:
        return False
    heard_at = row["occurred_at"]
    return heard_at is None or now - heard_at > timedelta(seconds=window.within_s)


async def pause(
    session: Session, kind: Kind, conversation_id: UUID, *, now: datetime
) -> timedelta | None:
    """How long until the chat may get one more; None when that is now."""
    return (await pauses(session, kind, [conversation_id], now=now)).get(conversation_id)


async def pauses(
    session: Session, kind: Kind, conversation_ids: Sequence[UUID], *, now: datetime
) -> dict[UUID, timedelta]:
    """How long until these chats may get one more; those that may get it now are left out."""
    if not kind.paces:
        return {}
    longest = timedelta(seconds=max(pace.within_s for pace in kind.paces))
    most = max(pace.most for pace in kind.paces)
    tried: dict[UUID, list[tuple[datetime, int]]] = defaultdict(list)
    for row in await (await driver(session)).fetch(_TRIED, conversation_ids, now - longest, most):
        tried[row["conversation_id"]].append((row["started_at"], row["parts"]))
    waits = {chat: until_room(rows, kind.paces, now=now) for chat, rows in tried.items()}
    return {chat: wait for chat, wait in waits.items() if wait}


def until_room(
    tried: Sequence[tuple[datetime, int]], paces: Iterable[Pace], *, now: datetime
) -> timedelta:
    """How long until there is room, given what was tried, newest first; zero for at once."""
    return max((_until(tried, pace, now) for pace in paces), default=timedelta(0))


def _until(tried: Sequence[tuple[datetime, int]], pace: Pace, now: datetime) -> timedelta:
    within, count = timedelta(seconds=pace.within_s), 0
    for at, parts in tried:
        count += parts
        if count >= pace.most:
            # There is room again when this one has left the window.
            return max(timedelta(0), at + within - now)
    return timedelta(0)
