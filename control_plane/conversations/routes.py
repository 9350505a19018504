"""/conversations: what was said, who answers, and answering oneself."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from adapters.model import Segment
from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.conversations import inbox, notices, service
from control_plane.conversations.inbox import Order, View, Wanted
from control_plane.conversations.models import Owner
from control_plane.conversations.ownership import Action
from control_plane.conversations.schemas import (
    ContactOut,
    ConversationOut,
    ConversationStandingOut,
    CountsOut,
    DeliveryOut,
    InboxOut,
    MessageIn,
    MessageOut,
    OwnershipIn,
    PositionOut,
    SeenIn,
    SeenOut,
    SenderOut,
    TagOut,
)
from control_plane.kit.errors import not_found
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.media import links
from control_plane.media import service as media

router = APIRouter(prefix="/conversations", tags=["conversations"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
WindowDep = Annotated[Window, Depends()]
# Up to what the column holds.
BeforeNumber = Annotated[int | None, Query(ge=1, lt=2**62)]


class Asked(BaseModel):
    """Which conversations; all that is given must fit."""

    view: View = View.ALL
    owner: Owner | None = None
    tag_id: UUID | None = None
    channel_id: UUID | None = None
    contact_id: UUID | None = None


@router.get("")
async def list_conversations(
    call: Reader,
    window: WindowDep,
    asked: Annotated[Asked, Depends()],
    order: Order = "newest",
) -> InboxOut:
    """Conversations, newest message first.

    With `order=waiting` only those whose contact waits for a person, longest first.
    """
    position = await _position(call)
    found = await inbox.find(
        call.session,
        Wanted(**asked.model_dump()),
        actor=call.actor,
        order=order,
        after=window.after_moment(),
        limit=window.limit,
    )
    page, last = cut(found, window.limit)
    at = "waiting_since" if order == "waiting" else "last_message_at"
    return InboxOut(
        items=await shown_conversations(call, [row["id"] for row in page]),
        next=cursor(last[at], last["id"]) if last else None,
        position=position,
    )


@router.get("/counts")
async def count_conversations(call: Reader) -> CountsOut:
    """How many conversations are in each view of one's inbox, counted up to 100."""
    position = await _position(call)
    counted = dict(await inbox.counts(call.session, call.actor))
    return CountsOut(**counted, position=position)


@router.get("/{conversation_id}")
async def get_conversation(conversation_id: UUID, call: Reader) -> ConversationStandingOut:
    """One conversation, and what of its bot does not work at the moment."""
    standing = await shown(call, conversation_id)
    notice = await notices.notice(call.session, conversation_id)
    return ConversationStandingOut(**dict(standing), notice=notice)


@router.put("/{conversation_id}/seen")
async def mark_seen(conversation_id: UUID, body: SeenIn, call: Writer) -> SeenOut:
    """Say up to which message one has seen it, and up to which note; the mark never goes back."""
    number = await inbox.see(
        call.session,
        conversation_id,
        number=body.number,
        note_id=body.note_id,
        actor=call.actor,
        now=call.now,
    )
    return SeenOut(number=number)


@router.get("/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    call: Reader,
    window: WindowDep,
    order: Literal["asc", "desc"] = "asc",
    before_number: BeforeNumber = None,
) -> Page[MessageOut]:
    """What was said, from the beginning, or from the end with `order=desc`.

    With `before_number` only messages of a lower number: what was said up to some moment.
    """
    rows = await service.thread(
        call.session,
        conversation_id,
        position=window.after_number(),
        below=before_number,
        newest_first=order == "desc",
        limit=window.limit,
    )
    page, last = cut(rows, window.limit)
    items = await shown_messages(call, page)
    return Page(items=items, next=cursor(last["number"]) if last else None)


@router.post("/{conversation_id}/messages", status_code=202)
async def send_message(conversation_id: UUID, body: MessageIn, call: Writer) -> MessageOut:
    """Answer as a person; the conversation must be yours."""
    row = await service.reply(
        call.session,
        conversation_id,
        segments=msgspec.convert(body.segments, list[Segment]),
        actor=call.actor,
        now=call.now,
        seen_number=body.seen_number,
    )
    [shown] = await shown_messages(call, [row])
    return shown


@router.post("/{conversation_id}/take-over")
async def take_over(
    conversation_id: UUID, call: Writer, body: OwnershipIn | None = None
) -> ConversationOut:
    """Answer yourself; what the bot had queued is withheld."""
    return await _act(call, conversation_id, "take-over", body)


@router.post("/{conversation_id}/hand-back")
async def hand_back(
    conversation_id: UUID, call: Writer, body: OwnershipIn | None = None
) -> ConversationOut:
    """Let the bot answer the next message."""
    return await _act(call, conversation_id, "hand-back", body)


@router.post("/{conversation_id}/close")
async def close(
    conversation_id: UUID, call: Writer, body: OwnershipIn | None = None
) -> ConversationOut:
    """End it; the customer's next message opens it again, with the bot."""
    return await _act(call, conversation_id, "close", body)


async def _act(
    call: Call, conversation_id: UUID, action: Action, body: OwnershipIn | None
) -> ConversationOut:
    await service.act(
        call.session,
        conversation_id,
        action,
        actor=call.actor,
        expected_version=body.owner_version if body else None,
        now=call.now,
    )
    return await shown(call, conversation_id)


async def shown(call: Call, conversation_id: UUID) -> ConversationOut:
    """A conversation as the caller's inbox shows it."""
    found = await shown_conversations(call, [conversation_id])
    if not found:
        raise not_found("conversation")
    return found[0]


async def _position(call: Call) -> PositionOut:
    epoch, seq = await inbox.position(call.session, call.actor.tenant)
    return PositionOut(epoch=epoch, seq=seq)


async def shown_conversations(call: Call, ids: Sequence[UUID]) -> list[ConversationOut]:
    """These conversations as the caller's inbox shows them."""
    rows = await inbox.rows(call.session, ids, actor=call.actor)
    tags = await inbox.tags_of(call.session, "conversation", ids)
    blocked = await service.blocked(call.session, [row["contact_id"] for row in rows], call.now)
    return [_out(row, tags[row["id"]], row["contact_id"] in blocked) for row in rows]


def _out(row: Any, tags: Sequence[Any], blocked: bool) -> ConversationOut:
    return ConversationOut(
        **{name: row[name] for name in ConversationOut.model_fields.keys() - {"contact", "tags"}},
        contact=ContactOut(
            id=row["contact_id"],
            name=row["contact_name"],
            remark=row["contact_remark"],
            blocked=blocked,
        ),
        tags=shown_tags(tags),
    )


def shown_tags(tags: Sequence[Any]) -> list[TagOut]:
    """Tags as every answer has them."""
    return [TagOut(id=tag["id"], name=tag["name"], colour=tag["colour"]) for tag in tags]


async def shown_messages(call: Call, rows: Sequence[Any]) -> list[MessageOut]:
    """Messages with their deliveries, as this call's reader gets them."""
    said = [json.loads(row["segments"]) for row in rows]
    voices = {media_id for segments in said for media_id in links.voices(segments)}
    playback = await media.conversions(call.session, voices)
    return [
        _message(
            row,
            links.dressed(
                call.keys,
                segments,
                tenant_id=row["tenant_id"],
                now=call.now,
                playback=playback,
            ),
        )
        for row, segments in zip(rows, said, strict=True)
    ]


def _message(row: Any, segments: list[dict[str, Any]]) -> MessageOut:
    delivery = None
    if row["state"] is not None:
        delivery = DeliveryOut(
            state=row["state"], error_class=row["error_class"], attempts=row["attempts"]
        )
    return MessageOut(
        id=row["id"],
        number=row["number"],
        sender=SenderOut(kind=row["sender_kind"], id=row["sender_id"], name=row["sender_name"]),
        segments=segments,
        occurred_at=row["occurred_at"],
        created_at=row["created_at"],
        delivery=delivery,
    )
