"""The inbox: views of conversations, how many are in each, and what a member has seen of them.

Rows are found by their ids first; what a list shows beside them is read for the page alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.permissions import Actor
from control_plane.conversations.models import Owner
from control_plane.db.session import driver
from control_plane.kit.errors import Forbidden, not_found
from control_plane.stream import log as stream
from control_plane.stream.log import Entry

# What a view is counted up to, and the unread messages of a row: nobody reads a larger number.
COUNTED = 100

Order = Literal["newest", "waiting"]


class View(StrEnum):
    """Which conversations: one's own, nobody's, where a contact waits, the bot's, and so on."""

    ALL = "all"
    MINE = "mine"
    UNASSIGNED = "unassigned"
    WAITING = "waiting"
    BOT = "bot"
    CLOSED = "closed"
    MENTIONS = "mentions"


# Of tenant $1, as member $2 sees them; who is no member has neither own ones nor mentions.
_VIEWS: dict[str, str] = {
    View.ALL: "true",
    View.MINE: "c.owner_member_id = $2 AND c.owner = 'human'",
    View.UNASSIGNED: "c.owner = 'waiting'",
    View.WAITING: "c.waiting_since IS NOT NULL",
    View.BOT: "c.owner = 'bot'",
    View.CLOSED: "c.owner = 'closed'",
    View.MENTIONS: "c.id IN (SELECT conversation_id FROM note_mentions WHERE member_id = $2)",
}
_UNREAD_MENTIONS = """
c.id IN (SELECT conversation_id FROM note_mentions WHERE member_id = $2 AND read_at IS NULL)
"""
_UP_TO = """
(SELECT count(*) FROM (
    SELECT FROM conversations AS c WHERE c.tenant_id = $1 AND {which} LIMIT $3) AS counted)
"""
_COUNTS = "SELECT " + ", ".join(
    f'{_UP_TO.format(which=which)} AS "{name}"'
    for name, which in (_VIEWS | {"unread_mentions": _UNREAD_MENTIONS}).items()
)
_LIST = """
SELECT c.id, c.last_message_at, c.waiting_since FROM conversations AS c
WHERE c.tenant_id = $1 AND $2::uuid IS NOT DISTINCT FROM $2 AND {which}
ORDER BY {order} LIMIT {limit}
"""
# The index of the newest is by the hour; within one they are sorted.
_ORDERS: dict[Order, str] = {
    "newest": "c.last_message_hour DESC, c.last_message_at DESC, c.id DESC",
    "waiting": "c.waiting_since, c.id",
}
_BEHIND: dict[Order, str] = {
    "newest": """c.last_message_hour <= {at}::timestamptz
        AND (c.last_message_at, c.id) < ({at}::timestamptz, {id}::uuid)""",
    "waiting": "(c.waiting_since, c.id) > ({at}::timestamptz, {id}::uuid)",
}
# Unread is what the contact has said since; of that, only the newest are looked at.
_ROWS = f"""
SELECT c.id, c.instance_id, c.channel_id, c.contact_id, c.owner, c.owner_member_id,
    c.owner_version, c.waiting_reason, c.waiting_since, c.last_number, c.last_message_at,
    c.preview, c.created_at, h.kind AS channel_kind, m.name AS owner_name,
    p.name AS contact_name, k.remark AS contact_remark, coalesce(r.number, 0) AS seen_number,
    CASE WHEN c.heard_number <= coalesce(r.number, 0) THEN 0 ELSE (
        SELECT count(*) FROM messages AS u
        WHERE u.conversation_id = c.id AND u.sender_kind = 'contact'
          AND u.number > greatest(coalesce(r.number, 0), c.last_number - {COUNTED})
    ) END AS unread,
    EXISTS (SELECT FROM note_mentions AS n WHERE n.conversation_id = c.id
            AND n.member_id = $2 AND n.read_at IS NULL) AS mentioned
FROM conversations AS c
JOIN contacts AS p ON p.id = c.contact_id
JOIN channels AS h ON h.id = c.channel_id
LEFT JOIN contact_cards AS k ON k.contact_id = c.contact_id
LEFT JOIN members AS m ON m.id = c.owner_member_id
LEFT JOIN read_marks AS r ON r.conversation_id = c.id AND r.member_id = $2
WHERE c.id = ANY ($1::uuid[])
"""  # noqa: S608 - our own constant
_TAGS = """
SELECT l.{whose} AS whose, t.id, t.name, t.colour
FROM {links} AS l JOIN tags AS t ON t.id = l.tag_id
WHERE l.{whose} = ANY ($1::uuid[]) ORDER BY t.name
"""
_LAST = "SELECT last_number FROM conversations WHERE id = $1 FOR KEY SHARE"
_MARK = """
INSERT INTO read_marks AS r (conversation_id, member_id, tenant_id, number, seen_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (conversation_id, member_id) DO UPDATE SET number = excluded.number,
    seen_at = excluded.seen_at WHERE r.number < excluded.number
RETURNING number
"""
_MARKED = "SELECT number FROM read_marks WHERE conversation_id = $1 AND member_id = $2"
_NOTE = "SELECT after_number FROM notes WHERE id = $1 AND conversation_id = $2"
_READ = """
UPDATE note_mentions AS m SET read_at = $5 FROM notes AS n
WHERE n.id = m.note_id AND m.member_id = $2 AND m.conversation_id = $1 AND m.read_at IS NULL
  AND (n.after_number, n.id) <= ($3::bigint, $4::uuid)
RETURNING m.note_id
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which conversations; all that is given must fit."""

    view: View = View.ALL
    owner: Owner | None = None
    tag_id: UUID | None = None
    channel_id: UUID | None = None
    contact_id: UUID | None = None


def own_member(actor: Actor) -> UUID:
    """The member who calls; API keys and guests have nothing of their own here."""
    if actor.member_id is None:
        raise Forbidden("not_a_person", "This is for members: a key has no inbox of its own.")
    return actor.member_id


async def find(
    session: AsyncSession,
    wanted: Wanted,
    *,
    actor: Actor,
    order: Order,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Any]:
    """Ids with what they are ordered by; one more than `limit` if any.

    By `waiting` there is nobody who does not wait.
    """
    given: list[object] = [actor.tenant, actor.member_id]

    def place(value: object) -> str:
        given.append(value)
        return f"${len(given)}"

    which = [_VIEWS[wanted.view]]
    if wanted.owner is not None:
        which.append(f"c.owner = {place(str(wanted.owner))}")
    if wanted.channel_id is not None:
        which.append(f"c.channel_id = {place(wanted.channel_id)}")
    if wanted.contact_id is not None:
        which.append(f"c.contact_id = {place(wanted.contact_id)}")
    if wanted.tag_id is not None:
        tagged = "SELECT conversation_id FROM conversation_tags WHERE tag_id ="
        which.append(f"c.id IN ({tagged} {place(wanted.tag_id)})")
    if order == "waiting":
        which.append(_VIEWS[View.WAITING])
    if after is not None:
        which.append(_BEHIND[order].format(at=place(after[0]), id=place(after[1])))
    query = _LIST.format(which=" AND ".join(which), order=_ORDERS[order], limit=limit + 1)
    rows: Sequence[Any] = await (await driver(session)).fetch(query, *given)
    return rows


async def rows(session: AsyncSession, ids: Sequence[UUID], *, actor: Actor) -> list[Any]:
    """What lists show of these conversations, in this order, as the caller's own inbox has it."""
    found = await (await driver(session)).fetch(_ROWS, list(ids), actor.member_id)
    by_id = {row["id"]: row for row in found}
    return [by_id[one] for one in ids if one in by_id]


async def tags_of(
    session: AsyncSession, whose: Literal["conversation", "contact"], ids: Sequence[UUID]
) -> dict[UUID, list[Any]]:
    """The tags of each of these conversations, or contacts, by name."""
    query = _TAGS.format(whose=f"{whose}_id", links=f"{whose}_tags")
    found: dict[UUID, list[Any]] = {one: [] for one in ids}
    for row in await (await driver(session)).fetch(query, list(found)):
        found[row["whose"]].append(row)
    return found


async def counts(session: AsyncSession, actor: Actor) -> Any:
    """How many conversations are in each view, counted up to `COUNTED`."""
    return await (await driver(session)).fetchrow(_COUNTS, actor.tenant, actor.member_id, COUNTED)


async def position(session: AsyncSession, tenant_id: UUID) -> tuple[int, int]:
    """Where the tenant's stream stands. Asked before what is shown with it, which holds no less."""
    heads = await stream.heads(session, [tenant_id])
    if tenant_id not in heads:
        raise not_found("tenant")
    return heads[tenant_id]


async def see(
    session: AsyncSession,
    conversation_id: UUID,
    *,
    number: int,
    note_id: UUID | None,
    actor: Actor,
    now: datetime,
) -> int:
    """The member has seen everything up to this message, and this note; the mark never goes back.

    Returns where it is now.
    """
    member_id = own_member(actor)
    connection = await driver(session)
    last = await connection.fetchval(_LAST, conversation_id)
    if last is None:
        raise not_found("conversation")
    read: Sequence[Any] = []
    if note_id is not None:
        after = await connection.fetchval(_NOTE, note_id, conversation_id)
        if after is None:
            raise not_found("note")
        read = await connection.fetch(_READ, conversation_id, member_id, after, note_id, now)
    marked = await connection.fetchval(
        _MARK, conversation_id, member_id, actor.tenant, min(number, last), now
    )
    standing: int = await connection.fetchval(_MARKED, conversation_id, member_id)
    if marked is not None or read:
        data = {
            "conversation_id": str(conversation_id),
            "member_id": str(member_id),
            "number": standing,
        }
        await stream.append(session, actor.tenant, [Entry(type="conversation.seen", data=data)])
    return standing
