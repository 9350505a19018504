"""/contacts: whom the tenant's bots know, and what members wrote down about them."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.contacts import notes, service, tags
from control_plane.contacts.note_routes import note_page, shown_note
from control_plane.contacts.schemas import (
    ContactDetailOut,
    ContactEntryOut,
    ContactPatch,
    ContactTalkOut,
    NoteIn,
    NoteOut,
    TagListOut,
)
from control_plane.contacts.service import Wanted
from control_plane.contacts.tag_routes import worn
from control_plane.conversations import inbox
from control_plane.conversations import service as conversations
from control_plane.conversations.routes import shown_tags
from control_plane.kit.paging import Page, Window, cursor

router = APIRouter(prefix="/contacts", tags=["contacts"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
WindowDep = Annotated[Window, Depends()]

# Characters of what is looked for: longer than any name.
MAX_TEXT = 200


class Asked(BaseModel):
    """Which contacts; all that is given must fit. `text` is in their name or remark."""

    text: Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT)] = None
    tag_id: UUID | None = None
    channel_id: UUID | None = None
    blocked: bool | None = None


@router.get("")
async def list_contacts(
    call: Reader, window: WindowDep, asked: Annotated[Asked, Depends()]
) -> Page[ContactEntryOut]:
    """Contacts, newest first. With a text a page may be short although `next` is set."""
    found = await service.find(
        call.session,
        Wanted(**asked.model_dump()),
        actor=call.actor,
        before=window.after_id(),
        limit=window.limit,
        now=call.now,
    )
    items = [ContactEntryOut(**entry) for entry in await _entries(call, found.rows)]
    return Page(items=items, next=cursor(found.next_id) if found.next_id else None)


@router.get("/{contact_id}")
async def get_contact(contact_id: UUID, call: Reader) -> ContactDetailOut:
    """One contact with their history; `/conversations?contact_id=` has all of it."""
    row = await service.get(call.session, contact_id)
    [entry] = await _entries(call, [row])
    talks = await service.talks(call.session, contact_id)
    return ContactDetailOut(
        **entry,
        platform_id=row["platform_id"],
        channel_name=row["channel_name"],
        fields=json.loads(row["fields"]),
        conversations=[ContactTalkOut(**dict(talk)) for talk in talks],
    )


@router.patch("/{contact_id}")
async def change_contact(contact_id: UUID, body: ContactPatch, call: Writer) -> ContactDetailOut:
    """Write down what to call them, and fields; what is left out stays."""
    await service.change(call.session, contact_id, body, actor=call.actor, now=call.now)
    return await get_contact(contact_id, call)


@router.put("/{contact_id}/tags/{tag_id}")
async def tag_contact(contact_id: UUID, tag_id: UUID, call: Writer) -> TagListOut:
    """Give them a tag."""
    await tags.attach(call.session, "contact", contact_id, tag_id, actor=call.actor, now=call.now)
    return await worn(call, "contact", contact_id)


@router.delete("/{contact_id}/tags/{tag_id}")
async def untag_contact(contact_id: UUID, tag_id: UUID, call: Writer) -> TagListOut:
    """Take a tag off them."""
    await tags.detach(call.session, "contact", contact_id, tag_id, actor=call.actor, now=call.now)
    return await worn(call, "contact", contact_id)


@router.get("/{contact_id}/notes")
async def list_contact_notes(contact_id: UUID, call: Reader, window: WindowDep) -> Page[NoteOut]:
    """What members wrote about them, newest first; notes of conversations are with those."""
    await service.get(call.session, contact_id)
    rows = await notes.of_contact(
        call.session, contact_id, before=window.after_id(), limit=window.limit
    )
    return await note_page(call, rows, window, by=lambda note: (note.id,))


@router.post("/{contact_id}/notes", status_code=201)
async def add_contact_note(contact_id: UUID, body: NoteIn, call: Writer) -> NoteOut:
    """Write something down about them, for members alone."""
    note = await notes.about_contact(
        call.session, contact_id, body.text, actor=call.actor, now=call.now
    )
    return await shown_note(call, note)


async def _entries(call: Call, rows: Any) -> list[dict[str, Any]]:
    ids = [row["id"] for row in rows]
    worn_by = await inbox.tags_of(call.session, "contact", ids)
    blocked = await conversations.blocked(call.session, ids, call.now)
    plain = ContactEntryOut.model_fields.keys() - {"tags", "blocked"}
    return [
        {name: row[name] for name in plain}
        | {"tags": shown_tags(worn_by[row["id"]]), "blocked": row["id"] in blocked}
        for row in rows
    ]
