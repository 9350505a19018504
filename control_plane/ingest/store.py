"""Writes the messages of a group of batches in one statement, and says what became of each."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from adapters.model import Segment
from control_plane.conversations.segments import preview
from control_plane.conversations.service import TURN, topic
from control_plane.db import leases
from control_plane.db.session import Session, Transaction, driver, hint, written
from control_plane.ingest.batch import AnyEvent, said
from control_plane.ingest.commit import Pending
from control_plane.ingest.statement import STORE, STORE_ALONE
from control_plane.ingest.verify import Proven
from control_plane.kit import tracing
from control_plane.kit.errors import Conflict
from control_plane.kit.ids import new_name
from control_plane.media import refs
from control_plane.media import service as media
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from instance_agent.protocol import EventResult, MessageReceived, event_id

# Segments of one message that we keep; a platform's longest is far below.
_MAX_SEGMENTS = 50
# Characters of a platform's ids; they are index keys, which PostgreSQL bounds at 2,700 bytes.
_MAX_KEY = 500

_KNOWN = """
SELECT event_id, sha256 FROM received
WHERE (channel_id, event_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
"""

# The state by which a statement says that it has refused itself (`refuse()` of the schema).
_REFUSED = "BY001"

_encoder = msgspec.json.Encoder()


@dataclass(eq=False)
class Arrival:
    """A message event on its way in, with the place where its result goes."""

    proven: Proven
    event: AnyEvent
    message: MessageReceived
    received_at: datetime
    results: list[EventResult | None]
    index: int
    media: frozenset[UUID] = frozenset()

    @property
    def tenant_id(self) -> UUID:
        return self.proven.tenant_id

    @property
    def is_new(self) -> bool:
        """Stored now, for the first time."""
        result = self.results[self.index]
        return result is not None and result.status == "stored"

    @cached_property
    def sha256(self) -> bytes:
        """What tells a repeat from another message under the same key."""
        return hashlib.sha256(_encoder.encode(self.message)).digest()

    def settle(self, status: Any, code: str | None = None) -> None:
        self.results[self.index] = EventResult(id=self.event.id, status=status, code=code)


Claims = Mapping[tuple[UUID, UUID], Arrival]
"""The first arrival of each event and instance, in the order in which they are stored."""


class _Row(Struct):
    """An arrival as the statement takes it; the new ids count where nothing is there yet."""

    n: int
    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID
    event_id: UUID
    sha256: bytes
    received_at: datetime
    occurred_at: datetime
    month: int
    contact_id: str
    conversation_id: str
    message_id: str
    entry_id: str
    sender: str
    name: str | None
    key_type: str
    key: str
    reply_handle: dict[str, str]
    preview: str
    segments: list[Segment]
    platform_id: str
    trace: bytes | None
    media: frozenset[UUID]


class _Posted(Struct):
    """A batch as the statement takes it."""

    instance_id: UUID
    webhook_id: str
    tenant_id: UUID
    sha256: bytes
    received_at: datetime


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
            proven=pending.proven,
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


async def store(session: Session, arrivals: Sequence[Arrival]) -> dict[UUID, list[Entry]]:
    """Store what is new and settle every arrival; the stream entries of each tenant."""
    own = await _own_media(session, arrivals)
    if not own:
        return {}
    first = once(own)
    done = await (await driver(session)).fetchrow(STORE, _rows(first.values()))
    _tell(session, first, done)
    settle(own, first, done, await known(session, first, done))
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    for tenant_id, data in zip(done["tenants"], done["entries"], strict=True):
        entries[tenant_id].append(Entry(type="message.created", data=msgspec.json.decode(data)))
    return entries


async def store_alone(
    session: Transaction, group: Sequence[Pending], first: Claims, tenants: Sequence[UUID]
) -> Mapping[str, Any]:
    """The same for a group that has nothing else, with all that follows, by the one statement.

    Raises what `is_refusal` knows where that alone would not do: then nothing was stored.
    """
    done: Mapping[str, Any]
    (done,) = await session.connection.fetch(
        STORE_ALONE, _rows(first.values()), _posted(group), written(tenants)
    )
    stored = set(range(len(first))) - {*done["strange"], *done["repeats"]}
    stream.appended(
        session, {each.tenant_id for n, each in enumerate(first.values()) if n in stored}, done
    )
    _tell(session, first, done)
    return done


def is_refusal(error: Exception) -> bool:
    """Whether a statement has refused itself."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate == _REFUSED


def new_messages(arrivals: Iterable[Arrival]) -> Counter[tuple[UUID, int]]:
    """How many were stored now, per tenant and month: what their quota counts."""
    return Counter(
        (arrival.proven.tenant_id, quota.month_of(arrival.received_at))
        for arrival in arrivals
        if arrival.is_new
    )


def by_webhook_id(group: Sequence[Pending]) -> dict[tuple[UUID, str], Pending]:
    """The group's batches, each once; raises Conflict where two of one id differ."""
    found: dict[tuple[UUID, str], Pending] = {}
    for pending in group:
        proven = pending.proven
        same = found.setdefault((proven.instance_id, proven.webhook_id), pending)
        if same.proven.sha256 != proven.sha256:
            raise reused()
    return found


def reused() -> Conflict:
    return Conflict("webhook_id_reused", "This webhook-id came with another body before.")


def _posted(group: Sequence[Pending]) -> str:
    rows = [
        _Posted(
            pending.proven.instance_id,
            pending.proven.webhook_id,
            pending.proven.tenant_id,
            pending.proven.sha256,
            pending.received_at,
        )
        for pending in by_webhook_id(group).values()
    ]
    return _encoder.encode(rows).decode()


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


def once(arrivals: Iterable[Arrival]) -> Claims:
    """The first of each event: one of the same id from elsewhere only claims to be it."""
    first: dict[tuple[UUID, UUID], Arrival] = {}
    for arrival in arrivals:
        first.setdefault(_claim(arrival), arrival)
    return first


def _claim(arrival: Arrival) -> tuple[UUID, UUID]:
    return arrival.event.id, arrival.proven.instance_id


def _row(n: int, arrival: Arrival) -> _Row:
    proven, event, message = arrival.proven, arrival.event, arrival.message
    return _Row(
        n,
        proven.tenant_id,
        proven.instance_id,
        message.channel_id,
        event.id,
        arrival.sha256,
        arrival.received_at,
        event.occurred_at,
        quota.month_of(arrival.received_at),
        new_name(),
        new_name(),
        new_name(),
        new_name(),
        message.sender.id,
        message.sender.name,
        message.conversation.type,
        message.conversation.id,
        message.reply_handle,
        preview(message.segments),
        message.segments,
        message.message_id,
        tracing.read(event.trace),
        arrival.media,
    )


def _rows(arrivals: Iterable[Arrival]) -> str:
    return _encoder.encode([_row(n, each) for n, each in enumerate(arrivals)]).decode()


def settle(
    arrivals: Sequence[Arrival],
    first: Claims,
    done: Mapping[str, Any],
    known: Mapping[UUID, bytes],
) -> None:
    """Say what became of each; `known` is what came before under the ids of repeats."""
    each = list(first.values())
    for n in done["strange"]:
        each[n].settle("rejected", "unknown_channel")
    for arrival in arrivals:
        original = first[_claim(arrival)]
        result = original.results[original.index]
        if result is not None and result.status == "rejected":
            arrival.settle("rejected", result.code)
        elif arrival is original and arrival.event.id not in known:
            arrival.settle("stored")
        else:
            same = known.get(arrival.event.id, original.sha256) == arrival.sha256
            arrival.settle("duplicate" if same else "conflict")


async def known(session: Session, first: Claims, done: Mapping[str, Any]) -> dict[UUID, bytes]:
    """What came before under the ids of repeats.

    By a statement that sees what others have committed.
    """
    if not done["repeats"]:
        return {}
    each = list(first.values())
    repeats = [each[n] for n in done["repeats"]]
    rows = await (await driver(session)).fetch(
        _KNOWN,
        [arrival.message.channel_id for arrival in repeats],
        [arrival.event.id for arrival in repeats],
    )
    return {row["event_id"]: row["sha256"] for row in rows}


def _tell(session: Session, first: Claims, done: Mapping[str, Any]) -> None:
    """Tell who waits for what was stored."""
    without = {*done["strange"], *done["repeats"]}
    for n, arrival in enumerate(first.values()):
        if n not in without:
            said_in = arrival.message
            hint(session, topic(said_in.channel_id, said_in.conversation.id))
    if done["turns"]:
        hint(session, leases.topic(TURN))
