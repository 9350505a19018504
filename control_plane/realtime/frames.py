"""The frames of both directions, and their two forms on the wire; pure.

A frame is encoded once for each form and the bytes are shared by everybody who gets it.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct
from websockets.frames import Frame, Opcode

from control_plane.kit.errors import BadRequest

MAX_ID = 64
# What PostgreSQL counts with.
Number = Annotated[int, Meta(ge=0, le=2**62)]


class Position(NamedTuple):
    """A place in a tenant's stream; positions of one tenant are ordered."""

    epoch: int
    seq: int


# Before every stream: epochs begin at 1.
NOWHERE = Position(0, 0)


class Resume(Struct, frozen=True):
    """Where a client stopped."""

    epoch: Number
    seq: Number

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq)


class Said(Struct, frozen=True):
    """What a client sends: `auth` with a token, everything else is a command with an id."""

    type: str
    token: str = ""
    resume: Resume | None = None
    id: str = ""
    data: dict[str, Any] = {}


Form = Callable[[bytes, Position | None], bytes]
"""How encoded JSON goes onto a wire."""

_decoder = msgspec.json.Decoder(Said)


def read(data: str | bytes) -> Said:
    """Raises BadRequest."""
    try:
        said = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise BadRequest("malformed_frame", "The frame is not JSON of a known form.") from None
    if said.type != "auth" and (not 0 < len(said.id) <= MAX_ID or "\0" in said.id):
        raise BadRequest("invalid_id", f"A command's id has 1 to {MAX_ID} characters, no NUL.")
    return said


def read_event_id(header: str | None) -> Resume | None:
    """The `Last-Event-ID` of an event stream; one that is not ours means: begin anew."""
    if header is None:
        return None
    epoch, _, seq = header.partition("-")
    try:
        return msgspec.convert({"epoch": epoch, "seq": seq}, Resume, strict=False)
    except msgspec.ValidationError:
        return Resume(0, 0)


def websocket(payload: bytes, _at: Position | None) -> bytes:
    """A text frame, ready for the wire."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def server_sent(payload: bytes, at: Position | None) -> bytes:
    """An event of an event stream; JSON holds no line breaks."""
    name = b"" if at is None else b"id: %d-%d\n" % at
    return name + b"data: " + payload + b"\n\n"


def event(at: Position, kind: str, data: Any) -> bytes:
    """Something that happened."""
    said = {"type": "event", "epoch": at.epoch, "seq": at.seq}
    return msgspec.json.encode({**said, "event": {"type": kind, "data": data}})


def reset(at: Position) -> bytes:
    """What lies before `at` cannot be told any more: load it again."""
    return msgspec.json.encode({"type": "reset", "epoch": at.epoch, "seq": at.seq})
