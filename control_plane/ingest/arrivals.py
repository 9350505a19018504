"""Message events on their way in: read, checked and written for the statement while others wait.

What is done here is done before a writer is free, so that the writer only has to put it together.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from adapters.model import Segment
from control_plane.conversations.segments import preview
from control_plane.ingest.batch import AnyEvent, Batch, said
from control_plane.ingest.verify import Proven
from control_plane.kit import tracing
from control_plane.kit.ids import new_name
from control_plane.media import refs
from control_plane.speech.voices import unheard
from instance_agent.protocol import EventResult, MessageReceived, event_id

# Segments of one message that we keep; a platform's longest is far below.
_MAX_SEGMENTS = 50
# Characters of a platform's ids; they are index keys, which PostgreSQL bounds at 2,700 bytes.
_MAX_KEY = 500

_encoder = msgspec.json.Encoder()

Results = list[EventResult | None]
"""What became of a batch's events; None until it is known."""


@dataclass(eq=False)
class Arrival:
    """A message event with the place where its result goes; `row` is as the statement takes it."""

    proven: Proven
    event: AnyEvent
    message: MessageReceived
    received_at: datetime
    index: int
    sha256: bytes
    row: bytes
    media: frozenset[UUID]
    message_id: str
    voices: frozenset[UUID]
    results: Results = field(default_factory=list)

    @property
    def tenant_id(self) -> UUID:
        return self.proven.tenant_id

    @property
    def claim(self) -> tuple[UUID, UUID]:
        """Its event, as said by its instance: one from elsewhere only claims to be it."""
        return self.event.id, self.proven.instance_id

    @property
    def is_new(self) -> bool:
        """Stored now, for the first time."""
        result = self.results[self.index]
        return result is not None and result.status == "stored"

    def settle(self, status: Any, code: str | None = None) -> None:
        self.results[self.index] = EventResult(id=self.event.id, status=status, code=code)


@dataclass(eq=False)
class Arrivals:
    """The messages of a batch, and those of its events that could not be read."""

    messages: list[Arrival]
    refused: dict[int, EventResult]

    def begin(self, events: int) -> Results:
        """The results of a batch of so many events, before an attempt to store it."""
        results: Results = [self.refused.get(index) for index in range(events)]
        for arrival in self.messages:
            arrival.results = results
        return results

    @property
    def plain(self) -> bool:
        """Nothing of it is more than a message in words."""
        return not self.refused and not any(
            arrival.media or arrival.message.raw for arrival in self.messages
        )


class _Row(Struct):
    """An arrival as the statement takes it; the new ids count where nothing is there yet."""

    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID
    event_id: UUID
    sha256: bytes
    received_at: datetime
    occurred_at: datetime
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


class _Refused(Exception):
    """The event says something that cannot be stored."""


def read(proven: Proven, batch: Batch, received_at: datetime) -> Arrivals:
    """A batch's messages; pure but for the new ids."""
    messages: list[Arrival] = []
    refused: dict[int, EventResult] = {}
    for index, event in enumerate(batch.events):
        if event.type == "message.received":
            try:
                messages.append(_read(proven, event, received_at, index))
            except _Refused as error:
                refused[index] = EventResult(id=event.id, status="rejected", code=str(error))
    return Arrivals(messages, refused)


def _read(proven: Proven, event: AnyEvent, received_at: datetime, index: int) -> Arrival:
    message, media = _checked(event)
    message_id = new_name()
    # What it looked like on its way may differ the next time that it comes.
    bare = msgspec.structs.replace(message, raw="") if message.raw else message
    sha256 = hashlib.sha256(_encoder.encode(bare)).digest()
    row = _Row(
        proven.tenant_id,
        proven.instance_id,
        message.channel_id,
        event.id,
        sha256,
        received_at,
        event.occurred_at,
        new_name(),
        new_name(),
        message_id,
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
        media,
    )
    return Arrival(
        proven,
        event,
        message,
        received_at,
        index,
        sha256,
        _encoder.encode(row),
        media,
        message_id,
        # Who speaks of no stored object has no voice to hear.
        unheard(message.segments) if media else media,
    )


def _checked(event: AnyEvent) -> tuple[MessageReceived, frozenset[UUID]]:
    """The message and the stored objects that it speaks of."""
    try:
        message = said(event, MessageReceived)
    except msgspec.DecodeError:
        raise _Refused("malformed") from None
    if event.id != event_id(message.channel_id, message.dedupe_key):
        raise _Refused("wrong_event_id")
    if len(message.segments) > _MAX_SEGMENTS:
        raise _Refused("too_many_segments")
    if len(message.sender.id) > _MAX_KEY or len(message.conversation.id) > _MAX_KEY:
        raise _Refused("id_too_long")
    try:
        return message, frozenset(refs.ours(message.segments))
    except refs.NotAnId:
        raise _Refused("unknown_media") from None


def joined(rows: Iterable[bytes]) -> str:
    """All rows as the statement takes them."""
    return (b"[" + b",".join(rows) + b"]").decode()


def placed(arrivals: Sequence[Arrival]) -> str:
    """The rows of new arrivals, which are stored in this order, each with its places."""
    conversations = [_conversation(arrival) for arrival in arrivals]
    among = Counter(conversations)
    last = {_sender(arrival): arrival for arrival in arrivals}
    places: Counter[tuple[UUID, str, str]] = Counter()
    nths: Counter[UUID] = Counter()
    rows = []
    for arrival, conversation in zip(arrivals, conversations, strict=True):
        places[conversation] += 1
        nths[arrival.tenant_id] += 1
        rows.append(
            b'%b,"place":%d,"among":%d,"nth":%d,"last":%b}'
            % (
                arrival.row[:-1],
                places[conversation],
                among[conversation],
                nths[arrival.tenant_id],
                b"true" if last[_sender(arrival)] is arrival else b"false",
            )
        )
    return joined(rows)


def _conversation(arrival: Arrival) -> tuple[UUID, str, str]:
    message = arrival.message
    return message.channel_id, message.conversation.type, message.conversation.id


def _sender(arrival: Arrival) -> tuple[UUID, str]:
    return arrival.message.channel_id, arrival.message.sender.id
