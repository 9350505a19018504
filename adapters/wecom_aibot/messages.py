"""What the platform says about an AI bot, in either transport, as neutral messages; pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from adapters.model import (
    ConversationKey,
    File,
    Image,
    Inbound,
    Ref,
    Rejected,
    Reply,
    Segment,
    Sender,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.raw import kept

MEDIA = "wecom.aibot_url"
# Messages carry addresses of media, never bytes.
MAX_BYTES = 1024 * 1024
# A mixed message has a handful; the control plane takes fifty segments.
MAX_ITEMS = 40
FOREIGN = "the message is for another bot"
# Events: somebody opened the talk (and may be greeted for so long), and another connection has
# taken ours away.
ENTERED = "enter_chat"
GREETING_S = 5
KICKED_OUT = "disconnected_event"
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799


class Notice(Struct, frozen=True, kw_only=True):
    """Something happened that nobody said. `feedback` is what somebody thinks of an answer."""

    event: str
    dedupe_key: str
    occurred_at: float
    sender_id: str
    feedback: dict[str, Any] | None = None


class Poll(Struct, frozen=True, kw_only=True):
    """The platform asks for more of an answer."""

    stream_id: str
    conversation: ConversationKey


Decoded = Inbound | Notice | Poll
Fields = Mapping[str, Any]


def decode(message: bytes, *, at: float, bot_id: str = "", req_id: str = "") -> Decoded | Rejected:
    """A message of the platform; never raises.

    `at`: when it came, since messages name no time. `bot_id`: the only bot that it may be for, if
    that is known. `req_id`: the frame's, in the long connection.
    """
    if len(message) > MAX_BYTES:
        return Rejected(reason="the message is too large")
    try:
        fields = msgspec.json.decode(message, type=dict[str, Any])
        if bot_id and _words(fields, "aibotid") != bot_id:
            return Rejected(reason=FOREIGN)
        match _filled(fields, "msgtype"):
            case "event":
                return _event(fields, at)
            case "stream":
                stream = _filled(_inner(fields, "stream"), "id")
                return Poll(stream_id=stream, conversation=_conversation(fields))
            case kind:
                return _message(kind, fields, at, req_id)
    except KeyError as missing:
        return Rejected(reason=f"not a message of the bot: there is no {missing.args[0]}")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Rejected(reason="not a message of the bot")


def stream_id(message_id: str) -> str:
    """The stream that answers a message: whoever repeats the message means the same one."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def stream(
    stream_id: str, content: str, *, finish: bool, images: Sequence[Fields] = ()
) -> dict[str, Any]:
    """An answer as it stands: `content` takes the place of all that was shown before."""
    inner: dict[str, Any] = {"id": stream_id, "finish": finish, "content": content}
    if images:
        inner["msg_item"] = list(images)
    return {"msgtype": "stream", "stream": inner}


def text(content: str) -> dict[str, Any]:
    """Plain words: only a greeting may be so."""
    return {"msgtype": "text", "text": {"content": content}}


def _message(kind: str, fields: Fields, at: float, req_id: str) -> Inbound:
    message_id = _filled(fields, "msgid")
    handle = {
        "stream": stream_id(message_id),
        "req_id": req_id,
        "response_url": _words(fields, "response_url"),
    }
    segments = _segments(kind, fields)
    quote = fields.get("quote")
    if isinstance(quote, dict) and quote:
        # Which message it was, the platform does not say.
        segments = [Reply(quoted=_segments(_words(quote, "msgtype") or "quote", quote)), *segments]
    return Inbound(
        dedupe_key=message_id,
        message_id=message_id,
        occurred_at=at,
        conversation=_conversation(fields),
        sender=Sender(id=_filled(_inner(fields, "from"), "userid")),
        segments=segments,
        reply_handle={name: value for name, value in handle.items() if value},
        raw=kept(segments, fields),
    )


def _event(fields: Fields, at: float) -> Notice:
    inner = _inner(fields, "event")
    event = _filled(inner, "eventtype")
    sender = fields.get("from")
    feedback = inner.get("feedback_event")
    return Notice(
        event=event,
        dedupe_key=_filled(fields, "msgid"),
        occurred_at=_time(fields.get("create_time"), at),
        sender_id=_words(sender, "userid") if isinstance(sender, dict) else "",
        feedback=feedback if isinstance(feedback, dict) else None,
    )


def _conversation(fields: Fields) -> ConversationKey:
    if _words(fields, "chattype") == "group":
        return ConversationKey(type="group", id=_filled(fields, "chatid"))
    return ConversationKey(type="direct", id=_filled(_inner(fields, "from"), "userid"))


def _segments(kind: str, fields: Fields) -> list[Segment]:
    """What is inside a message, a quote or a piece of a mixed message; what is odd is named."""
    inner = fields.get(kind)
    found: list[Segment] | None = None
    if isinstance(inner, dict):
        match kind:
            case "text":
                found = _text(inner.get("content"))
            case "voice":
                found = _voice(inner.get("content"))
            case "image" | "video" | "file":
                found = _medium(kind, inner)
            case "mixed":
                found = _mixed(inner.get("msg_item"))
    return [Unsupported(platform_type=kind)] if found is None else found


def _text(content: object) -> list[Segment] | None:
    if not isinstance(content, str):
        return None
    return [Text(text=content)] if content.strip() else []


def _voice(content: object) -> list[Segment] | None:
    """The platform gives the words alone."""
    return [Voice(transcript=content)] if isinstance(content, str) and content else None


def _medium(kind: str, inner: Fields) -> list[Segment] | None:
    url = _words(inner, "url")
    if not url:
        return None
    key = _words(inner, "aeskey")
    ref = Ref(via=MEDIA, id=url, more={"aeskey": key} if key else {})
    match kind:
        case "image":
            return [Image(ref=ref)]
        case "video":
            return [Video(ref=ref)]
        case _:
            return [File(ref=ref)]


def _mixed(items: object) -> list[Segment] | None:
    if not isinstance(items, list):
        return None
    found: list[Segment] = []
    for item in items[:MAX_ITEMS]:
        kind = _words(item, "msgtype") if isinstance(item, dict) else ""
        # One inside the other would have no end.
        nested = kind in {"", "mixed"}
        found += [Unsupported(platform_type=kind)] if nested else _segments(kind, item)
    if len(items) > MAX_ITEMS:
        found.append(Unsupported(platform_type="mixed", reason="too many pieces"))
    return found


def _inner(fields: Fields, name: str) -> Fields:
    value = fields[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def _words(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _filled(fields: Fields, name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _time(given: object, at: float) -> float:
    good = isinstance(given, int) and not isinstance(given, bool) and 0 < given <= _END_OF_TIME
    return float(given) if good and isinstance(given, int) else at
