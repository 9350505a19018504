"""Contacts as members know them: find them, look at one, write down what is worth knowing.

What members write down lies beside the contact's row (`contact_cards`), which each of their
messages changes. The audit says that something was written down, never what: it outlives erasing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit, view
from control_plane.access.permissions import Actor
from control_plane.contacts.schemas import MAX_FIELDS, ContactPatch
from control_plane.conversations import service as conversations
from control_plane.conversations.search import form
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, Invalid, not_found
from control_plane.stream import log as stream
from control_plane.stream.log import Entry

# Contacts that one search looks through; a page may be short, or empty, although more follow.
LOOKED_THROUGH = 5000
# Conversations that stand in one contact's history; the list of conversations has them all.
TALKS = 20

_LAST = UUID(int=2**128 - 1)
_FIRST = UUID(int=0)

_COLUMNS = """
SELECT p.id, p.name, p.platform_id, p.channel_id, p.created_at, p.seen_at, h.kind AS channel_kind,
    h.name AS channel_name, k.remark, coalesce(k.fields, '{}') AS fields
FROM contacts AS p JOIN channels AS h ON h.id = p.channel_id
LEFT JOIN contact_cards AS k ON k.contact_id = p.id
"""
_SAID = "search_form(coalesce(p.name, '') || ' ' || coalesce(k.remark, ''))"
# $3 is a channel, $4 a tag, $6 a text; each may be none. $5 is now.
_FITTING = """
p.tenant_id = $1 AND p.id < $2 AND ($3::uuid IS NULL OR p.channel_id = $3)
AND ($4::uuid IS NULL OR p.id IN (SELECT contact_id FROM contact_tags WHERE tag_id = $4))
AND $5::timestamptz IS NOT NULL {standing}
"""
_STANDINGS = {
    None: "",
    True: f"AND p.id IN ({conversations.BLOCKED.format(now='$5')})",
    False: f"AND p.id NOT IN ({conversations.BLOCKED.format(now='$5')})",
}
_FLOOR = f"""
SELECT p.id FROM contacts AS p WHERE {_FITTING} ORDER BY p.id DESC OFFSET $6 LIMIT 1
"""  # noqa: S608 - our own constants
_FOUND = f"""
{_COLUMNS} WHERE {_FITTING} AND p.id >= $7
    AND ($6::text IS NULL OR position(search_form($6) IN {_SAID}) > 0)
ORDER BY p.id DESC LIMIT $8
"""
# By whether they are to be blocked ones, or not, or either.
_QUERIES = {
    blocked: (_FLOOR.replace("{standing}", standing), _FOUND.replace("{standing}", standing))
    for blocked, standing in _STANDINGS.items()
}
_ONE = f"{_COLUMNS} WHERE p.id = $1"
_TALKS = """
SELECT id, channel_id, owner, last_number, last_message_at, preview, created_at
FROM conversations WHERE contact_id = $1 ORDER BY last_message_at DESC, id DESC LIMIT $2
"""
# Erasing takes the row for itself; ingest and we do not disturb each other.
_STANDING = "SELECT platform_id = 'erased:' || id FROM contacts WHERE id = $1 FOR KEY SHARE"
_WRITE = """
INSERT INTO contact_cards AS k (contact_id, tenant_id, remark, fields, updated_at)
VALUES ($1, $2, $4, jsonb_strip_nulls($5::jsonb), $6)
ON CONFLICT (contact_id) DO UPDATE SET updated_at = $6,
    remark = CASE WHEN $3 THEN excluded.remark ELSE k.remark END,
    fields = jsonb_strip_nulls(k.fields || $5::jsonb)
RETURNING (SELECT count(*) FROM jsonb_object_keys(fields)) AS count
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which contacts; all that is given must fit. `text` is in their name or remark."""

    text: str | None = None
    tag_id: UUID | None = None
    channel_id: UUID | None = None
    blocked: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Contacts, newest first; what follows is before `next_id`."""

    rows: Sequence[Any]
    next_id: UUID | None


async def find(
    session: AsyncSession,
    wanted: Wanted,
    *,
    actor: Actor,
    before: UUID | None,
    limit: int,
    now: datetime,
) -> Found:
    """A page of contacts; one with a text may be short, or empty, although more follow."""
    connection = await driver(session)
    text = form(wanted.text) if wanted.text else None
    given = (actor.tenant, before or _LAST, wanted.channel_id, wanted.tag_id, now)
    floors, contacts = _QUERIES[wanted.blocked]
    floor = await connection.fetchval(floors, *given, LOOKED_THROUGH - 1) if text else None
    rows = await connection.fetch(contacts, *given, text, floor or _FIRST, limit + 1)
    more = rows[limit - 1]["id"] if len(rows) > limit else floor
    rows = rows[:limit]
    if text and actor.masked:
        # Else whoever sees no numbers could find out one, digit by digit.
        rows = [row for row in rows if _shown_to_all(row, text)]
    return Found(rows=rows, next_id=more)


async def get(session: AsyncSession, contact_id: UUID) -> Any:
    """The contact, if this session may see them."""
    row = await (await driver(session)).fetchrow(_ONE, contact_id)
    if row is None:
        raise not_found("contact")
    return row


async def talks(session: AsyncSession, contact_id: UUID) -> Sequence[Any]:
    """Their conversations, newest first, as many as a history shows."""
    rows: Sequence[Any] = await (await driver(session)).fetch(_TALKS, contact_id, TALKS)
    return rows


async def standing(session: AsyncSession, contact_id: UUID) -> None:
    """See that the contact is there, and that nobody erases them meanwhile."""
    erased = await (await driver(session)).fetchval(_STANDING, contact_id)
    if erased is None:
        raise not_found("contact")
    if erased:
        raise Conflict("contact_erased", "This contact was erased: nothing is kept about them.")


async def change(
    session: AsyncSession, contact_id: UUID, body: ContactPatch, *, actor: Actor, now: datetime
) -> None:
    """Write down a remark or fields; what the body leaves out stays."""
    await standing(session, contact_id)
    changed = sorted(body.model_fields_set)
    if not changed:
        return
    fields: Mapping[str, str | None] = body.fields or {}
    count = await (await driver(session)).fetchval(
        _WRITE,
        contact_id,
        actor.tenant,
        "remark" in changed,
        body.remark,
        json.dumps(fields),
        now,
    )
    if count > MAX_FIELDS:
        raise Invalid("too_many_fields", f"A contact has at most {MAX_FIELDS} fields.")
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action="contact.change",
        target=("contact", contact_id),
        now=now,
        after={"changed": changed},
    )
    data = {"contact_id": str(contact_id), "changed": changed}
    await stream.append(session, actor.tenant, [Entry(type="contact.changed", data=data)])


def _shown_to_all(row: Any, text: str) -> bool:
    words = [row[name] for name in ("name", "remark") if row[name]]
    return text in form(" ".join(view.shown(words, masked=True)))
