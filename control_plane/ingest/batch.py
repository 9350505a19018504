"""A batch as it is read on the way in: what an event says is decoded once, by its type."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct, field

from instance_agent.protocol import EventType

T = TypeVar("T")

# How JSON writes the one character that PostgreSQL cannot hold in text; it has no other form.
_NUL = b"\\u0000"


class RawEvent(Struct, frozen=True, kw_only=True):
    """`instance_agent.protocol.Event` whose data nobody has looked at yet."""

    id: UUID
    type: EventType
    occurred_at: datetime
    data: msgspec.Raw
    trace: str = ""


class RawBatch(Struct, frozen=True, kw_only=True):
    """`instance_agent.protocol.EventBatch` of such events."""

    session_id: UUID
    events: list[RawEvent]
    checkpoints: dict[str, str] = field(default_factory=dict)


class AnyEvent(Protocol):
    """An event whose data was looked at, or not yet."""

    @property
    def id(self) -> UUID: ...
    @property
    def type(self) -> EventType: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def data(self) -> Any: ...
    @property
    def trace(self) -> str: ...


class Batch(Protocol):
    """What an agent posted."""

    @property
    def session_id(self) -> UUID: ...
    @property
    def events(self) -> Sequence[AnyEvent]: ...
    @property
    def checkpoints(self) -> Mapping[str, str]: ...


_decoder = msgspec.json.Decoder(RawBatch)
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def read(body: bytes) -> RawBatch:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(body)


def said(event: AnyEvent, kind: type[T]) -> T:
    """What an event says, fit to store; raises msgspec.DecodeError."""
    data = event.data
    if isinstance(data, msgspec.Raw):
        if _NUL not in bytes(data):
            return _decode(data, kind)
        data = msgspec.json.decode(data)
    return msgspec.convert(storable(data), kind)


def _decode(data: msgspec.Raw, kind: type[T]) -> T:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    found: T = decoder.decode(data)
    return found


def storable(value: Any) -> Any:
    """PostgreSQL cannot hold U+0000 in text: it becomes U+FFFD, and the message is kept."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        # The dedupe key is only hashed, and the agent has hashed it as it came.
        return {k: v if k == "dedupe_key" else storable(v) for k, v in value.items()}
    return value
