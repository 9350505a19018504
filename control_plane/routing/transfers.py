"""Handing a conversation to a colleague, or to whoever has a skill, with a note.

The former owner has lost it when the call ends. While nobody has it, it waits before all others,
and the bot says nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Conversation, Owner
from control_plane.conversations.ownership import Ownership
from control_plane.db.session import driver
from control_plane.kit.errors import Conflict, Forbidden, Invalid
from control_plane.kit.ids import new_id
from control_plane.routing import members, settings, waiting
from control_plane.routing.choosing import Waiting
from control_plane.routing.schemas import TransferIn
from control_plane.routing.settings import Kept
from control_plane.stream import log as stream
from control_plane.stream.log import Entry

REASON = "transferred"

_ADD = """
INSERT INTO routing_transfers (id, tenant_id, conversation_id, number, from_member_id,
    by_member_id, to_member_id, skill, note, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_LIST = """
SELECT id, conversation_id, number, from_member_id, by_member_id, to_member_id, skill, note,
    created_at
FROM routing_transfers WHERE conversation_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""
_LAST = UUID(int=2**128 - 1)


async def transfer(
    session: AsyncSession, conversation_id: UUID, body: TransferIn, *, actor: Actor, now: datetime
) -> None:
    """Hand it on: to a member who is there at once, else it waits for whom it was meant."""
    if actor.member_id is None:
        raise Forbidden("not_a_member", "Only a member can hand a conversation on.")
    if (body.member_id is None) == (body.skill is None):
        raise Invalid("one_receiver", "Name a member or a skill, one of both.")
    kept = await settings.read(session, actor.tenant)
    if body.skill is not None:
        settings.known_skills(kept.routing, [body.skill])
        if not kept.routing.enabled:
            raise Conflict("routing_off", "Nobody is given what waits: name a member.")
    conversation = await conversations.lock(session, conversation_id)
    _may(conversation, actor, body)
    before = conversation.owner_member_id
    entry = await _move(session, conversation, body, kept, actor=actor, now=now)
    transfer_id = new_id()
    await (await driver(session)).execute(
        _ADD,
        transfer_id,
        actor.tenant,
        conversation_id,
        conversation.last_number,
        before,
        actor.member_id,
        body.member_id,
        body.skill,
        body.note,
        now,
    )
    _audit(session, conversation, body, before, actor=actor, now=now)
    await session.flush()
    told = _told(transfer_id, conversation, body)
    await stream.append(session, actor.tenant, [entry, told])


async def list_transfers(
    session: AsyncSession, conversation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Any]:
    """The transfers of a conversation, newest first; one more than `limit` if there are."""
    await conversations.get(session, conversation_id)
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _LIST, conversation_id, before or _LAST, limit + 1
    )
    return rows


def _may(conversation: Conversation, actor: Actor, body: TransferIn) -> None:
    """Who has it may hand it on; others say which version they mean."""
    if body.owner_version is not None and body.owner_version != conversation.owner_version:
        raise Conflict(
            "owner_changed",
            f"The owner has changed: it is {conversation.owner} "
            f"(version {conversation.owner_version}).",
        )
    if conversation.owner == Owner.CLOSED:
        raise Conflict("conversation_closed", "The conversation is closed.")
    theirs = conversation.owner == Owner.HUMAN and conversation.owner_member_id != actor.member_id
    if theirs and body.owner_version is None:
        raise Conflict("owned_by_other", "A colleague is answering; send owner_version to insist.")
    if conversation.owner == Owner.HUMAN and conversation.owner_member_id == body.member_id:
        raise Conflict("has_it_already", "This member answers already.")


async def _move(
    session: AsyncSession,
    conversation: Conversation,
    body: TransferIn,
    kept: Kept,
    *,
    actor: Actor,
    now: datetime,
) -> Entry:
    if body.member_id is not None:
        # NotFound for somebody who could not answer, or whom another tenant has.
        await members.get(session, actor.tenant, body.member_id, kept=kept, now=now)
        member = await members.locked(session, actor.tenant, body.member_id, kept=kept, now=now)
        asked = Waiting(conversation_id=conversation.id, since=now, member_id=body.member_id)
        # With routing off nobody says whether they are there: then they have it.
        if member and (
            not kept.routing.enabled or waiting.takes(member, asked, kept.rules, kept, now)
        ):
            return await waiting.assign(session, conversation, member, actor=actor, now=now)
    after = Ownership(owner=Owner.WAITING, member_id=None, version=conversation.owner_version + 1)
    entry = await conversations.own(session, conversation, after, reason=REASON)
    await waiting.hand(session, conversation, member_id=body.member_id, skill=body.skill, now=now)
    return entry


def _audit(
    session: AsyncSession,
    conversation: Conversation,
    body: TransferIn,
    before: UUID | None,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    audit.record(
        session,
        actor=actor,
        tenant_id=conversation.tenant_id,
        action="conversation.transfer",
        target=("conversation", conversation.id),
        now=now,
        before={"member_id": str(before) if before else None},
        after={
            "member_id": str(body.member_id) if body.member_id else None,
            "skill": body.skill,
            "version": conversation.owner_version,
        },
    )


def _told(transfer_id: UUID, conversation: Conversation, body: TransferIn) -> Entry:
    """The note is for who may read the conversation, not for whatever follows the stream."""
    return Entry(
        type="conversation.transferred",
        data={
            "conversation_id": str(conversation.id),
            "transfer_id": str(transfer_id),
            "number": conversation.last_number,
            "member_id": str(body.member_id) if body.member_id else None,
            "skill": body.skill,
        },
    )
