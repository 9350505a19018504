"""/tags: the tenant's list, and what of it a conversation wears."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.contacts import tags
from control_plane.contacts.models import Tag
from control_plane.contacts.schemas import TagIn, TagListOut, TagPatch
from control_plane.contacts.tags import Whose
from control_plane.conversations import inbox
from control_plane.conversations.routes import shown_tags
from control_plane.conversations.schemas import TagOut
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/tags", tags=["contacts"], route_class=TransactionRoute)
talks_router = APIRouter(
    prefix="/conversations", tags=["conversations"], route_class=TransactionRoute
)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
Desk = Annotated[Call, permit(Permission.DESK_WRITE)]


@router.get("")
async def list_tags(call: Reader, window: Annotated[Window, Depends()]) -> Page[TagOut]:
    """The tenant's tags, oldest first."""
    rows = await tags.list_tags(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.post("", status_code=201)
async def create_tag(body: TagIn, call: Desk) -> TagOut:
    """One more tag; at most 200."""
    return _out(await tags.create(call.session, body, actor=call.actor, now=call.now))


@router.patch("/{tag_id}")
async def change_tag(tag_id: UUID, body: TagPatch, call: Desk) -> TagOut:
    """Another name or colour, wherever it is worn."""
    return _out(await tags.change(call.session, tag_id, body, actor=call.actor, now=call.now))


@router.delete("/{tag_id}", status_code=204)
async def remove_tag(tag_id: UUID, call: Desk) -> None:
    """Take it off the list and off whatever wears it."""
    await tags.remove(call.session, tag_id, actor=call.actor, now=call.now)


@talks_router.put("/{conversation_id}/tags/{tag_id}")
async def tag_conversation(conversation_id: UUID, tag_id: UUID, call: Writer) -> TagListOut:
    """Give a conversation a tag."""
    await tags.attach(
        call.session, "conversation", conversation_id, tag_id, actor=call.actor, now=call.now
    )
    return await worn(call, "conversation", conversation_id)


@talks_router.delete("/{conversation_id}/tags/{tag_id}")
async def untag_conversation(conversation_id: UUID, tag_id: UUID, call: Writer) -> TagListOut:
    """Take a tag off a conversation."""
    await tags.detach(
        call.session, "conversation", conversation_id, tag_id, actor=call.actor, now=call.now
    )
    return await worn(call, "conversation", conversation_id)


async def worn(call: Call, whose: Whose, key: UUID) -> TagListOut:
    """The tags of a contact or conversation, as they are now."""
    return TagListOut(items=shown_tags((await inbox.tags_of(call.session, whose, [key]))[key]))


def _out(tag: Tag) -> TagOut:
    return TagOut(id=tag.id, name=tag.name, colour=tag.colour)
