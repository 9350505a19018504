"""Neutral segments to OneBot's messages; pure.

What a segment goes out as, the first that the client takes:

    text, at, face, quote           one message together, cut at 3,000 characters; always a list of
                                    segments, so that no text can become a CQ code
    image, voice, video, file       a message of its own, words where it is too large
    card of JSON                    json, text otherwise
    voice without sound             its transcript as text
    all else                        what it says in words
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

from adapters import cutting
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Image,
    Ref,
    Reply,
    Segment,
    Text,
    Video,
    Voice,
    in_words,
)
from adapters.onebot.codec import JSON_CARD, MAX_CARD

# Characters of one message. QQ shows some 4,500; beyond that a client fails without a reason.
MAX_TEXT = 3000
# Bytes of one medium: it goes out inside the call, a third larger, and the socket takes 8 MiB.
MAX_MEDIUM_BYTES = 5 * 1024 * 1024
# Calls of the largest medium, and room around it.
MAX_CALL_BYTES = 8 * 1024 * 1024

_INLINE = (Text, At, Face, Reply)
_MEDIA = {Image: "image", Voice: "record", Video: "video", File: "file"}

Fields = dict[str, Any]


class Call(NamedTuple):
    """An action of OneBot's API and its parameters."""

    action: str
    params: Fields


def send(
    conversation: ConversationKey, reply_handle: dict[str, str], message: list[Fields]
) -> Call:
    """The call that says it; raises ValueError for nobody that can be written to."""
    to = _number(conversation.id)
    if conversation.type == "group":
        return Call("send_group_msg", {"group_id": to, "message": message})
    if conversation.type != "direct":
        raise ValueError("neither a person nor a group")
    by_way_of = reply_handle.get("group_id")
    more = {"group_id": _number(by_way_of)} if by_way_of else {}
    return Call("send_private_msg", {"user_id": to, **more, "message": message})


def framed(call: Call, echo: str) -> Fields:
    """The same for a socket, where the answer repeats `echo`."""
    return {"action": call.action, "params": call.params, "echo": echo}


def message(segments: Sequence[Segment], *, in_group: bool, media: str = "") -> list[Fields]:
    """OneBot's segments; `media` is what to write for the one medium, empty for words."""
    found = [_written(each, in_group=in_group, media=media) for each in segments]
    return [each for each in found if each is not None]


def medium(segments: Sequence[Segment]) -> tuple[Segment, Ref] | None:
    """What has to be brought along."""
    for each in segments:
        if isinstance(each, Image | Voice | Video | File) and each.ref is not None:
            return each, each.ref
    return None


def _written(segment: Segment, *, in_group: bool, media: str) -> Fields | None:
    match segment:
        case Reply():
            return _data("reply", id=segment.message_id) if segment.message_id else None
        case At() if in_group:
            return _data("at", qq=segment.target)
        case Face():
            return _data("face", id=segment.id)
        case Image() | Voice() | Video() | File() if media:
            name = {"name": segment.name} if isinstance(segment, File) and segment.name else {}
            return _data(_MEDIA[type(segment)], file=media, **name)
        case Card() if _is_json(segment):
            return _data("json", data=segment.data)
        case _:
            words = in_words(segment)
            return _data("text", text=words) if words else None


class _Parts(Struct):
    """A message on its way into parts: those that are done, and one that takes more."""

    done: list[list[Segment]] = field(default_factory=list)
    open: list[Segment] = field(default_factory=list)
    quote: Reply | None = None

    def say(self, words: str, *, inline: bool) -> None:
        last = self.open[-1] if self.open else None
        before = last.text if isinstance(last, Text) else ""
        if self.open and not inline and not before.endswith("\n"):
            words = "\n" + words
        if isinstance(last, Text):
            self.open.pop()
        *full, rest = cutting.pieces(before + words, cutting.characters(MAX_TEXT)) or [""]
        for piece in full:
            self.open.append(Text(text=piece))
            self.end()
        if rest:
            self.open.append(Text(text=rest))

    def put(self, segment: Segment) -> None:
        self.end()
        self.open.append(segment)
        self.end()

    def end(self) -> None:
        if any(not (isinstance(each, Text) and not each.text.strip()) for each in self.open):
            quote, self.quote = self.quote, None
            self.done.append([*([quote] if quote else []), *self.open])
        self.open = []


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """A message as the parts that a client takes in one call each."""
    parts = _Parts()
    for each in segments:
        match each:
            case Reply():
                parts.quote = parts.quote or (each if each.message_id else None)
            case At() | Face():
                parts.open.append(each)
            case Image() | Video() | File():
                parts.put(each)
            case Voice() if each.ref is not None:
                parts.put(each)
            case Card() if _is_json(each):
                parts.put(each)
            case _:
                parts.say(in_words(each), inline=isinstance(each, _INLINE))
    parts.end()
    return parts.done


def _is_json(card: Card) -> bool:
    if card.format != JSON_CARD or not card.data or len(card.data) > MAX_CARD:
        return False
    try:
        msgspec.json.decode(card.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _data(kind: str, **data: Any) -> Fields:
    return {"type": kind, "data": data}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 20):
        raise ValueError("this is no QQ number")
    return int(text)
