"""Notes in conversations, and any note by its id; for members alone."""

from collections.abc import Callable, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.contacts import notes
from control_plane.contacts.models import Note
from control_plane.contacts.notes import Order
from control_plane.contacts.schemas import AuthorOut, NoteOut, NotePatch, TalkNoteIn
from control_plane.conversations import service as conversations
from control_plane.conversations.schemas import MAX_NUMBER
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/notes", tags=["contacts"], route_class=TransactionRoute)
talks_router = APIRouter(
    prefix="/conversations", tags=["conversations"], route_class=TransactionRoute
)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
Number = Annotated[int, Query(ge=0, le=MAX_NUMBER)]


@talks_router.get("/{conversation_id}/notes")
async def list_notes(
    conversation_id: UUID,
    call: Reader,
    window: Annotated[Window, Depends()],
    from_number: Number = 0,
    through_number: Number = MAX_NUMBER,
    order: Order = "asc",
) -> Page[NoteOut]:
    """What members wrote in a conversation, in the order of its thread.

    `from_number` and `through_number` are of the messages behind which they stand.
    """
    await conversations.get(call.session, conversation_id)
    rows = await notes.of_conversation(
        call.session,
        conversation_id,
        between=(from_number, through_number),
        position=window.after_place(),
        order=order,
        limit=window.limit,
    )
    return await note_page(call, rows, window, by=lambda note: (note.after_number, note.id))


@talks_router.post("/{conversation_id}/notes", status_code=201)
async def add_note(conversation_id: UUID, body: TalkNoteIn, call: Writer) -> NoteOut:
    """Write behind the last message, for members alone; it is sent to nobody."""
    note = await notes.in_conversation(
        call.session,
        conversation_id,
        body.text,
        mentions=body.mentions,
        actor=call.actor,
        now=call.now,
    )
    return await shown_note(call, note)


@router.get("/{note_id}")
async def get_note(note_id: UUID, call: Reader) -> NoteOut:
    """One note."""
    return await shown_note(call, await notes.get(call.session, note_id))


@router.patch("/{note_id}")
async def change_note(note_id: UUID, body: NotePatch, call: Writer) -> NoteOut:
    """Change one's own note."""
    note = await notes.change(call.session, note_id, body, actor=call.actor, now=call.now)
    return await shown_note(call, note)


@router.delete("/{note_id}", status_code=204)
async def remove_note(note_id: UUID, call: Writer) -> None:
    """Remove one's own note; with `privacy.write` anybody's."""
    await notes.remove(call.session, note_id, actor=call.actor, now=call.now)


async def note_page(
    call: Call, rows: Sequence[Note], window: Window, *, by: Callable[[Note], tuple[object, ...]]
) -> Page[NoteOut]:
    """A page of notes; `by` is what the list is ordered by."""
    page, last = cut(rows, window.limit)
    mentions = await notes.called(call.session, page)
    items = [_out(note, mentions[note.id]) for note in page]
    return Page(items=items, next=cursor(*by(last)) if last else None)


async def shown_note(call: Call, note: Note) -> NoteOut:
    """A note with whom it calls."""
    return _out(note, (await notes.called(call.session, [note]))[note.id])


def _out(note: Note, mentions: Sequence[UUID]) -> NoteOut:
    author = AuthorOut(id=note.author_id, name=note.author_name)
    shown = note.model_dump(include=NoteOut.model_fields.keys() - {"author", "mentions"})
    return NoteOut(**shown, author=author, mentions=list(mentions))
