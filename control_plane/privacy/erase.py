"""Erasing a contact: what they said and who they were goes, the numbers of messages stay.

Small transactions in an order that can be broken off anywhere and begun again: first the contact
is cut off from the platform's id, so that nothing new arrives there, then every message is
blanked. The audit keeps the proof: how much it was, and the hash of the erased messages' ids.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.channels import blacklist
from control_plane.conversations import search
from control_plane.db import leases
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.errors import not_found
from control_plane.media import service as media
from control_plane.privacy.export import CONVERSATIONS, FIRST
from control_plane.stream import log as stream
from control_plane.tenants.service import ROUTING

# Rows that one transaction changes.
BATCH = 500
# What a visitor writes while the batches before are removed is little.
ALL = 1_000_000
ERASED = "[erased]"
BLANK = json.dumps([{"type": "text", "text": ERASED}])

_CONTACT = "SELECT channel_id, platform_id FROM contacts WHERE id = $1 FOR UPDATE"
_VISITOR_MESSAGES = """
DELETE FROM webchat_messages WHERE id IN (
    SELECT m.id FROM webchat_messages AS m
    JOIN webchat_visitors AS v ON v.id = m.visitor_id
    JOIN contacts AS c ON c.channel_id = v.channel_id AND c.platform_id = v.id::text
    WHERE c.id = $1 LIMIT $2)
"""
_VISITOR = "DELETE FROM webchat_visitors WHERE channel_id = $1 AND id::text = $2"
_FORGET = "UPDATE contacts SET name = NULL, platform_id = 'erased:' || id WHERE id = $1"
# What members wrote down about them; of groups, that is about others as well.
_WRITTEN = (
    "DELETE FROM contact_cards WHERE contact_id = $1",
    "DELETE FROM contact_tags WHERE contact_id = $1",
    """
    DELETE FROM conversation_tags WHERE conversation_id IN (
        SELECT id FROM conversations WHERE contact_id = $1 AND key_type = 'direct')
    """,
)
_NOTES = """
DELETE FROM notes AS n WHERE n.contact_id = $1 AND (n.conversation_id IS NULL OR EXISTS (
    SELECT FROM conversations AS c WHERE c.id = n.conversation_id AND c.key_type = 'direct'))
"""
_CLOSE = """
UPDATE conversations SET key = 'erased:' || id, reply_handle = '{}', preview = $2,
    owner = 'closed', owner_member_id = NULL, waiting_reason = NULL,
    owner_version = owner_version + CASE WHEN owner = 'closed' THEN 0 ELSE 1 END
WHERE contact_id = $1 AND key_type = 'direct' AND key <> 'erased:' || id
"""
# Raw bytes that name the contact; those that a platform has encrypted go with retention.
_RAW = (
    """
    DELETE FROM callbacks WHERE channel_id = $1 AND dead_reason IS NOT NULL
        AND position(convert_to(to_json($2::text)::text, 'UTF8') IN body) > 0
    """,
    """
    DELETE FROM rejected_events WHERE instance_id = (SELECT instance_id FROM channels WHERE id = $1)
        AND position(convert_to(to_json($2::text)::text, 'UTF8') IN body) > 0
    """,
)
_PREVIEW = "UPDATE conversations SET preview = $2 WHERE id = $1"
_THREAD = """
SELECT id, number FROM messages
WHERE conversation_id = $1 AND number > $2 AND ($4::uuid IS NULL OR sender_id = $4)
ORDER BY number LIMIT $3
"""
_BLANK = """
UPDATE messages SET segments = $2, platform_id = NULL,
    sender_name = CASE WHEN sender_kind = 'contact' THEN NULL ELSE sender_name END
WHERE id = ANY ($1::uuid[])
"""
_DELIVERIES = """
UPDATE deliveries SET segments = $2, key = 'erased:' || conversation_id, reply_handle = '{}',
    state = CASE WHEN state = 'queued' THEN 'withheld' ELSE state END
WHERE message_id = ANY ($1::uuid[])
"""
_SENT = "DELETE FROM raw_messages WHERE message_id = ANY ($1::uuid[])"
_STEPS = """
DELETE FROM turn_steps WHERE turn_id IN (SELECT id FROM turns WHERE conversation_id = $1)
"""
_EXTERNAL = "DELETE FROM provider_conversations WHERE conversation_id = $1"
_TRANSFER_NOTES = "UPDATE routing_transfers SET note = '' WHERE conversation_id = $1 AND note <> ''"
_RATINGS = "DELETE FROM routing_ratings WHERE conversation_id = $1"
# The walls let no index be searched by what a function says of a row's data, so ids are read out
# of it first.
_STREAM = """
WITH page AS MATERIALIZED (
    SELECT id, epoch, seq, type, CASE WHEN type IN ('message.created', 'asr.completed')
        THEN (data ->> 'message_id')::uuid END AS message_id
    FROM stream WHERE tenant_id = $1 AND (epoch, seq) > ($2, $3) ORDER BY epoch, seq LIMIT $4
), blanked AS (
    UPDATE stream AS s SET data = CASE page.type
        WHEN 'asr.completed' THEN jsonb_set(s.data, '{text}', 'null')
        ELSE jsonb_set(s.data, '{sender,name}', 'null') END
    FROM page
    WHERE s.id = page.id AND EXISTS (
        SELECT FROM messages AS m WHERE m.id = page.message_id AND m.sender_id = $5)
)
SELECT epoch, seq FROM page ORDER BY epoch DESC, seq DESC LIMIT 1
"""


@dataclass(kw_only=True)
class Erased:
    """What was erased; `sha256` is of the messages' ids, in the order of their conversations."""

    conversations: int = 0
    messages: int = 0
    visitor_messages: int = 0
    media: int = 0
    blacklisted: int = 0
    notes: int = 0
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Whose data goes, and who asked."""

    database: Database
    tenant_id: UUID
    contact_id: UUID
    actor: Actor
    now: datetime

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self.database.session(Scope(tenants=(self.tenant_id,)))


async def erase(case: Case) -> Erased:
    """Erase a contact; repeating it finishes what was broken off, and proves it again."""
    erased = Erased()
    while gone := await _visitor_messages(case):
        erased.visitor_messages += gone
    await _cut_off(case, erased)
    digest = hashlib.sha256()
    async for conversation_id, own in _conversations(case):
        erased.conversations += 1
        async for ids, objects in _blank(case, conversation_id, own=own):
            erased.messages += len(ids)
            erased.media += objects
            digest.update(b"".join(message_id.bytes for message_id in ids))
    await _stream_words(case)
    erased.sha256 = digest.hexdigest()
    await _prove(case, erased)
    return erased


async def _visitor_messages(case: Case) -> int:
    async with case.session() as session:
        done = await (await driver(session)).execute(_VISITOR_MESSAGES, case.contact_id, BATCH)
    return _count(done)


async def _cut_off(case: Case, erased: Erased) -> None:
    """Nothing that the platform sends from now on, or that members write, belongs to them."""
    async with case.session() as session:
        connection = await driver(session)
        contact = await connection.fetchrow(_CONTACT, case.contact_id)
        if contact is None:
            raise not_found("contact")
        # What came since the last batch.
        late = _count(await connection.execute(_VISITOR_MESSAGES, case.contact_id, ALL))
        erased.visitor_messages += late
        await connection.execute(_VISITOR, contact["channel_id"], contact["platform_id"])
        await connection.execute(_CLOSE, case.contact_id, ERASED)
        await leases.call_key(session, ROUTING, case.tenant_id)
        for remove in _RAW:
            await connection.execute(remove, contact["channel_id"], contact["platform_id"])
        # By the platform's id, so before that is forgotten.
        erased.blacklisted = await blacklist.forget(
            session, case.tenant_id, case.contact_id, now=case.now
        )
        erased.notes = _count(await connection.execute(_NOTES, case.contact_id))
        for remove in _WRITTEN:
            await connection.execute(remove, case.contact_id)
        await connection.execute(_FORGET, case.contact_id)


async def _conversations(case: Case) -> AsyncIterator[tuple[UUID, bool]]:
    """(id, whether all of it is the contact's) of each conversation they spoke in."""
    after = FIRST
    while True:
        async with case.session() as session:
            rows = await (await driver(session)).fetch(
                CONVERSATIONS, case.tenant_id, after, BATCH, case.contact_id
            )
        if not rows:
            return
        for row in rows:
            yield row["id"], row["own"]
        after = rows[-1]["id"]


async def _blank(
    case: Case, conversation_id: UUID, *, own: bool
) -> AsyncIterator[tuple[list[UUID], int]]:
    """The ids of the messages that are blank now, and how many objects went, batch by batch."""
    number = 0
    while True:
        async with case.session() as session:
            connection = await driver(session)
            # The conversation's row lock comes first, as everywhere.
            await connection.execute(_PREVIEW, conversation_id, ERASED)
            sender = None if own else case.contact_id
            rows = await connection.fetch(_THREAD, conversation_id, number, BATCH, sender)
            ids = [row["id"] for row in rows]
            spoken_of = await media.of_messages(session, ids)
            await search.forget(session, case.tenant_id, ids)
            await connection.execute(_BLANK, ids, BLANK)
            await connection.execute(_DELIVERIES, ids, BLANK)
            await connection.execute(_SENT, ids)
            if own:
                await connection.execute(_STEPS, conversation_id)
                for remove in (_EXTERNAL, _TRANSFER_NOTES, _RATINGS):
                    await connection.execute(remove, conversation_id)
            objects = await media.forget(session, spoken_of)
        if not ids:
            return
        yield ids, objects
        number = rows[-1]["number"]


async def _stream_words(case: Case) -> None:
    """Past entries of the tenant's stream call the contact by name, and tell what voices said."""
    position = (0, 0)
    while True:
        async with case.session() as session:
            last = await (await driver(session)).fetchrow(
                _STREAM, case.tenant_id, *position, BATCH, case.contact_id
            )
        if last is None:
            return
        position = (last["epoch"], last["seq"])


async def _prove(case: Case, erased: Erased) -> None:
    async with case.session() as session:
        data = {"contact_id": str(case.contact_id)}
        await stream.append(
            session, case.tenant_id, [stream.Entry(type="contact.erased", data=data)]
        )
        audit.record(
            session,
            actor=case.actor,
            tenant_id=case.tenant_id,
            action="contact.erase",
            target=("contact", case.contact_id),
            now=case.now,
            after=asdict(erased),
        )


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
