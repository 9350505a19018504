"""Conversations: read, answer, and change who owns them.

Every change locks the conversation's row first; that lock guards the message numbers and the
ownership (see `control_plane.db.leases` for the lock order).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.model import Segment
from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.conversations import ownership
from control_plane.conversations.models import Contact, Conversation, Owner
from control_plane.conversations.ownership import Action, Ownership
from control_plane.conversations.segments import encode, preview
from control_plane.db import leases
from control_plane.db.session import Session, driver, hint
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Outgoing
from control_plane.kit import tracing
from control_plane.kit.errors import Conflict, not_found
from control_plane.kit.ids import new_id
from control_plane.media import refs
from control_plane.media import service as media
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants.service import ROUTING

TURN = "turn"

_THREAD = """
SELECT m.*, d.state, d.error_class, d.attempts
FROM messages AS m LEFT JOIN deliveries AS d ON d.message_id = m.id
WHERE m.conversation_id = $1 AND m.number > $2 AND m.number < $3 ORDER BY m.number {order} LIMIT $4
"""
_SAY = """
INSERT INTO messages (id, tenant_id, conversation_id, number, sender_kind, sender_id, sender_name,
    segments, occurred_at, created_at, trace)
SELECT i.id, i.tenant_id, i.conversation_id, i.number, i.kind, i.sender_id, i.name, i.segments,
       $9, $9, i.trace
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
            $8::jsonb[], $10::bytea[])
    AS i (id, tenant_id, conversation_id, number, kind, sender_id, name, segments, trace)
"""
# Only for who has routing switched on: there somebody takes the row up.
_ENDED = """
INSERT INTO routing_endings (conversation_id, tenant_id, owner_version, member_id)
SELECT $1, $2, $3, $4 FROM work WHERE kind = $5 AND key = $2
ON CONFLICT (conversation_id) DO UPDATE
SET owner_version = excluded.owner_version, member_id = excluded.member_id
"""
# The contacts who are on the blacklist at a moment.
BLOCKED = """
SELECT c.id FROM contacts AS c
JOIN channels AS h ON h.id = c.channel_id
JOIN blacklist_entries AS e ON e.tenant_id = c.tenant_id AND e.platform_id = c.platform_id
    AND e.kind IN ('', h.kind) AND (e.channel_id IS NULL OR e.channel_id = h.id)
    AND (e.instance_id IS NULL OR e.instance_id = h.instance_id)
    AND (e.expires_at IS NULL OR e.expires_at > {now})
"""
_BLOCKED = BLOCKED.format(now="$2") + "WHERE c.id = ANY ($1::uuid[])"
# The last thing that a colleague said behind a number.
_SINCE = """
SELECT sender_name, created_at FROM messages
WHERE conversation_id = $1 AND number > $2 AND sender_kind = 'human'
  AND sender_id IS DISTINCT FROM $3
ORDER BY number DESC LIMIT 1
"""
_MAX_NUMBER = 2**62


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who speaks for the tenant."""

    kind: str
    id: UUID | None
    name: str


def topic(channel_id: UUID, key: str) -> str:
    """What to listen to for changes of who answers in a conversation."""
    return f"conversation.{channel_id}.{key}"


async def get(session: AsyncSession, conversation_id: UUID) -> tuple[Conversation, Contact]:
    """The conversation and its contact, if this session may see them."""
    found = await session.exec(
        select(Conversation, Contact)
        .join(Contact, col(Contact.id) == col(Conversation.contact_id))
        .where(Conversation.id == conversation_id)
    )
    row = found.one_or_none()
    if row is None:
        raise not_found("conversation")
    return row


async def blocked(session: Session, contact_ids: Iterable[UUID], now: datetime) -> set[UUID]:
    """Which of these contacts are on the blacklist, as far as their own channel goes."""
    rows = await (await driver(session)).fetch(_BLOCKED, list(set(contact_ids)), now)
    return {row["id"] for row in rows}


async def thread(
    session: AsyncSession,
    conversation_id: UUID,
    *,
    position: int | None,
    below: int | None = None,
    newest_first: bool,
    limit: int,
) -> Sequence[Any]:
    """Messages with their delivery behind (or before) a number; one more than `limit` if any."""
    await get(session, conversation_id)
    after = position if position is not None and not newest_first else 0
    before = position if position is not None and newest_first else _MAX_NUMBER
    if below is not None:
        before = min(before, below)
    query = _THREAD.format(order="DESC" if newest_first else "ASC")
    rows: Sequence[Any] = await (await driver(session)).fetch(
        query, conversation_id, after, before, limit + 1
    )
    return rows


async def lock(session: AsyncSession, conversation_id: UUID) -> Conversation:
    """The conversation, locked for this transaction."""
    found = await session.exec(
        select(Conversation).where(Conversation.id == conversation_id).with_for_update()
    )
    conversation = found.one_or_none()
    if conversation is None:
        raise not_found("conversation")
    return conversation


async def say(
    session: AsyncSession,
    conversation: Conversation,
    *,
    author: Author,
    segments: list[Segment],
    now: datetime,
) -> tuple[UUID, Entry]:
    """Add an outgoing message to a locked conversation and queue it; its id and stream entry."""
    conversation.last_number += 1
    conversation.preview = preview(segments)
    conversation.last_message_at = now
    session.add(conversation)
    await session.flush()
    said = outgoing(
        conversation,
        reply_handle=json.dumps(conversation.reply_handle),
        number=conversation.last_number,
        author=author,
        segments=segments,
    )
    [entry] = await write(session, [(said, author)], now=now)
    return said.message_id, entry


def outgoing(
    conversation: Any, *, reply_handle: str, number: int, author: Author, segments: list[Segment]
) -> Outgoing:
    """A message to a conversation, given as its row or model; its place in the current trace."""
    return Outgoing(
        tenant_id=conversation.tenant_id,
        conversation_id=conversation.id,
        instance_id=conversation.instance_id,
        channel_id=conversation.channel_id,
        message_id=new_id(),
        number=number,
        author_kind=author.kind,
        author_name=author.name,
        key_type=conversation.key_type,
        key=conversation.key,
        reply_handle=reply_handle,
        segments=encode(segments),
        trace=tracing.here(),
    )


async def write(
    session: Session, said: Sequence[tuple[Outgoing, Author]], *, now: datetime
) -> list[Entry]:
    """Add messages to locked conversations that count them already; their stream entries."""
    rows = [
        (
            one.message_id,
            one.tenant_id,
            one.conversation_id,
            one.number,
            one.author_kind,
            author.id,
            one.author_name,
            one.segments,
        )
        for one, author in said
    ]
    columns = map(list, zip(*rows, strict=True))
    traces = [one.trace for one, _ in said]
    await (await driver(session)).execute(_SAY, *columns, now, traces)
    await lanes.queue(session, [one for one, _ in said], now=now)
    return [_created(one) for one, _ in said]


def _created(said: Outgoing) -> Entry:
    data = {
        "conversation_id": str(said.conversation_id),
        "message_id": str(said.message_id),
        "number": said.number,
        "sender": {"kind": said.author_kind, "name": said.author_name},
    }
    return Entry(type="message.created", data=data)


async def reply(
    session: AsyncSession,
    conversation_id: UUID,
    *,
    segments: list[Segment],
    actor: Actor,
    now: datetime,
    seen_number: int | None = None,
) -> Any:
    """A member answers; only the one who owns the conversation may.

    With `seen_number` nothing is sent when a colleague has written behind it.
    """
    conversation = await lock(session, conversation_id)
    if conversation.owner != Owner.HUMAN or conversation.owner_member_id != actor.member_id:
        raise Conflict("not_owner", "Take the conversation over before you answer.")
    if seen_number is not None:
        await _nobody_since(session, conversation_id, seen_number, actor)
    await _use_media(session, conversation.tenant_id, segments)
    author = Author(kind="human", id=actor.member_id, name=actor.member_name)
    _id, entry = await say(session, conversation, author=author, segments=segments, now=now)
    await stream.append(session, conversation.tenant_id, [entry])
    rows = await thread(
        session,
        conversation_id,
        position=conversation.last_number - 1,
        newest_first=False,
        limit=1,
    )
    return rows[0]


async def _nobody_since(
    session: AsyncSession, conversation_id: UUID, seen_number: int, actor: Actor
) -> None:
    said = await (await driver(session)).fetchrow(
        _SINCE, conversation_id, seen_number, actor.member_id
    )
    if said is None:
        return
    who, at = said["sender_name"], said["created_at"].isoformat()
    raise Conflict("stale_view", f"{who} answered meanwhile, at {at}. Nothing was sent.")


async def _use_media(session: AsyncSession, tenant_id: UUID, segments: list[Segment]) -> None:
    """What is sent is there and the tenant's own; from now on it stays."""
    wanted = refs.ours(segments)
    if wanted:
        if wanted - await media.stored(session, tenant_id, wanted):
            raise not_found("media")
        await media.use(session, wanted)


async def act(
    session: AsyncSession,
    conversation_id: UUID,
    action: Action,
    *,
    actor: Actor,
    expected_version: int | None,
    now: datetime,
) -> tuple[Conversation, Contact]:
    """Take over, hand back or close, by compare-and-set."""
    conversation = await lock(session, conversation_id)
    if actor.member_id is None:
        raise not_found("conversation")
    before = Ownership(
        owner=Owner(conversation.owner),
        member_id=conversation.owner_member_id,
        version=conversation.owner_version,
    )
    after = ownership.change(
        before, action, member_id=actor.member_id, expected_version=expected_version
    )
    if after is not before:
        entry = await own(session, conversation, after, reason=None)
        audit.record(
            session,
            actor=actor,
            tenant_id=conversation.tenant_id,
            action=f"conversation.{action}",
            target=("conversation", conversation.id),
            now=now,
            before={"owner": before.owner, "version": before.version},
            after={"owner": after.owner, "version": after.version},
        )
        await session.flush()
        await stream.append(session, conversation.tenant_id, [entry])
    return await get(session, conversation_id)


async def own(
    session: AsyncSession, conversation: Conversation, after: Ownership, *, reason: str | None
) -> Entry:
    """Give a locked conversation to another owner; the stream entry that says so.

    Whoever takes it from the bot withholds in the same transaction what that has queued. Handing
    back starts the bot with the next message: what a person has seen is dealt with.
    """
    before = conversation.owner_member_id if conversation.owner == Owner.HUMAN else None
    moves_queue = Owner.HUMAN in (conversation.owner, after.owner) or after.owner == Owner.WAITING
    conversation.owner = after.owner
    conversation.owner_member_id = after.member_id
    conversation.owner_version = after.version
    conversation.waiting_reason = reason
    if after.owner == Owner.BOT:
        conversation.turned_number = conversation.last_number
    session.add(conversation)
    await session.flush()
    withheld: list[UUID] = []
    if after.owner != Owner.BOT:
        withheld = await lanes.withhold(session, conversation.id)
        await leases.call(session, lanes.WORK, [(conversation.id, conversation.tenant_id)])
    if after.owner == Owner.CLOSED and before is not None:
        ended = (conversation.id, conversation.tenant_id, after.version, before, ROUTING)
        await (await driver(session)).execute(_ENDED, *ended)
    if moves_queue:
        await leases.call_key(session, ROUTING, conversation.tenant_id)
    hint(session, topic(conversation.channel_id, conversation.key))
    return changed(conversation.id, after, reason=reason, withheld=withheld)


def changed(
    conversation_id: UUID, after: Ownership, *, reason: str | None, withheld: Sequence[UUID] = ()
) -> Entry:
    """The stream entry that says who owns a conversation now."""
    data = {
        "conversation_id": str(conversation_id),
        "owner": str(after.owner),
        "owner_member_id": str(after.member_id) if after.member_id else None,
        "owner_version": after.version,
        "reason": reason,
        "withheld": [str(message_id) for message_id in withheld],
    }
    return Entry(type="conversation.owner_changed", data=data)


async def find(session: AsyncSession, channel_id: UUID, key: str) -> Conversation | None:
    """The direct conversation of a contact on a channel."""
    found = await session.exec(
        select(Conversation).where(
            Conversation.channel_id == channel_id,
            Conversation.key_type == "direct",
            Conversation.key == key,
        )
    )
    return found.one_or_none()
