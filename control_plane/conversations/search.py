"""Finding what was said: candidates by pairs of characters, then the words themselves.

`message_grams` is filled behind ingest (`search_index`); what is not in it yet is found all the
same, since the end of the tenant's stream is looked through, too. The rows are judged by the words
that they have now, so that nothing erased is found.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import view
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Invalid, Unavailable

# Characters that a search has at least: one alone has no pair.
MIN_TEXT = 2
# And at most; a longer text is looked for by its beginning.
MAX_TEXT = 200
# Milliseconds that each of the two statements of a search may keep the database busy.
TIME_LIMIT_MS = 3000
# Messages not indexed yet that are looked through: seconds of a flood. Of more, the newest.
MAX_FRESH = 10_000
# Candidates for one row of a page, and for a page of few rows.
_PER_ROW, _LEAST = 2, 100

_LAST = UUID(int=2**128 - 1)
# Fields of segments that are searched, as `search_words` has them.
_WORDS = ("title", "text", "transcript", "name", "address", "desc")

_LIMIT = f"SELECT set_config('statement_timeout', '{TIME_LIMIT_MS}', true)"
_CANDIDATES = """
SELECT id, indexed FROM message_candidates(
    search_grams((SELECT current_tenants())[1], search_form($1)), uuid7_floor($2),
    least($3, uuid7_floor($4)), $5, $6, $7, $8,
    ARRAY(SELECT id FROM conversations WHERE contact_id = $8), $9, $10)
"""
_FOUND = """
SELECT m.*, d.state, d.error_class, d.attempts, c.channel_id, c.contact_id,
    p.name AS contact_name, k.remark AS contact_remark
FROM messages AS m
    JOIN conversations AS c ON c.id = m.conversation_id
    JOIN contacts AS p ON p.id = c.contact_id
    LEFT JOIN contact_cards AS k ON k.contact_id = p.id
    LEFT JOIN deliveries AS d ON d.message_id = m.id
WHERE m.id = ANY ($1::uuid[]) AND position(search_form($2) IN search_words(m.segments)) > 0
    AND ($3::uuid IS NULL OR m.conversation_id = $3) AND ($4::uuid IS NULL OR c.channel_id = $4)
    AND ($5::uuid IS NULL OR m.sender_id = $5)
    AND ($6::uuid IS NULL OR m.sender_id = $6 OR c.contact_id = $6)
ORDER BY m.id DESC
"""
_KNOW = "INSERT INTO search_positions (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING"
_LOCK = "SELECT FROM search_positions WHERE tenant_id = $1 FOR UPDATE"
_RENEW = """
UPDATE message_grams AS g SET grams = search_grams(g.tenant_id, search_words(m.segments))
FROM messages AS m WHERE g.id = $1 AND m.id = $1
"""
_FORGET = "DELETE FROM message_grams WHERE id = ANY ($1::uuid[])"

_EARLIEST = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_LATEST = datetime.fromisoformat("9999-01-01T00:00:00+00:00")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked for; all that is given must fit. `since` is part of the period."""

    text: str
    since: datetime | None = None
    until: datetime | None = None
    contact_id: UUID | None = None
    channel_id: UUID | None = None
    sender_id: UUID | None = None
    conversation_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Messages with their delivery and contact, newest first; what follows is before `next_id`."""

    rows: Sequence[Any]
    next_id: UUID | None


async def search(
    session: AsyncSession, wanted: Wanted, *, before: UUID | None, limit: int, masked: bool
) -> Found:
    """A page of what was found; it may be short, or empty, although more follows."""
    if len(form(wanted.text)) < MIN_TEXT:
        raise Invalid("search_too_short", f"Give at least {MIN_TEXT} characters to look for.")
    connection = await driver(session)
    most = limit * _PER_ROW + _LEAST
    try:
        await connection.execute(_LIMIT)
        ids, floor = await _candidates(connection, wanted, before, most)
        rows = await connection.fetch(
            _FOUND,
            ids,
            wanted.text,
            wanted.conversation_id,
            wanted.channel_id,
            wanted.sender_id,
            wanted.contact_id,
        )
    except asyncpg.QueryCanceledError:
        raise Unavailable(
            "search_took_too_long",
            "This search took too long. Ask for a shorter period, or for more words.",
        ) from None
    if masked:
        # Else whoever sees no numbers could find out one, digit by digit.
        rows = [row for row in rows if _shown_to_all(row["segments"], form(wanted.text))]
    if len(rows) > limit:
        return Found(rows=rows[:limit], next_id=rows[limit - 1]["id"])
    return Found(rows=rows, next_id=floor)


async def forget(session: Session, tenant_id: UUID, message_ids: Sequence[UUID]) -> None:
    """Of these nothing stays in the index, nor comes into it before this transaction ends."""
    connection = await driver(session)
    await connection.execute(_KNOW, tenant_id)
    await connection.execute(_LOCK, tenant_id)
    await connection.execute(_FORGET, message_ids)


async def renew(session: Session, tenant_id: UUID, message_id: UUID) -> None:
    """The message has other words now; where it is not indexed yet, it will be with these."""
    connection = await driver(session)
    await connection.execute(_KNOW, tenant_id)
    await connection.execute(_LOCK, tenant_id)
    await connection.execute(_RENEW, message_id)


def form(text: str) -> str:
    """A text as it is compared; `search_form` is the same in SQL."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).lower()).strip()


async def _candidates(
    connection: Any, wanted: Wanted, before: UUID | None, most: int
) -> tuple[list[UUID], UUID | None]:
    """Ids to look at, and the last of them if there may be more behind."""
    rows = await connection.fetch(
        _CANDIDATES,
        wanted.text,
        max(wanted.since or _EARLIEST, _EARLIEST),
        before or _LAST,
        min(max(wanted.until or _LATEST, _EARLIEST), _LATEST),
        wanted.conversation_id,
        wanted.channel_id,
        wanted.sender_id,
        wanted.contact_id,
        most,
        MAX_FRESH,
    )
    indexed = [row["id"] for row in rows if row["indexed"]]
    if len(indexed) < most:
        return [row["id"] for row in rows], None
    # What is fresh and older than that comes with a later page.
    return [row["id"] for row in rows if row["id"] >= indexed[-1]], indexed[-1]


def _shown_to_all(segments: str, wanted: str) -> bool:
    shown = view.shown(json.loads(segments), masked=True)
    words = [segment[name] for segment in shown for name in _WORDS if segment.get(name)]
    return wanted in form(" ".join(words))
