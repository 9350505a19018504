"""/canned-replies: texts to answer with, everybody's and one's own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.contacts import canned
from control_plane.contacts.models import CannedReply
from control_plane.contacts.schemas import CannedReplyIn, CannedReplyOut, CannedReplyPatch
from control_plane.conversations.inbox import own_member
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/canned-replies", tags=["canned replies"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
Desk = Annotated[Call, permit(Permission.DESK_WRITE)]

# Characters of what is looked for in code, title and text.
MAX_TEXT = 200


@router.get("")
async def list_canned_replies(
    call: Reader,
    window: Annotated[Window, Depends()],
    text: Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT)] = None,
) -> Page[CannedReplyOut]:
    """Everybody's and one's own, oldest first; `text` is in the code, the title or the text."""
    rows = await canned.find(
        call.session, text=text, actor=call.actor, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.post("", status_code=201)
async def create_canned_reply(body: CannedReplyIn, call: Desk) -> CannedReplyOut:
    """One more for everybody; at most 500."""
    return _out(await canned.create(call.session, body, owner=None, actor=call.actor, now=call.now))


@router.post("/own", status_code=201)
async def create_own_canned_reply(body: CannedReplyIn, call: Writer) -> CannedReplyOut:
    """One more for oneself; at most 200."""
    owner = own_member(call.actor)
    return _out(
        await canned.create(call.session, body, owner=owner, actor=call.actor, now=call.now)
    )


@router.patch("/own/{own_reply_id}")
async def change_own_canned_reply(
    own_reply_id: UUID, body: CannedReplyPatch, call: Writer
) -> CannedReplyOut:
    """Change one of one's own."""
    return await _change(call, own_reply_id, body, own_member(call.actor))


@router.delete("/own/{own_reply_id}", status_code=204)
async def remove_own_canned_reply(own_reply_id: UUID, call: Writer) -> None:
    """Remove one of one's own."""
    owner = own_member(call.actor)
    await canned.remove(call.session, own_reply_id, owner=owner, actor=call.actor, now=call.now)


@router.patch("/{reply_id}")
async def change_canned_reply(reply_id: UUID, body: CannedReplyPatch, call: Desk) -> CannedReplyOut:
    """Change one of everybody's."""
    return await _change(call, reply_id, body, None)


@router.delete("/{reply_id}", status_code=204)
async def remove_canned_reply(reply_id: UUID, call: Desk) -> None:
    """Remove one of everybody's."""
    await canned.remove(call.session, reply_id, owner=None, actor=call.actor, now=call.now)


@router.post("/{reply_id}/use", status_code=204)
async def use_canned_reply(reply_id: UUID, call: Writer) -> None:
    """Count that somebody has written with it."""
    await canned.use(call.session, reply_id, actor=call.actor, now=call.now)


async def _change(
    call: Call, reply_id: UUID, body: CannedReplyPatch, owner: UUID | None
) -> CannedReplyOut:
    return _out(
        await canned.change(
            call.session, reply_id, body, owner=owner, actor=call.actor, now=call.now
        )
    )


def _out(reply: CannedReply) -> CannedReplyOut:
    return CannedReplyOut(**reply.model_dump(include=set(CannedReplyOut.model_fields)))
