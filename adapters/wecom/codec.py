"""WeCom's messages to the neutral model and back; pure.

What a segment goes out as, the first that the platform takes:

    text and what can be said in words    text, cut at 2048 bytes
    markdown                              markdown if it fits in one message, text otherwise
    link                                  textcard, text without a title or a web address
    card of the platform's own form       template_card, text otherwise
    image, voice, video                   the same, a file otherwise, text in the end
    file                                  file, text otherwise
    voice without sound                   its transcript as text
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from adapters import cutting, wx_json, wx_xml
from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Image,
    Inbound,
    Link,
    Location,
    Markdown,
    Ref,
    Rejected,
    Reply,
    Segment,
    Sender,
    Text,
    Unsupported,
    Video,
    Voice,
    in_words,
)
from adapters.raw import kept

MEDIA = "wecom.media_id"
TEMPLATE_CARD = "wecom.template_card"

# Bytes of one text or markdown message; the platform cuts a longer text without a word.
MAX_TEXT_BYTES = 2048
# Bytes of a textcard's title, description and address.
MAX_TITLE_BYTES = 128
MAX_DESCRIPTION_BYTES = 512
MAX_URL_BYTES = 2048
# Every upload has more than five bytes.
MIN_UPLOAD_BYTES = 6

_MB = 1024 * 1024
# What the platform takes as which kind of media: content types, and at most how many bytes.
_UPLOADS: dict[str, tuple[frozenset[str], int]] = {
    "image": (frozenset({"image/jpeg", "image/png"}), 10 * _MB),
    "voice": (frozenset({"audio/amr"}), 2 * _MB),
    "video": (frozenset({"video/mp4"}), 10 * _MB),
}
MAX_FILE_BYTES = 20 * _MB

# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799
_INLINE = (Text, At, Face, Reply)

Fields = dict[str, str]
Body = dict[str, Any]


class Notice(Struct, frozen=True, kw_only=True):
    """Something happened that nobody said: the application was opened, a menu was used."""

    event: str
    dedupe_key: str
    occurred_at: float
    sender_id: str
    event_key: str = ""


class PullTrigger(Struct, frozen=True, kw_only=True):
    """Messages of customer service wait to be fetched; this callback carries none."""

    event: str
    token: str
    open_kfid: str


Decoded = Inbound | Notice | PullTrigger


# --- in --------------------------------------------------------------------------------------


def decode(plain: bytes) -> Decoded | Rejected:
    """A decrypted callback; never raises."""
    try:
        fields = wx_json.read(plain) if wx_json.is_json(plain) else wx_xml.read(plain)
        kind = fields["MsgType"]
        return _event(fields) if kind == "event" else _message(kind, fields)
    except KeyError as missing:
        return Rejected(reason=f"not a WeCom message: there is no {missing.args[0]}")
    except ValueError as error:
        return Rejected(reason=f"not a WeCom message: {error}")


def _message(kind: str, fields: Fields) -> Inbound:
    sender, message_id = _filled(fields, "FromUserName"), _filled(fields, "MsgId")
    read = _SEGMENTS.get(kind)
    segments: list[Segment] = read(fields) if read else [Unsupported(platform_type=kind)]
    return Inbound(
        dedupe_key=message_id,
        message_id=message_id,
        occurred_at=_time(fields),
        # An application talks with one person at a time: the platform brings it no groups.
        conversation=ConversationKey(type="direct", id=sender),
        sender=Sender(id=sender),
        segments=segments,
        app={"agent_id": fields["AgentID"]} if fields.get("AgentID") else {},
        raw=kept(segments, fields),
    )


def _event(fields: Fields) -> Notice | PullTrigger:
    event = _filled(fields, "Event")
    if event == "kf_msg_or_event":
        return PullTrigger(event=event, token=fields["Token"], open_kfid=fields["OpenKfId"])
    sender, at = _filled(fields, "FromUserName"), _time(fields)
    return Notice(
        event=event,
        # Events have no id of their own.
        dedupe_key=f"{sender}:{fields['CreateTime']}:{event}",
        occurred_at=at,
        sender_id=sender,
        event_key=fields.get("EventKey", ""),
    )


def _text(fields: Fields) -> list[Segment]:
    content = fields["Content"]
    return [Text(text=content)] if content.strip() else []


def _image(fields: Fields) -> list[Segment]:
    url = fields.get("PicUrl")
    return [Image(ref=_ref(fields, more={"url": url} if url else {}))]


def _voice(fields: Fields) -> list[Segment]:
    return [
        Voice(
            ref=_ref(fields),
            format=fields.get("Format") or None,
            transcript=fields.get("Recognition") or None,
        )
    ]


def _video(fields: Fields) -> list[Segment]:
    thumb = fields.get("ThumbMediaId")
    return [Video(ref=_ref(fields), thumb=Ref(via=MEDIA, id=thumb) if thumb else None)]


def _file(fields: Fields) -> list[Segment]:
    return [File(ref=_ref(fields), name=fields.get("FileName") or None)]


def _location(fields: Fields) -> list[Segment]:
    # X is the latitude and Y the longitude, whatever the letters suggest.
    lat, lon = float(fields["Location_X"]), float(fields["Location_Y"])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError("no such place")
    return [Location(lat=lat, lon=lon, title=fields.get("Label") or None)]


def _link(fields: Fields) -> list[Segment]:
    return [
        Link(
            url=fields["Url"],
            title=fields.get("Title") or None,
            desc=fields.get("Description") or None,
            image=fields.get("PicUrl") or None,
        )
    ]


_SEGMENTS: dict[str, Callable[[Fields], list[Segment]]] = {
    "text": _text,
    "image": _image,
    "voice": _voice,
    "video": _video,
    "file": _file,
    "location": _location,
    "link": _link,
}


def _ref(fields: Fields, more: dict[str, str] | None = None) -> Ref:
    return Ref(via=MEDIA, id=_filled(fields, "MediaId"), more=more or {})


def _filled(fields: Fields, name: str) -> str:
    value = fields[name]
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _time(fields: Fields) -> float:
    stamp = fields["CreateTime"]
    if not (stamp.isascii() and stamp.isdigit() and int(stamp[:15]) <= _END_OF_TIME):
        raise ValueError("CreateTime is no time")
    return float(stamp)


# --- out -------------------------------------------------------------------------------------


class _Parts(Struct):
    """A message on its way into parts: those that are done, and the words that wait for more."""

    done: list[list[Segment]] = field(default_factory=list)
    words: str = ""

    def say(self, words: str, *, inline: bool) -> None:
        """Inline words go on where others ended; anything else begins a line."""
        if self.words and not inline and not self.words.endswith("\n"):
            self.words += "\n"
        self.words += words

    def put(self, segment: Segment) -> None:
        self.end_words()
        self.done.append([segment])

    def end_words(self) -> None:
        fit = cutting.utf8_bytes(MAX_TEXT_BYTES)
        self.done += [[Text(text=piece)] for piece in cutting.pieces(self.words, fit)]
        self.words = ""


def split(
    segments: Sequence[Segment], alone: Callable[[Segment], bool] | None = None
) -> list[list[Segment]]:
    """A message as parts of one segment each: words, or something that is sent by itself."""
    parts = _Parts()
    for segment in segments:
        if (alone or stands_alone)(segment):
            parts.put(segment)
        else:
            parts.say(in_words(segment), inline=isinstance(segment, _INLINE))
    parts.end_words()
    return [part for part in parts.done if not _blank(part[0])]


def stands_alone(segment: Segment) -> bool:
    """Whether the platform has a message of its own for it; otherwise it is said in words."""
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case Markdown():
            return len(segment.text.encode()) <= MAX_TEXT_BYTES
        case Link() | Card():
            return "msgtype" in body(segment)
        case _:
            return False


def body(segment: Segment, *, in_group: bool = False) -> Body:
    """`msgtype` and its payload for what needs no upload; empty when there is no such message.

    Groups take no cards of the platform's own.
    """
    match segment:
        case Text():
            return {"msgtype": "text", "text": {"content": segment.text}}
        case Markdown() if len(segment.text.encode()) <= MAX_TEXT_BYTES:
            return {"msgtype": "markdown", "markdown": {"content": segment.text}}
        case Link():
            return _textcard(segment)
        case Card() if not in_group:
            return _card(segment)
        case _:
            return {}


def media_body(kind: str, media_id: str, segment: Segment) -> Body:
    """The same for something that was uploaded."""
    payload = {"media_id": media_id}
    if kind == "video" and isinstance(segment, Video) and segment.name:
        payload["title"] = _clipped(segment.name, MAX_TITLE_BYTES)
    return {"msgtype": kind, kind: payload}


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


def words(segment: Segment) -> Body:
    """The last resort: what it says, in one text."""
    text = _clipped(in_words(segment), MAX_TEXT_BYTES)
    return {"msgtype": "text", "text": {"content": text}}


def passive_text(*, to: str, sender: str, at: int, text: str, as_json: bool) -> bytes:
    """The answer to a callback that is a text in itself, still to be sealed."""
    fields: dict[str, str | int] = {
        "ToUserName": to,
        "FromUserName": sender,
        "CreateTime": at,
        "MsgType": "text",
        "Content": _clipped(text, MAX_TEXT_BYTES),
    }
    return wx_json.write(fields) if as_json else wx_xml.write(fields).encode()


def _textcard(link: Link) -> Body:
    web = link.url.startswith(("http://", "https://"))
    if not (link.title and web and len(link.url.encode()) <= MAX_URL_BYTES):
        return {}
    card = {
        "title": _clipped(link.title, MAX_TITLE_BYTES),
        "description": _clipped(link.desc or link.url, MAX_DESCRIPTION_BYTES),
        "url": link.url,
    }
    return {"msgtype": "textcard", "textcard": card}


def _card(card: Card) -> Body:
    if card.format == TEMPLATE_CARD and card.data:
        try:
            data = msgspec.json.decode(card.data, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            data = {}
        return {"msgtype": "template_card", "template_card": data} if data else {}
    return {}


def _clipped(text: str, limit: int) -> str:
    return text[: cutting.utf8_bytes(limit)(text)]


def _blank(segment: Segment) -> bool:
    return isinstance(segment, Text | Markdown) and not segment.text.strip()


# --- error codes -----------------------------------------------------------------------------

_CLASSES = {
    0: "ok",
    -1: "server_busy",
    40001: "secret_invalid",
    40003: "recipient_invalid",
    40007: "media_failed",
    40013: "secret_invalid",
    40014: "token_invalid",
    40056: "no_permission",
    41001: "token_missing",
    41006: "media_failed",
    42001: "token_expired",
    44004: "empty_message",
    45002: "too_long",
    45009: "rate_limited",
    45033: "rate_limited",
    48002: "no_permission",
    60011: "no_permission",
    60020: "ip_not_allowed",
    60111: "recipient_invalid",
    81013: "recipient_invalid",
    82001: "recipient_invalid",
    86001: "chat_gone",
    86003: "chat_gone",
    86008: "chat_gone",
    95000: "no_permission",
    95001: "window_count_exceeded",
    95002: "window_expired",
    95013: "window_expired",
    95018: "recipient_unavailable",
    301002: "no_permission",
}


def error_class(errcode: int) -> str:
    """The neutral class of a platform's code; whatever is unknown is a fault of the content."""
    return _CLASSES.get(errcode, "content_invalid")
