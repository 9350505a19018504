"""Writes a group of batches in one transaction; every statement takes all of the group's rows.

Rows are locked in one order everywhere (contacts, conversations by channel and key; then media;
then work; then stream heads by tenant), so that two writers never wait for each other in a circle.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from control_plane.conversations.models import Owner
from control_plane.conversations.segments import encode, preview
from control_plane.conversations.service import TURN, topic
from control_plane.db import leases
from control_plane.db.session import Session, driver, hint
from control_plane.ingest.batch import AnyEvent, said
from control_plane.ingest.commit import Pending
from control_plane.kit import tracing
from control_plane.kit.ids import new_id
from control_plane.media import refs
from control_plane.media import service as media
from control_plane.stream.log import Entry
from instance_agent.protocol import EventResult, MessageReceived, event_id

# Segments of one message that we keep; a platform's longest is far below.
_MAX_SEGMENTS = 50
# Characters of a platform's ids; they are index keys, which PostgreSQL bounds at 2,700 bytes.
_MAX_KEY = 500

_CHANNELS = """
SELECT id, tenant_id, instance_id FROM channels WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL
"""
_RECEIVE = """
INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bytea[], $5::timestamptz[])
ON CONFLICT DO NOTHING RETURNING event_id
"""
_KNOWN = """
SELECT event_id, sha256 FROM received
WHERE (channel_id, event_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
"""
_CONTACTS = """
INSERT INTO contacts (id, tenant_id, channel_id, platform_id, name, created_at, seen_at)
SELECT i.*, i.at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
    AS i (id, tenant_id, channel_id, platform_id, name, at)
ON CONFLICT (channel_id, platform_id) DO UPDATE
SET name = coalesce(excluded.name, contacts.name), seen_at = excluded.seen_at
RETURNING id, channel_id, platform_id
"""
# A closed conversation opens again, with the bot.
_CONVERSATIONS = """
INSERT INTO conversations AS c (id, tenant_id, instance_id, channel_id, contact_id, key_type, key,
    last_number, heard_number, reply_handle, preview, last_message_at, created_at, trace)
SELECT i.id, i.tenant_id, i.instance_id, i.channel_id, i.contact_id, i.key_type, i.key,
       i.n, i.n, i.reply_handle, i.preview, i.at, i.at, i.trace
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
            $8::bigint[], $9::jsonb[], $10::text[], $11::timestamptz[], $12::bytea[])
     AS i (id, tenant_id, instance_id, channel_id, contact_id, key_type, key, n, reply_handle,
           preview, at, trace)
ON CONFLICT (channel_id, key_type, key) DO UPDATE
SET last_number = c.last_number + excluded.last_number,
    heard_number = c.last_number + excluded.last_number,
    reply_handle = excluded.reply_handle,
    preview = excluded.preview,
    trace = excluded.trace,
    last_message_at = greatest(c.last_message_at, excluded.last_message_at),
    owner_version = c.owner_version + CASE WHEN c.owner = 'closed' THEN 1 ELSE 0 END,
    turned_number = CASE WHEN c.owner = 'closed' THEN c.last_number ELSE c.turned_number END,
    owner = CASE WHEN c.owner = 'closed' THEN 'bot' ELSE c.owner END
RETURNING id, channel_id, key_type, key, last_number, owner, owner_version
"""
_MESSAGES = """
INSERT INTO messages (id, tenant_id, conversation_id, number, sender_kind, sender_id, sender_name,
    segments, platform_id, occurred_at, created_at, trace)
SELECT i.id, i.tenant_id, i.conversation_id, i.number, 'contact', i.sender_id, i.sender_name,
       i.segments, i.platform_id, i.occurred_at, i.created_at, i.trace
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::uuid[], $6::text[], $7::jsonb[],
            $8::text[], $9::timestamptz[], $10::timestamptz[], $11::bytea[])
     AS i (id, tenant_id, conversation_id, number, sender_id, sender_name, segments, platform_id,
           occurred_at, created_at, trace)
"""

Key = tuple[UUID, str, str]

_encoder = msgspec.json.Encoder()


@dataclass(eq=False)
class Arrival:
    """A message event on its way in, with the place where its result goes."""

    tenant_id: UUID
    instance_id: UUID
    event: AnyEvent
    message: MessageReceived
    received_at: datetime
    results: list[EventResult | None]
    index: int
    sha256: bytes = field(init=False)
    key: Key = field(init=False)
    contact_id: UUID = field(init=False)
    conversation: Any = field(init=False)
    """Its row, with `conversation_id` as text, once the number is known."""
    number: int = field(init=False)
    media: frozenset[UUID] = frozenset()

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(_encoder.encode(self.message)).digest()
        said_in = self.message.conversation
        self.key = (self.message.channel_id, said_in.type, said_in.id)

    @property
    def is_new(self) -> bool:
        """Stored now, for the first time."""
        result = self.results[self.index]
        return result is not None and result.status == "stored"

    def settle(self, status: Any, code: str | None = None) -> None:
        self.results[self.index] = EventResult(id=self.event.id, status=status, code=code)


def read_messages(pending: Pending, results: list[EventResult | None]) -> list[Arrival]:
    """The batch's messages; those that cannot be read are settled as rejected."""
    arrivals = []
    for index, event in enumerate(pending.batch.events):
        if event.type != "message.received":
            continue
        try:
            message = said(event, MessageReceived)
        except msgspec.DecodeError:
            results[index] = EventResult(id=event.id, status="rejected", code="malformed")
            continue
        arrival = Arrival(
            tenant_id=pending.proven.tenant_id,
            instance_id=pending.proven.instance_id,
            event=event,
            message=message,
            received_at=pending.received_at,
            results=results,
            index=index,
        )
        if event.id != event_id(message.channel_id, message.dedupe_key):
            arrival.settle("rejected", "wrong_event_id")
        elif len(message.segments) > _MAX_SEGMENTS:
            arrival.settle("rejected", "too_many_segments")
        elif len(message.sender.id) > _MAX_KEY or len(message.conversation.id) > _MAX_KEY:
            arrival.settle("rejected", "id_too_long")
        elif _name_media(arrival):
            arrivals.append(arrival)
    return arrivals


async def store_messages(session: Session, arrivals: Sequence[Arrival]) -> dict[UUID, list[Entry]]:
    """Store what is new and settle every arrival; the stream entries of each tenant."""
    if not arrivals:
        return {}
    own = await _own_media(session, await _own_channels(session, arrivals))
    fresh = await _deduplicate(session, own)
    if not fresh:
        return {}
    await _upsert_contacts(session, fresh)
    touched = await _upsert_conversations(session, fresh)
    entries = await _insert_messages(session, fresh)
    await media.use(session, {each for arrival in fresh for each in arrival.media})
    bots = {
        (last.conversation["id"], last.tenant_id)
        for last in touched
        if last.conversation["owner"] == Owner.BOT
    }
    await leases.call(session, TURN, bots)
    return entries


async def _own_channels(session: Session, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """A batch may only speak of its own instance's channels, whoever else is in the group."""
    ids = list({arrival.message.channel_id for arrival in arrivals})
    rows = await (await driver(session)).fetch(_CHANNELS, ids)
    owners = {row["id"]: (row["tenant_id"], row["instance_id"]) for row in rows}
    own = []
    judged: dict[tuple[UUID, UUID], bool] = {}
    for arrival in arrivals:
        claim = (arrival.message.channel_id, arrival.instance_id)
        fits = judged.get(claim)
        if fits is None:
            fits = owners.get(claim[0]) == (arrival.tenant_id, arrival.instance_id)
            judged[claim] = fits
        if fits:
            own.append(arrival)
        else:
            arrival.settle("rejected", "unknown_channel")
    return own


def _name_media(arrival: Arrival) -> bool:
    """Note which stored objects the message speaks of; a made-up id is rejected."""
    try:
        arrival.media = frozenset(refs.ours(arrival.message.segments))
    except refs.NotAnId:
        arrival.settle("rejected", "unknown_media")
        return False
    return True


async def _own_media(session: Session, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """A message may only speak of its own tenant's stored objects, whoever else is in the group."""
    if not any(arrival.media for arrival in arrivals):
        return list(arrivals)
    wanted: dict[UUID, set[UUID]] = defaultdict(set)
    for arrival in arrivals:
        if arrival.media:
            wanted[arrival.tenant_id] |= arrival.media
    known = {tenant: await media.stored(session, tenant, ids) for tenant, ids in wanted.items()}
    own = []
    for arrival in arrivals:
        if arrival.media <= known.get(arrival.tenant_id, set()):
            own.append(arrival)
        else:
            arrival.settle("rejected", "unknown_media")
    return own


async def _deduplicate(session: Session, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those never seen before, in their order; the others are settled."""
    first: dict[tuple[UUID, UUID], Arrival] = {}
    for arrival in arrivals:
        first.setdefault((arrival.message.channel_id, arrival.event.id), arrival)
    if not first:
        return []
    # By number, which is PostgreSQL's order too: comparing the ids themselves takes a tenth of all.
    ordered = sorted(first.items(), key=lambda item: (item[0][0].int, item[0][1].int))
    connection = await driver(session)
    channels, events = [key[0] for key, _ in ordered], [key[1] for key, _ in ordered]
    new = await connection.fetch(
        _RECEIVE,
        channels,
        events,
        [arrival.tenant_id for _, arrival in ordered],
        [arrival.sha256 for _, arrival in ordered],
        [arrival.received_at for _, arrival in ordered],
    )
    stored = {row["event_id"] for row in new}
    known = {}
    if len(stored) < len(arrivals):
        rows = await connection.fetch(_KNOWN, channels, events)
        known = {row["event_id"]: row["sha256"] for row in rows}
    fresh = []
    for arrival in arrivals:
        original = first[arrival.message.channel_id, arrival.event.id]
        if arrival is original and arrival.event.id in stored:
            arrival.settle("stored")
            fresh.append(arrival)
        else:
            same = known.get(arrival.event.id) == arrival.sha256
            arrival.settle("duplicate" if same else "conflict")
    return fresh


async def _upsert_contacts(session: Session, fresh: Sequence[Arrival]) -> None:
    """Give each arrival its contact; a newer name replaces an older one."""
    grouped: dict[tuple[UUID, str], list[Arrival]] = defaultdict(list)
    for arrival in fresh:
        grouped[arrival.message.channel_id, arrival.message.sender.id].append(arrival)
    newest = [grouped[key][-1] for key in sorted(grouped, key=lambda key: (key[0].int, key[1]))]
    rows = await (await driver(session)).fetch(
        _CONTACTS,
        [new_id() for _ in newest],
        [a.tenant_id for a in newest],
        [a.message.channel_id for a in newest],
        [a.message.sender.id for a in newest],
        [a.message.sender.name for a in newest],
        [a.received_at for a in newest],
    )
    for row in rows:
        for arrival in grouped[row["channel_id"], row["platform_id"]]:
            arrival.contact_id = row["id"]


async def _upsert_conversations(session: Session, fresh: Sequence[Arrival]) -> list[Arrival]:
    """Give each arrival its conversation and number; the last arrival of each conversation."""
    grouped: dict[Key, list[Arrival]] = defaultdict(list)
    for arrival in fresh:
        grouped[arrival.key].append(arrival)
    ordered = [
        (key, grouped[key]) for key in sorted(grouped, key=lambda key: (key[0].int, *key[1:]))
    ]
    last = [arrivals[-1] for _, arrivals in ordered]
    rows = await (await driver(session)).fetch(
        _CONVERSATIONS,
        [new_id() for _ in ordered],
        [a.tenant_id for a in last],
        [a.instance_id for a in last],
        [key[0] for key, _ in ordered],
        [a.contact_id for a in last],
        [key[1] for key, _ in ordered],
        [key[2] for key, _ in ordered],
        [len(arrivals) for _, arrivals in ordered],
        [_encoder.encode(a.message.reply_handle).decode() for a in last],
        [preview(a.message.segments) for a in last],
        [a.received_at for a in last],
        [tracing.read(a.event.trace) for a in last],
    )
    for row in rows:
        arrivals = grouped[row["channel_id"], row["key_type"], row["key"]]
        conversation = dict(row) | {"conversation_id": str(row["id"])}
        before = row["last_number"] - len(arrivals)
        for number, arrival in enumerate(arrivals, start=before + 1):
            arrival.conversation, arrival.number = conversation, number
        hint(session, topic(row["channel_id"], row["key"]))
    return last


async def _insert_messages(session: Session, fresh: Sequence[Arrival]) -> dict[UUID, list[Entry]]:
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    rows = []
    for arrival in fresh:
        message = arrival.message
        message_id = new_id()
        rows.append(
            (
                message_id,
                arrival.tenant_id,
                arrival.conversation["id"],
                arrival.number,
                arrival.contact_id,
                message.sender.name,
                encode(message.segments),
                message.message_id,
                arrival.event.occurred_at,
                arrival.received_at,
                tracing.read(arrival.event.trace),
            )
        )
        entries[arrival.tenant_id].append(_entry(arrival, message_id))
    await (await driver(session)).execute(_MESSAGES, *map(list, zip(*rows, strict=True)))
    return entries


def _entry(arrival: Arrival, message_id: UUID) -> Entry:
    data = {
        "conversation_id": arrival.conversation["conversation_id"],
        "message_id": message_id,
        "number": arrival.number,
        "sender": {"kind": "contact", "name": arrival.message.sender.name},
        "owner": arrival.conversation["owner"],
        "owner_version": arrival.conversation["owner_version"],
    }
    return Entry(type="message.created", data=data)
