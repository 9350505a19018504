"""Frames of the long connection, and what goes out in either transport; pure.

What a segment goes out as, the first that the platform takes:

    text, markdown, what can be said in words    markdown, cut at 20,480 bytes
    image, voice, video                          long connection: the same, a file otherwise
    file                                         long connection: file
    image                                        callback: in the answer, ten at most
    card of the platform's own form              long connection: template_card
    whatever is left                             its words
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from adapters import cutting
from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Image,
    Rejected,
    Reply,
    Segment,
    Text,
    Video,
    Voice,
    in_words,
)

TEMPLATE_CARD = "wecom.template_card"
# Bytes of one answer or push.
MAX_CONTENT_BYTES = 20_480
# Pictures in one answer to a callback, and their bytes: base64 twice over makes them almost double,
# and what an agent answers to a call may have a mebibyte.
MAX_IMAGES = 10
MAX_IMAGES_BYTES = 500_000
# Every upload has more than five bytes; a piece of one, before base64.
MIN_UPLOAD_BYTES = 6
CHUNK_BYTES = 512 * 1024
_MB = 1024 * 1024
# What the platform takes as which kind of media: content types, and at most how many bytes.
_UPLOADS: dict[str, tuple[frozenset[str], int]] = {
    "image": (frozenset({"image/jpeg", "image/png"}), 10 * _MB),
    "voice": (frozenset({"audio/amr"}), 2 * _MB),
    "video": (frozenset({"video/mp4"}), 10 * _MB),
}
MAX_FILE_BYTES = 20 * _MB
_SINGLE, _GROUP = 1, 2
_INLINE = (Text, At, Face, Reply)

Body = dict[str, Any]


# --- frames ----------------------------------------------------------------------------------


class _Headers(Struct, frozen=True):
    req_id: str = ""


class Frame(Struct, frozen=True):
    """One message of the long connection; an answer has no `cmd`."""

    cmd: str = ""
    headers: _Headers = _Headers()
    body: msgspec.Raw = field(default_factory=msgspec.Raw)
    errcode: int = 0
    errmsg: str = ""

    @property
    def req_id(self) -> str:
        return self.headers.req_id


_frames = msgspec.json.Decoder(Frame)


def frame(received: str | bytes) -> Frame | Rejected:
    """What the platform sent; never raises."""
    try:
        return _frames.decode(received)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Rejected(reason="not a frame")


def call(cmd: str, req_id: str, body: Mapping[str, Any] | None = None) -> Body:
    """A frame of ours."""
    found: Body = {"cmd": cmd, "headers": {"req_id": req_id}}
    return found if body is None else found | {"body": dict(body)}


def subscribe(bot_id: str, secret: str) -> Body:
    return {"bot_id": bot_id, "secret": secret}


def push(to: ConversationKey, body: Mapping[str, Any]) -> Body:
    """A message that answers nothing."""
    return {"chatid": to.id, "chat_type": _GROUP if to.type == "group" else _SINGLE, **body}


# --- out -------------------------------------------------------------------------------------


def markdown(text: str) -> Body:
    return {"msgtype": "markdown", "markdown": {"content": text}}


def media_body(kind: str, media_id: str) -> Body:
    return {"msgtype": kind, kind: {"media_id": media_id}}


def card(segment: Segment) -> Body | None:
    """A card of the platform's own form; None for any other."""
    if not isinstance(segment, Card) or segment.format != TEMPLATE_CARD or not segment.data:
        return None
    try:
        data = msgspec.json.decode(segment.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return {"msgtype": "template_card", "template_card": data} if data else None


def picture(content: Content, *, room: int = MAX_IMAGES_BYTES) -> Body | None:
    """A picture inside an answer; None when it could not be shown there."""
    types, limit = _UPLOADS["image"]
    fits = MIN_UPLOAD_BYTES <= len(content.body) <= min(limit, room)
    if content.content_type not in types or not fits:
        return None
    digest = hashlib.md5(content.body, usedforsecurity=False).hexdigest()
    encoded = base64.b64encode(content.body).decode()
    return {"msgtype": "image", "image": {"base64": encoded, "md5": digest}}


def upload_kind(segment: Segment, content: Content) -> str | None:
    """What to upload it as; None when the platform takes it as nothing."""
    size = len(content.body)
    if size < MIN_UPLOAD_BYTES:
        return None
    wanted = type(segment).__name__.lower()
    types, limit = _UPLOADS.get(wanted, (frozenset(), 0))
    if content.content_type in types and size <= limit:
        return wanted
    return "file" if size <= MAX_FILE_BYTES else None


def clipped(text: str) -> str:
    """As much as one message takes."""
    return text[: cutting.utf8_bytes(MAX_CONTENT_BYTES)(text)]


class _Parts(Struct):
    """A message on its way into parts: those that are done, and the words that wait for more."""

    done: list[list[Segment]] = field(default_factory=list)
    words: str = ""

    def say(self, segment: Segment) -> None:
        """Inline words go on where others ended; anything else begins a line."""
        words = in_words(segment)
        inline = isinstance(segment, _INLINE)
        if self.words and words and not inline and not self.words.endswith("\n"):
            self.words += "\n"
        self.words += words

    def put(self, segment: Segment) -> None:
        self.end_words()
        self.done.append([segment])

    def end_words(self) -> None:
        if self.words.strip():
            fit = cutting.utf8_bytes(MAX_CONTENT_BYTES)
            self.done += [[Text(text=piece)] for piece in cutting.pieces(self.words, fit)]
        self.words = ""


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """For the long connection: parts of one segment each, words or what is sent by itself."""
    parts = _Parts()
    for segment in segments:
        if _stands_alone(segment):
            parts.put(segment)
        else:
            parts.say(segment)
    parts.end_words()
    return [part for part in parts.done if not _blank(part)]


def split_answer(segments: Sequence[Segment]) -> list[list[Segment]]:
    """For a callback: one answer takes words and pictures; more parts only for what is too long."""
    parts = _Parts()
    pictures: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Image) and len(pictures) < MAX_IMAGES:
            pictures.append(segment)
        else:
            parts.say(segment)
    parts.end_words()
    found = [part for part in parts.done if not _blank(part)]
    if not found:
        return [pictures] if pictures else []
    return [[*found[0], *pictures], *found[1:]]


def _stands_alone(segment: Segment) -> bool:
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case _:
            return card(segment) is not None


def _blank(part: Sequence[Segment]) -> bool:
    return all(isinstance(each, Text) and not each.text.strip() for each in part)


# --- error codes -----------------------------------------------------------------------------

INVALID_REQUEST = 846605
STREAM_EXPIRED = 846608

_CLASSES = {
    0: "ok",
    -1: "server_busy",
    40007: "media_failed",
    41006: "media_failed",
    44004: "empty_message",
    45002: "too_long",
    45009: "rate_limited",
    45033: "rate_limited",
    # One group that lets no bot push is no fault of the bot's settings.
    93001: "recipient_refuses",
    93006: "recipient_invalid",
    93008: "bot_not_in_chat",
    INVALID_REQUEST: "reply_handle_invalid",
    STREAM_EXPIRED: "window_expired",
}
# What means that an answer has to go as a message of its own.
PUSH_INSTEAD = frozenset({"reply_handle_invalid", "window_expired"})


def error_class(errcode: int) -> str:
    """The neutral class of a platform's code; whatever is unknown is a fault of the content."""
    return _CLASSES.get(errcode, "content_invalid")


def answer_class(errcode: int) -> str:
    """The same where an answer's address is used up: its codes are not documented."""
    return _CLASSES.get(errcode, "reply_handle_invalid")
