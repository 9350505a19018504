"""The words between us and a tenant's own system, to the neutral model and back; pure.

They are ours (docs/channels/http.md): one JSON object a message, media by address on the way in and
as base64 on the way out.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from adapters.base import Content, Outgoing
from adapters.model import (
    At,
    ConversationKey,
    File,
    Image,
    Inbound,
    Link,
    Location,
    Ref,
    Rejected,
    Reply,
    Segment,
    Sender,
    Sticker,
    Text,
    Unsupported,
    Video,
    Voice,
    in_words,
)
from adapters.raw import kept

URL = "http.url"
RECEIVED, SEND, PING = "message.received", "message.send", "ping"
# The name within a reply handle.
LAST_ID = "message_id"

MAX_SEGMENTS = 100
MAX_URL = 2048
# Bytes of all media of one message on the way out, before base64; what is more is said in words.
MAX_INLINE_BYTES = 8 * 1024 * 1024

# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799

T = TypeVar("T")

_Id = Annotated[str, Meta(min_length=1, max_length=200)]
_Name = Annotated[str, Meta(max_length=200)] | None
_Text = Annotated[str, Meta(max_length=100_000)]


class _Conversation(Struct):
    id: _Id
    type: Literal["direct", "group"] = "direct"
    name: _Name = None


class _Sender(Struct):
    id: _Id
    name: _Name = None


class _Message(Struct):
    type: Literal["message.received"]
    id: _Id
    conversation: _Conversation
    sender: _Sender
    at: Annotated[float, Meta(ge=0, le=_END_OF_TIME)] | None = None
    text: _Text = ""
    segments: Annotated[list[dict[str, Any]], Meta(max_length=MAX_SEGMENTS)] = field(
        default_factory=list
    )
    mentions_bot: bool = True


class _Medium(Struct):
    url: Annotated[str, Meta(max_length=MAX_URL, pattern=r"^https?://\S+$")]
    name: _Name = None
    format: _Name = None
    transcript: _Text | None = None
    duration_ms: Annotated[int, Meta(ge=0, le=86_400_000)] | None = None

    @property
    def ref(self) -> Ref:
        # The address may hold a key, so it stays in the agent.
        digest = hashlib.sha256(self.url.encode()).hexdigest()
        return Ref(via=URL, id=digest, more={"url": self.url})


class _Words(Struct):
    text: _Text


class _Place(Struct):
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    title: _Name = None
    address: _Name = None


class _Page(Struct):
    url: Annotated[str, Meta(max_length=MAX_URL)]
    title: _Name = None
    desc: _Text | None = None


class _Mention(Struct):
    target: _Id
    name: _Name = None
    is_self: bool = False


class _Quote(Struct):
    message_id: _Id


def decode(body: bytes, *, received_at: float) -> Inbound | Rejected:
    """A call's body as a message; never raises. `received_at` is for what names no time."""
    try:
        found = msgspec.json.decode(body, type=_Message)
        segments = [_segment(each) for each in found.segments]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # What is wrong and where, without what was said.
        return Rejected(reason=f"not a message: {_where(error)}")
    if found.text.strip():
        segments.append(Text(text=found.text))
    if "\0" in f"{found.id}{found.conversation.id}{found.sender.id}{found.sender.name}":
        return Rejected(reason="not a message: a NUL character")
    quotes = [each for each in segments if isinstance(each, Reply)][:1]
    return Inbound(
        dedupe_key=found.id,
        message_id=found.id,
        occurred_at=received_at if found.at is None else found.at,
        conversation=ConversationKey(type=found.conversation.type, id=found.conversation.id),
        sender=Sender(id=found.sender.id, name=found.sender.name),
        segments=[*quotes, *(each for each in segments if not isinstance(each, Reply))],
        mentions_bot=found.mentions_bot,
        reply_handle={LAST_ID: found.id},
        raw=kept(segments, body),
    )


def _segment(given: Mapping[str, Any]) -> Segment:  # noqa: C901 - one line a kind
    kind = given.get("type")
    match kind:
        case "text":
            return Text(text=_read(given, _Words).text)
        case "image":
            medium = _read(given, _Medium)
            return Image(ref=medium.ref, name=medium.name)
        case "voice":
            medium = _read(given, _Medium)
            return Voice(
                ref=medium.ref,
                format=medium.format,
                duration_ms=medium.duration_ms,
                transcript=medium.transcript or None,
            )
        case "video":
            medium = _read(given, _Medium)
            return Video(ref=medium.ref, name=medium.name, duration_ms=medium.duration_ms)
        case "file":
            medium = _read(given, _Medium)
            return File(ref=medium.ref, name=medium.name)
        case "location":
            place = _read(given, _Place)
            return Location(lat=place.lat, lon=place.lon, title=place.title, address=place.address)
        case "link":
            page = _read(given, _Page)
            return Link(url=page.url, title=page.title, desc=page.desc)
        case "at":
            mention = _read(given, _Mention)
            return At(target=mention.target, name=mention.name, is_self=mention.is_self)
        case "reply":
            return Reply(message_id=_read(given, _Quote).message_id)
        case str() if kind and len(kind) <= 100:
            return Unsupported(platform_type=kind)
        case _:
            raise ValueError("a segment without a type")


def _read(given: Mapping[str, Any], model: type[T]) -> T:
    return msgspec.convert(dict(given), model)


def _where(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return "not the JSON that was agreed"


# --- out -------------------------------------------------------------------------------------


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """All of it in one: nothing here has a limit of its own."""
    whole = [each for each in segments if not _is_blank(each)]
    return [whole] if whole else []


def refs(segments: Sequence[Segment]) -> list[Ref]:
    """What is to be read from our store before `encode`."""
    found = [_ref(each) for each in segments]
    return [ref for ref in found if ref is not None]


def encode(part: Outgoing, contents: Mapping[str, Content]) -> bytes:
    """The body of a call; `contents` by the id in our store."""
    room = MAX_INLINE_BYTES
    shown: list[dict[str, Any]] = []
    for segment in part.segments:
        ref = _ref(segment)
        content = None if ref is None else contents.get(ref.id)
        if content is not None and len(content.body) <= room:
            room -= len(content.body)
            shown.append(_with_bytes(segment, content))
        elif ref is not None or isinstance(segment, Image | Video | File | Sticker):
            shown.append({"type": "text", "text": in_words(segment)})
        else:
            shown.append(msgspec.to_builtins(segment))
    body = {
        "type": SEND,
        "id": part.idempotency_key,
        "conversation": {"type": part.conversation.type, "id": part.conversation.id},
        "author": {"kind": part.author.kind, "name": part.author.name},
        "in_reply_to": part.reply_handle.get(LAST_ID),
        # For whoever shows words only.
        "text": "\n".join(filter(None, map(in_words, part.segments))),
        "segments": shown,
    }
    return msgspec.json.encode(body)


def ping() -> bytes:
    return msgspec.json.encode({"type": PING})


def _with_bytes(segment: Segment, content: Content) -> dict[str, Any]:
    """A medium with its bytes in place of our reference."""
    built: dict[str, Any] = msgspec.to_builtins(segment)
    return {name: value for name, value in built.items() if name not in ("ref", "thumb")} | {
        "name": built.get("name") or content.name,
        "content_type": content.content_type,
        "content": base64.b64encode(content.body).decode(),
    }


def _ref(segment: Segment) -> Ref | None:
    return getattr(segment, "ref", None)


def _is_blank(segment: Segment) -> bool:
    return isinstance(segment, Text) and not segment.text.strip()
