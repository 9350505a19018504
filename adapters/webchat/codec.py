"""Web chat's words to the neutral model and back; pure."""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import decode as decode_json

from adapters import cutting
from adapters.model import (
    ConversationKey,
    Image,
    Inbound,
    Ref,
    Rejected,
    Segment,
    Sender,
    Text,
    Unsupported,
    in_words,
)

# Characters that the platform takes in one message.
MAX_TEXT = 4000
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799

Id = Annotated[str, Meta(min_length=1, max_length=200)]


class Visitor(Struct, frozen=True, kw_only=True):
    """The person on the web page."""

    id: Id
    name: Annotated[str, Meta(max_length=200)] | None = None


class Frame(Struct, frozen=True, kw_only=True):
    """What the platform posts for a visitor's message; `at` is in Unix seconds.

    `picture` is the media id of a picture that the visitor stored; it or a text is there.
    """

    type: Literal["message"]
    visitor: Visitor
    id: Id
    text: Annotated[str, Meta(max_length=20_000)] = ""
    picture: UUID | None = None
    at: Annotated[float, Meta(ge=0, le=_END_OF_TIME)]


def decode(body: bytes, *, ours: bool) -> Inbound | Rejected:
    """A callback's body as a message; never raises.

    `ours`: the platform is our own control plane, so that its pictures are in our store already.
    """
    try:
        frame = decode_json(body, type=Frame)
    except (MsgspecError, UnicodeDecodeError) as error:
        return Rejected(reason=f"not a web-chat message: {error}")
    if "\0" in f"{frame.visitor.id}{frame.visitor.name}{frame.id}{frame.text}":
        return Rejected(reason="not a web-chat message: a NUL character")
    if not frame.text and frame.picture is None:
        return Rejected(reason="not a web-chat message: neither text nor picture")
    return Inbound(
        dedupe_key=f"{frame.visitor.id}:{frame.id}",
        message_id=frame.id,
        occurred_at=frame.at,
        conversation=ConversationKey(type="direct", id=frame.visitor.id),
        sender=Sender(id=frame.visitor.id, name=frame.visitor.name),
        segments=_segments(frame, ours=ours),
    )


def _segments(frame: Frame, *, ours: bool) -> list[Segment]:
    said: list[Segment] = []
    if frame.picture is not None:
        said.append(
            Image(ref=Ref(via="media", id=str(frame.picture)))
            if ours
            else Unsupported(platform_type="picture", reason="it is kept by another control plane")
        )
    return [*said, Text(text=frame.text)] if frame.text else said


def split(segments: Sequence[Segment], *, ours: bool) -> list[list[Segment]]:
    """Cut a message into parts of at most MAX_TEXT characters; pictures of our store stay."""
    parts: list[list[Segment]] = []
    room = 0
    for segment in segments:
        if ours and isinstance(segment, Image) and segment.ref.via == "media":
            parts.append([segment])
            room = 0
            continue
        for piece in cutting.pieces(in_words(segment), cutting.characters(MAX_TEXT)):
            if not parts or len(piece) > room:
                parts.append([])
                room = MAX_TEXT
            parts[-1].append(Text(text=piece))
            room -= len(piece)
    return parts
