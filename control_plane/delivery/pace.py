"""What a platform lets one chat get: whether its reply window is open, and how many in a while.

Looked at before a call, since some platforms drop what is too much without saying so. The parts of
one message count one by one; a message is begun when there is room for its first.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from adapters.kind import Kind, Pace
from control_plane.db.session import Session, driver

# The class of a delivery that waits for its turn within the platform's limits.
PACED = "paced"

# By our clock at the latest: a platform's that is ahead must not hide what we have sent since.
_HEARD = """
SELECT c.key_type, least(m.occurred_at, m.created_at) AS heard_at FROM conversations AS c
LEFT JOIN messages AS m ON m.conversation_id = c.id AND m.number = c.heard_number WHERE c.id = $1
"""
# What was not tried has cost nothing; an attempt that is still open counts as one. How long ago
# it began is told by the database's clock: what workers' clocks say of each other's attempts only
# bounds what is read.
_TRIED = """
SELECT i.conversation_id, now() - a.at AS ago, a.parts
FROM unnest($1::uuid[]) AS i (conversation_id)
CROSS JOIN LATERAL (
    SELECT coalesce(began_at, started_at) AS at, greatest(1, (
        SELECT count(*) FROM jsonb_array_elements(parts) AS part
        WHERE part ->> 'error_class' IS DISTINCT FROM 'not_tried')) AS parts
    FROM attempts WHERE paced_conversation_id = i.conversation_id AND started_at > $2
      AND coalesce(began_at, started_at) > now() - $3::interval
    ORDER BY at DESC LIMIT $4
) AS a
"""
# By how much workers' clocks may differ.
_ASTRAY = timedelta(hours=1)


# Parts that reached the contact, or may have: what was refused costs nothing, and what an earlier
# attempt had sent is only repeated by the journal's word. One that is open has its own delivery's.
_ANSWERED = """
SELECT coalesce(sum(greatest(0, taken.parts - coalesce(before.parts, 0))), 0)::integer
FROM attempts AS a
CROSS JOIN LATERAL (
    SELECT count(*) AS parts FROM jsonb_array_elements(a.parts) AS part
    WHERE part ->> 'outcome' <> 'failed'
) AS taken
LEFT JOIN LATERAL (
    SELECT count(*) AS parts FROM attempts AS b, jsonb_array_elements(b.parts) AS part
    WHERE b.delivery_id = a.delivery_id AND b.number = a.number - 1
      AND b.journal_id = a.journal_id AND part ->> 'outcome' = 'sent'
) AS before ON true
WHERE a.paced_conversation_id = $1 AND a.started_at >= $2 AND a.ended_at IS NOT NULL
"""


class Window(NamedTuple):
    """How a conversation stands with its platform: why it is closed, or parts that it takes."""

    closed: str | None = None
    room: int | None = None


def counted(kind: Kind) -> bool:
    """Whether what is tried in a conversation must be found again."""
    most = (window.most for window in kind.windows.values())
    return bool(kind.paces) or any(each is not None for each in most)


async def window(session: Session, kind: Kind, conversation_id: UUID, *, now: datetime) -> Window:
    """Whether the platform still takes answers to what the contact said last, and how many."""
    if not kind.windows:
        return Window()
    connection = await driver(session)
    row = await connection.fetchrow(_HEARD, conversation_id)
    given = kind.windows.get(row["key_type"])
    if given is None:
        return Window()
    heard_at = row["heard_at"]
    if heard_at is None or now - heard_at > timedelta(seconds=given.within_s):
        return Window(closed="window_expired")
    if given.most is None:
        return Window()
    room = given.most - await connection.fetchval(_ANSWERED, conversation_id, heard_at)
    return Window(room=room) if room > 0 else Window(closed="window_count_exceeded")


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
    rows = await (await driver(session)).fetch(
        _TRIED, conversation_ids, now - longest - _ASTRAY, longest, most
    )
    for row in rows:
        tried[row["conversation_id"]].append((now - row["ago"], row["parts"]))
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
