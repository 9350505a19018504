"""How it was: asked once a member's conversation has ended, answered with 1 to 5, or with stars.

Only the very next thing that the customer says may be the answer. It begins no turn and the
conversation is closed again; anything else ends the question and is an ordinary message.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.model import Segment, Text
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Owner
from control_plane.conversations.ownership import Ownership
from control_plane.conversations.segments import decode, plain_text, preview
from control_plane.db.session import Session, driver, hint
from control_plane.kit.ids import new_id
from control_plane.routing import settings
from control_plane.routing.settings import Kept
from control_plane.routing.waiting import SYSTEM
from control_plane.stream.log import Entry

WORST, BEST = 1, 5
# What a page with buttons sends: so many full stars, the others empty, and words below them.
_STARS = re.compile(f"(★{{{WORST},{BEST}}})(☆*)")

# The question that is open in a conversation; for statements that ask among other things.
OPEN = """
SELECT q.id FROM routing_ratings AS q WHERE q.conversation_id = {conversation}
AND q.score IS NULL AND q.expires_at > {now} ORDER BY q.id DESC LIMIT 1
"""
_QUESTION = """
SELECT id, expires_at FROM routing_ratings
WHERE conversation_id = $1 AND score IS NULL AND expires_at > $2 ORDER BY id DESC LIMIT 1
"""
_ENDED = """
SELECT conversation_id, owner_version, member_id FROM routing_endings
WHERE tenant_id = $1 ORDER BY conversation_id LIMIT $2
"""
_TAKEN_UP = "DELETE FROM routing_endings WHERE conversation_id = $1 AND owner_version = $2"
_ASK = """
INSERT INTO routing_ratings (id, tenant_id, conversation_id, member_id, number, asked_at,
    expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_NEXT = """
SELECT DISTINCT ON (g.id) g.id, m.number, m.segments
FROM unnest($1::uuid[], $2::bigint[]) AS g (id, turned)
JOIN messages AS m ON m.conversation_id = g.id AND m.number > g.turned
    AND m.sender_kind = 'contact'
ORDER BY g.id, m.number
"""
_SCORE = """
UPDATE routing_ratings SET score = $2, scored_at = $3 WHERE id = $1 RETURNING member_id
"""
_OVER = "UPDATE routing_ratings SET expires_at = $2 WHERE id = $1"
_CLOSE = """
UPDATE conversations SET owner = 'closed', owner_version = owner_version + 1,
    turned_number = $2, last_number = last_number + CASE WHEN $3::text IS NULL THEN 0 ELSE 1 END,
    preview = coalesce($3, preview),
    last_message_at = CASE WHEN $3 IS NULL THEN last_message_at ELSE $4 END
WHERE id = $1
"""
_TURNED = "UPDATE conversations SET turned_number = $2 WHERE id = $1"
_LIST = """
SELECT id, conversation_id, member_id, asked_at, score, scored_at FROM routing_ratings
WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""
_AVERAGES = """
SELECT member_id, grouping(member_id) = 1 AS of_all, count(*) AS asked, count(score) AS answered,
    avg(score)::float8 AS average
FROM routing_ratings WHERE tenant_id = $1 AND asked_at >= $2 AND asked_at < $3
GROUP BY GROUPING SETS ((member_id), ()) ORDER BY of_all DESC, asked DESC, member_id LIMIT $4
"""
_LAST = UUID(int=2**128 - 1)
# Members of one table of averages.
MOST_MEMBERS = 1000


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A conversation that a member has just ended."""

    conversation_id: UUID
    owner_version: int
    member_id: UUID


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question that nobody has answered yet."""

    id: UUID
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Answers that were taken: when to look at those conversations again, and what to tell."""

    left: dict[UUID, timedelta | None] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


NOTHING = Taken()


def score(text: str) -> int | None:
    """The number that somebody wrote, and nothing else but perhaps a unit or a full stop.

    Stars in a line of their own are unmistakable, so words may follow below them.
    """
    stars = _STARS.fullmatch(text.strip().partition("\n")[0].strip())
    if stars and len(stars[0]) <= BEST:
        return len(stars[1])
    plain = unicodedata.normalize("NFKC", text).strip().rstrip(".!。分星 ")
    if len(plain) != 1 or not plain.isdecimal():
        return None
    number = int(plain)
    return number if WORST <= number <= BEST else None


async def ended(session: Session, tenant_id: UUID, *, limit: int) -> list[Ended]:
    """Those that nobody has taken up."""
    rows = await (await driver(session)).fetch(_ENDED, tenant_id, limit)
    return [Ended(**row) for row in rows]


async def question(session: Session, conversation_id: UUID, *, now: datetime) -> Question | None:
    """The question that is open in a conversation."""
    row = await (await driver(session)).fetchrow(_QUESTION, conversation_id, now)
    return None if row is None else Question(id=row["id"], expires_at=row["expires_at"])


async def ask(session: AsyncSession, one: Ended, kept: Kept, *, now: datetime) -> Entry | None:
    """Ask how it was, where the tenant asks and nothing has happened since."""
    conversation = await conversations.lock(session, one.conversation_id)
    connection = await driver(session)
    await connection.execute(_TAKEN_UP, one.conversation_id, one.owner_version)
    rating = kept.routing.rating
    if not rating.question or conversation.owner_version != one.owner_version:
        return None
    segments: list[Segment] = [Text(text=rating.question)]
    _id, entry = await conversations.say(
        session, conversation, author=SYSTEM, segments=segments, now=now
    )
    await connection.execute(
        _ASK,
        new_id(),
        conversation.tenant_id,
        conversation.id,
        one.member_id,
        conversation.last_number,
        now,
        now + timedelta(hours=rating.within_h),
    )
    return entry


async def take(session: Session, asked: Sequence[Any], *, now: datetime) -> Taken:
    """Take what comes next in these locked conversations as the answer, where it is one.

    All are of one tenant, have a question open, and something that no turn has dealt with.
    """
    kept = await settings.read(session, asked[0].tenant_id)
    found = await (await driver(session)).fetch(
        _NEXT, [row.id for row in asked], [row.turned_number for row in asked]
    )
    said = {row["id"]: row for row in found}
    taken = Taken()
    for row in asked:
        if (first := said.get(row.id)) is None:
            continue
        given = score(plain_text(decode(first["segments"])))
        if given is None:
            await (await driver(session)).execute(_OVER, row.rating_id, now)
            continue
        thanks = kept.routing.rating.thanks
        taken.entries.extend(await _score(session, row, given, first["number"], thanks, now))
        more = first["number"] < row.heard_number
        taken.left[row.id] = timedelta(0) if more else None
    return taken


async def _score(
    session: Session, row: Any, given: int, number: int, thanks: str, now: datetime
) -> list[Entry]:
    connection = await driver(session)
    member_id = await connection.fetchval(_SCORE, row.rating_id, given, now)
    data = {
        "conversation_id": str(row.id),
        "rating_id": str(row.rating_id),
        "member_id": str(member_id) if member_id else None,
        "score": given,
    }
    entries = [Entry(type="conversation.rated", data=data)]
    if number < row.heard_number:
        # They went on talking: the bot deals with that, and nobody thanks in between.
        await connection.execute(_TURNED, row.id, number)
        return entries
    segments: list[Segment] = [Text(text=thanks)]
    line = preview(segments) if thanks else None
    await connection.execute(_CLOSE, row.id, number, line, now)
    if thanks:
        said = conversations.outgoing(
            row,
            reply_handle=row.reply_handle,
            number=row.last_number + 1,
            author=SYSTEM,
            segments=segments,
        )
        entries.extend(await conversations.write(session, [(said, SYSTEM)], now=now))
    hint(session, conversations.topic(row.channel_id, row.key))
    after = Ownership(owner=Owner.CLOSED, member_id=None, version=row.owner_version + 1)
    return [*entries, conversations.changed(row.id, after, reason="rated")]


async def list_ratings(
    session: Session, tenant_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Any]:
    """Questions and answers, newest first; one more than `limit` if there are."""
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _LIST, tenant_id, before or _LAST, limit + 1
    )
    return rows


async def averages(
    session: Session, tenant_id: UUID, *, since: datetime, until: datetime
) -> Sequence[Any]:
    """Of everybody together, without a member, then of each."""
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _AVERAGES, tenant_id, since, until, MOST_MEMBERS
    )
    return rows
