"""/messages/search: find what was said."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.conversations import search, service
from control_plane.conversations.routes import WindowDep, shown_messages
from control_plane.conversations.schemas import ContactOut, FoundMessageOut
from control_plane.conversations.search import MAX_TEXT, MIN_TEXT, Wanted
from control_plane.kit.given import Moment
from control_plane.kit.paging import Page, cursor

router = APIRouter(prefix="/messages", tags=["conversations"], route_class=TransactionRoute)


class Asked(BaseModel):
    """What is looked for; all that is given must fit."""

    text: Annotated[str, Query(min_length=MIN_TEXT, max_length=MAX_TEXT)]
    since: Moment | None = None
    until: Moment | None = None
    contact_id: UUID | None = None
    channel_id: UUID | None = None
    member_id: UUID | None = None
    conversation_id: UUID | None = None


@router.get("/search")
async def search_messages(
    call: Annotated[Call, permit(Permission.CONVERSATIONS_READ)],
    window: WindowDep,
    asked: Annotated[Asked, Depends()],
) -> Page[FoundMessageOut]:
    """Messages that hold the text, newest first. A page may be short although `next` is set.

    Case, white space and full-width forms make no difference. `contact_id` finds what was said in
    a contact's conversations and by them in groups, `member_id` what a member wrote.
    """
    found = await search.search(
        call.session,
        Wanted(sender_id=asked.member_id, **asked.model_dump(exclude={"member_id"})),
        before=window.after_id(),
        limit=window.limit,
        masked=call.actor.masked,
    )
    contacts = [row["contact_id"] for row in found.rows]
    blocked = await service.blocked(call.session, contacts, call.now)
    shown = await shown_messages(call, found.rows)
    items = [
        FoundMessageOut(
            **dict(message),
            conversation_id=row["conversation_id"],
            channel_id=row["channel_id"],
            contact=ContactOut(
                id=row["contact_id"],
                name=row["contact_name"],
                remark=row["contact_remark"],
                blocked=row["contact_id"] in blocked,
            ),
        )
        for row, message in zip(found.rows, shown, strict=True)
    ]
    return Page(items=items, next=cursor(found.next_id) if found.next_id else None)
