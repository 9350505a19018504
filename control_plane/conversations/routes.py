"""/conversations: what was said, who answers, and answering oneself."""

import json
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends

from adapters.model import Segment
from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.conversations import notices, service
from control_plane.conversations.models import Contact, Conversation, Owner
from control_plane.conversations.ownership import Action
from control_plane.conversations.schemas import (
    ContactOut,
    ConversationOut,
    ConversationStandingOut,
    DeliveryOut,
    MessageIn,
    MessageOut,
    OwnershipIn,
    SenderOut,
)
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.media import links
from control_plane.media import service as media

router = APIRouter(prefix="/conversations", tags=["conversations"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
WindowDep = Annotated[Window, Depends()]


@router.get("")
async def list_conversations(
    call: Reader, window: WindowDep, owner: Owner | None = None
) -> Page[ConversationOut]:
    """Conversations, newest message first."""
    rows = await service.list_conversations(
        call.session, owner=owner, before=window.after_moment(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    following = cursor(last[0].last_message_at, last[0].id) if last else None
    blocked = await service.blocked(call.session, [contact.id for _, contact in page], call.now)
    return Page(items=[_out(row, blocked) for row in page], next=following)


@router.get("/{conversation_id}")
async def get_conversation(conversation_id: UUID, call: Reader) -> ConversationStandingOut:
    """One conversation, and what of its bot does not work at the moment."""
    shown = await _shown(call, await service.get(call.session, conversation_id))
    notice = await notices.notice(call.session, conversation_id)
    return ConversationStandingOut(**dict(shown), notice=notice)


@router.get("/{conversation_id}/messages")
async def list_messages(
    conversation_id: UUID,
    call: Reader,
    window: WindowDep,
    order: Literal["asc", "desc"] = "asc",
) -> Page[MessageOut]:
    """What was said, from the beginning, or from the end with `order=desc`."""
    rows = await service.thread(
        call.session,
        conversation_id,
        position=window.after_number(),
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
    row = await service.act(
        call.session,
        conversation_id,
        action,
        actor=call.actor,
        expected_version=body.owner_version if body else None,
        now=call.now,
    )
    return await _shown(call, row)


async def _shown(call: Call, row: tuple[Conversation, Contact]) -> ConversationOut:
    return _out(row, await service.blocked(call.session, [row[1].id], call.now))


def _out(row: tuple[Conversation, Contact], blocked: Collection[UUID]) -> ConversationOut:
    conversation, contact = row
    return ConversationOut(
        **conversation.model_dump(include=set(ConversationOut.model_fields) - {"contact"}),
        contact=ContactOut(id=contact.id, name=contact.name, blocked=contact.id in blocked),
    )


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
