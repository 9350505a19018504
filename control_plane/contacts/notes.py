"""Notes that members write for each other, about a contact or in a conversation.

They are no messages: nobody else ever reads them, neither the contact nor a model, and the numbers
of messages know nothing of them. A note of a conversation stands behind the message that was the
last one when it was written.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlmodel import col, select, tuple_
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor, Permission
from control_plane.contacts.models import Note
from control_plane.contacts.schemas import NotePatch
from control_plane.contacts.service import standing
from control_plane.conversations.inbox import own_member
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, Forbidden, Invalid, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry

# Notes about one contact, those of their conversations among them: erasing removes them at once.
MAX_NOTES = 2000

_PLACE = "SELECT contact_id, last_number FROM conversations WHERE id = $1"
_COUNT = "SELECT count(*) FROM notes WHERE contact_id = $1"
_MEMBERS = "SELECT id FROM members WHERE id = ANY ($1::uuid[]) ORDER BY id FOR KEY SHARE"
_CALL = """
INSERT INTO note_mentions (note_id, member_id, tenant_id, conversation_id)
SELECT $1, id, $2, $3 FROM unnest($4::uuid[]) AS m (id) ORDER BY id ON CONFLICT DO NOTHING
"""
_UNCALL = "DELETE FROM note_mentions WHERE note_id = $1 AND member_id <> ALL ($2::uuid[])"
_CALLED = """
SELECT note_id, member_id FROM note_mentions
WHERE note_id = ANY ($1::uuid[]) ORDER BY note_id, member_id
"""

Order = Literal["asc", "desc"]


async def of_contact(
    session: AsyncSession, contact_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Note]:
    """Notes about a contact, newest first, without those of conversations; one more if any."""
    query = select(Note).where(Note.contact_id == contact_id, col(Note.conversation_id).is_(None))
    if before is not None:
        query = query.where(col(Note.id) < before)
    return (await session.exec(query.order_by(col(Note.id).desc()).limit(limit + 1))).all()


async def of_conversation(
    session: AsyncSession,
    conversation_id: UUID,
    *,
    between: tuple[int, int],
    position: tuple[int, UUID] | None,
    order: Order,
    limit: int,
) -> Sequence[Note]:
    """Notes behind messages of these numbers, in the order of the thread; one more if any."""
    place = tuple_(col(Note.after_number), col(Note.id))
    query = select(Note).where(
        Note.conversation_id == conversation_id,
        col(Note.after_number).between(*between),
    )
    if position is not None:
        query = query.where(place > position if order == "asc" else place < position)
    keys = (col(Note.after_number), col(Note.id))
    ordered = query.order_by(*(keys if order == "asc" else [key.desc() for key in keys]))
    return (await session.exec(ordered.limit(limit + 1))).all()


async def called(session: AsyncSession, notes: Sequence[Note]) -> dict[UUID, list[UUID]]:
    """Whom each of these notes calls."""
    found: dict[UUID, list[UUID]] = {note.id: [] for note in notes}
    for row in await (await driver(session)).fetch(_CALLED, list(found)):
        found[row["note_id"]].append(row["member_id"])
    return found


async def get(session: AsyncSession, note_id: UUID, *, lock: bool = False) -> Note:
    """The note, if this session may see it."""
    query = select(Note).where(Note.id == note_id)
    note = (await session.exec(query.with_for_update() if lock else query)).one_or_none()
    if note is None:
        raise not_found("note")
    return note


async def about_contact(
    session: AsyncSession, contact_id: UUID, text: str, *, actor: Actor, now: datetime
) -> Note:
    """Write something down about a contact."""
    return await _write(session, (contact_id, None, None), text, actor=actor, now=now)


async def in_conversation(
    session: AsyncSession,
    conversation_id: UUID,
    text: str,
    *,
    mentions: Sequence[UUID],
    actor: Actor,
    now: datetime,
) -> Note:
    """Write behind the last message of a conversation, and call members to it."""
    found = await (await driver(session)).fetchrow(_PLACE, conversation_id)
    if found is None:
        raise not_found("conversation")
    place = (found["contact_id"], conversation_id, found["last_number"])
    return await _write(session, place, text, actor=actor, now=now, mentions=mentions)


async def change(
    session: AsyncSession, note_id: UUID, body: NotePatch, *, actor: Actor, now: datetime
) -> Note:
    """Other words, by whoever wrote it; who was called and stays called has seen what they saw."""
    found = await get(session, note_id)
    await standing(session, found.contact_id)
    note = await get(session, note_id, lock=True)
    if note.author_id != own_member(actor):
        raise Forbidden("not_author", "Only who wrote a note may change it.")
    note.text, note.edited_at = body.text, now
    session.add(note)
    await session.flush()
    if body.mentions is not None:
        if note.conversation_id is None and body.mentions:
            raise Invalid("mentions_nobody_sees", "Members are called in conversations only.")
        await (await driver(session)).execute(_UNCALL, note_id, body.mentions)
        await _call(session, note, body.mentions)
    _audited(session, note, "change", actor=actor, now=now)
    await _tell(session, note, "note.change")
    return note


async def remove(session: AsyncSession, note_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Remove one's own note, or anybody's by who may erase a contact."""
    note = await get(session, note_id, lock=True)
    if note.author_id != actor.member_id and Permission.PRIVACY_WRITE not in actor.permissions:
        raise Forbidden("not_author", "Only who wrote a note, or an admin, may remove it.")
    await session.delete(note)
    await session.flush()
    _audited(session, note, "delete", actor=actor, now=now)
    await _tell(session, note, "note.delete")


async def _write(
    session: AsyncSession,
    place: tuple[UUID, UUID | None, int | None],
    text: str,
    *,
    actor: Actor,
    now: datetime,
    mentions: Sequence[UUID] = (),
) -> Note:
    author_id = own_member(actor)
    contact_id, conversation_id, after_number = place
    await standing(session, contact_id)
    if await (await driver(session)).fetchval(_COUNT, contact_id) >= MAX_NOTES:
        raise Conflict("too_many_notes", f"There may be {MAX_NOTES} notes about one contact.")
    note = Note(
        id=new_id(),
        tenant_id=actor.tenant,
        contact_id=contact_id,
        conversation_id=conversation_id,
        after_number=after_number,
        author_id=author_id,
        author_name=actor.member_name,
        text=text,
        created_at=now,
    )
    session.add(note)
    await session.flush()
    await _call(session, note, mentions)
    await _tell(session, note, "note.create")
    return note


async def _call(session: AsyncSession, note: Note, mentions: Sequence[UUID]) -> None:
    wanted = set(mentions)
    if not wanted:
        return
    connection = await driver(session)
    if len(await connection.fetch(_MEMBERS, list(wanted))) != len(wanted):
        raise not_found("member")
    await connection.execute(_CALL, note.id, note.tenant_id, note.conversation_id, sorted(wanted))


def _audited(
    session: AsyncSession, note: Note, action: str, *, actor: Actor, now: datetime
) -> None:
    """That it happened, without the words."""
    audit.record(
        session,
        actor=actor,
        tenant_id=note.tenant_id,
        action=f"note.{action}",
        target=("note", note.id),
        now=now,
        before={"author_id": str(note.author_id), "contact_id": str(note.contact_id)},
    )


async def _tell(session: AsyncSession, note: Note, action: str) -> None:
    """Without the words: whoever follows reads the note itself."""
    mentions = (await called(session, [note]))[note.id]
    data: dict[str, Any] = {
        "note_id": str(note.id),
        "action": action,
        "contact_id": str(note.contact_id),
        "conversation_id": str(note.conversation_id) if note.conversation_id else None,
        "after_number": note.after_number,
        "author_id": str(note.author_id),
        "mentions": [str(member_id) for member_id in mentions],
    }
    await stream.append(session, note.tenant_id, [Entry(type="note.changed", data=data)])
