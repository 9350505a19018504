"""The waiting queue of a tenant: what is in it, giving one of it to a member, what it is told.

A wait belongs to one version of a conversation's owner: whoever changes the owner ends it, and
nothing has to be removed. Each change is a transaction of its own, which locks the conversation,
then the member.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.model import Segment, Text
from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Conversation, Owner
from control_plane.conversations.ownership import Ownership
from control_plane.conversations.service import Author
from control_plane.db.session import Session, driver
from control_plane.routing import members
from control_plane.routing.choosing import Rules, Waiting, choose
from control_plane.routing.members import Member
from control_plane.routing.settings import Kept
from control_plane.stream.log import Entry

# Conversations of one tenant that are looked at together, the oldest; the others come after them.
MOST = 500
# How far back somebody who answered is remembered, in messages of the conversation.
_KNOWN_WITHIN = 200

SYSTEM = Author(kind="system", id=None, name="")

_BEGIN = """
INSERT INTO routing_waits AS w
    (conversation_id, tenant_id, owner_version, since, skill, known_member_id)
SELECT c.id, c.tenant_id, c.owner_version, least(c.last_message_at, $2::timestamptz), n.skill, (
    SELECT m.sender_id FROM messages AS m
    WHERE m.conversation_id = c.id AND m.number > c.last_number - $5 AND m.sender_kind = 'human'
    ORDER BY m.number DESC LIMIT 1)
FROM conversations AS c
LEFT JOIN unnest($3::uuid[], $4::text[]) AS n (channel_id, skill) ON n.channel_id = c.channel_id
WHERE c.tenant_id = $1 AND c.owner = 'waiting' AND NOT EXISTS (
    SELECT FROM routing_waits AS w
    WHERE w.conversation_id = c.id AND w.owner_version = c.owner_version)
ORDER BY c.last_message_at LIMIT $6
ON CONFLICT (conversation_id) DO UPDATE SET owner_version = excluded.owner_version,
    since = excluded.since, priority = 0, skill = excluded.skill, member_id = NULL,
    known_member_id = excluded.known_member_id, told_at = NULL, told_place = NULL,
    told_closed = false
WHERE w.owner_version < excluded.owner_version
"""
_HAND = """
INSERT INTO routing_waits (conversation_id, tenant_id, owner_version, since, priority, skill,
    member_id)
VALUES ($1, $2, $3, $4, 1, $5, $6)
ON CONFLICT (conversation_id) DO UPDATE SET owner_version = excluded.owner_version,
    since = excluded.since, priority = excluded.priority, skill = excluded.skill,
    member_id = excluded.member_id, known_member_id = NULL, told_at = NULL, told_place = NULL,
    told_closed = false
"""
_QUEUE = """
SELECT w.*, c.channel_id FROM conversations AS c JOIN routing_waits AS w
    ON w.conversation_id = c.id AND w.owner_version = c.owner_version
WHERE c.tenant_id = $1 AND c.owner = 'waiting'
ORDER BY w.priority DESC, w.since, w.conversation_id LIMIT $2
"""
_TOLD = """
UPDATE routing_waits SET told_at = $2, told_place = $3, told_closed = told_closed OR $4
WHERE conversation_id = $1
"""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """One wait, and what the customer was told of it."""

    waiting: Waiting
    channel_id: UUID
    owner_version: int
    told_at: datetime | None
    told_place: int | None
    told_closed: bool


async def begin(session: Session, tenant_id: UUID, kept: Kept, now: datetime) -> None:
    """Take up what has come to wait."""
    needs = kept.routing.needs
    await (await driver(session)).execute(
        _BEGIN,
        tenant_id,
        now,
        [need.channel_id for need in needs],
        [need.skill for need in needs],
        _KNOWN_WITHIN,
        MOST,
    )


async def queue(session: Session, tenant_id: UUID, *, limit: int = MOST) -> list[Wait]:
    """What waits, in the order in which it is given out."""
    rows = await (await driver(session)).fetch(_QUEUE, tenant_id, limit)
    return [_wait(row) for row in rows]


async def hand(
    session: AsyncSession,
    conversation: Conversation,
    *,
    member_id: UUID | None,
    skill: str | None,
    now: datetime,
) -> None:
    """A locked conversation that waits from now on waits for somebody, before all others."""
    await (await driver(session)).execute(
        _HAND,
        conversation.id,
        conversation.tenant_id,
        conversation.owner_version,
        now,
        skill,
        member_id,
    )


async def give(
    session: AsyncSession, kept: Kept, wait: Wait, member_id: UUID, now: datetime
) -> Entry | None:
    """Give a waiting conversation to a member, unless either is not what it was."""
    conversation = await still(session, wait)
    if conversation is None:
        return None
    member = await members.locked(session, conversation.tenant_id, member_id, kept=kept, now=now)
    if member is None or not takes(member, wait.waiting, kept.rules, kept, now):
        return None
    return await assign(session, conversation, member, actor=None, now=now)


def takes(member: Member, waiting: Waiting, rules: Rules, kept: Kept, now: datetime) -> bool:
    """Whether this member may be given it now."""
    return choose(waiting, [member.candidate(kept, now)], rules, now) is not None


async def assign(
    session: AsyncSession,
    conversation: Conversation,
    member: Member,
    *,
    actor: Actor | None,
    now: datetime,
) -> Entry:
    """A locked conversation is a locked member's from now on; the stream entry that says so."""
    before = conversation.owner_member_id
    after = Ownership(
        owner=Owner.HUMAN, member_id=member.id, version=conversation.owner_version + 1
    )
    entry = await conversations.own(session, conversation, after, reason=None)
    await members.given(session, member.id, now)
    audit.record(
        session,
        actor=actor,
        tenant_id=conversation.tenant_id,
        action="conversation.assign",
        target=("conversation", conversation.id),
        now=now,
        before={"member_id": str(before) if before else None},
        after={"member_id": str(member.id), "version": after.version},
    )
    return entry


async def tell(
    session: AsyncSession, wait: Wait, text: str, *, place: int, closed: bool, now: datetime
) -> Entry | None:
    """Say something to a customer who still waits."""
    conversation = await still(session, wait)
    if conversation is None:
        return None
    segments: list[Segment] = [Text(text=text)]
    _id, entry = await conversations.say(
        session, conversation, author=SYSTEM, segments=segments, now=now
    )
    await (await driver(session)).execute(_TOLD, conversation.id, now, place, closed)
    return entry


async def still(session: AsyncSession, wait: Wait) -> Conversation | None:
    """The conversation, locked, if this wait of it goes on."""
    conversation = await conversations.lock(session, wait.waiting.conversation_id)
    same = conversation.owner_version == wait.owner_version
    return conversation if same and conversation.owner == Owner.WAITING else None


def to_tell(
    wait: Wait, place: int, kept: Kept, now: datetime, *, closed: bool
) -> tuple[str, bool] | None:
    """What the customer hears now, and whether it is that nobody works; None for nothing.

    That nobody works is said once a wait; the place, where it has changed, and not too often.
    """
    routing = kept.routing
    if closed and routing.closed_text:
        return None if wait.told_closed else (routing.closed_text, True)
    if not routing.place_text or wait.told_place == place:
        return None
    minutes = routing.place_every_min
    if wait.told_at is not None and (now - wait.told_at).total_seconds() < 60 * minutes:
        return None
    return routing.place_text.replace("{place}", str(place)), False


def _wait(row: Any) -> Wait:
    return Wait(
        waiting=Waiting(
            conversation_id=row["conversation_id"],
            since=row["since"],
            priority=row["priority"],
            skill=row["skill"],
            member_id=row["member_id"],
            known_member_id=row["known_member_id"],
        ),
        channel_id=row["channel_id"],
        owner_version=row["owner_version"],
        told_at=row["told_at"],
        told_place=row["told_place"],
        told_closed=row["told_closed"],
    )


def waitings(queue: Sequence[Wait]) -> list[Waiting]:
    return [wait.waiting for wait in queue]
