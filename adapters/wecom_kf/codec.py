"""Rows of WeCom customer service to the neutral model, and what is said back; pure.

What a segment goes out as, the first that the platform takes:

    text and what can be said in words    text, cut at 2048 bytes
    location                              location
    card of the platform's own form       msgmenu, text otherwise
    image, voice, video                   the same, a file otherwise, text in the end
    file                                  file, text otherwise
    link, markdown                        text: a link of the platform's needs a picture
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from adapters import wx_json
from adapters.base import Undelivered
from adapters.model import (
    BusinessCard,
    Card,
    ConversationKey,
    File,
    Image,
    Inbound,
    Link,
    Location,
    Ref,
    Rejected,
    Segment,
    Sender,
    Text,
    Unsupported,
    Video,
    Voice,
)
from adapters.raw import kept
from adapters.wecom.codec import MEDIA, Body, Fields, words

MENU = "wecom_kf.msgmenu"
MINI_PROGRAM = "wecom_kf.miniprogram"
# A welcome code is good for so long, and once.
WELCOME_WITHIN_S = 20
# Who a row is from; 4 is the platform itself and 5 a colleague in WeCom.
CUSTOMER = 3
# Bytes of an id of ours for a message.
_ID_BYTES = 32
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799

# Why a message did not reach its customer, and what that is called everywhere.
UNDELIVERED = "undelivered"
FAILURE_CLASSES = {
    1: "no_permission",
    2: "no_permission",
    4: "window_expired",
    5: "window_expired",
    6: "window_count_exceeded",
    7: "no_permission",
    8: "no_permission",
    9: "no_permission",
    10: "recipient_refuses",
    11: "no_permission",
    12: "content_invalid",
}
FAILURES = {
    0: "the platform does not say why",
    1: "the account was deleted",
    2: "the application was switched off",
    4: "the customer's last message is more than 48 hours old",
    5: "the session has ended",
    6: "the customer has had five messages since their last one",
    7: "the account has no video channel bound to it",
    8: "the company is not verified",
    9: "the company is not verified and has no video channel bound to the account",
    10: "the customer refuses messages",
    11: "no member of the company has signed in to WeCom's app",
    12: "the platform does not take this type of message from the API",
}

_Row = dict[str, Any]


class Notice(Struct, frozen=True, kw_only=True):
    """Something happened that nobody said."""

    event: str
    dedupe_key: str
    occurred_at: float
    open_kfid: str
    sender_id: str = ""
    welcome_code: str = ""
    fail_message_id: str = ""
    fail_type: int = 0


class Echo(Struct, frozen=True, kw_only=True):
    """What a colleague said in WeCom: not the customer's words."""

    message_id: str
    open_kfid: str


Decoded = Inbound | Notice | Echo


# --- in --------------------------------------------------------------------------------------


def decode(raw: bytes) -> Decoded | Rejected:
    """One row; never raises."""
    try:
        row = _read(raw)
        message_id, open_kfid = _filled(row, "msgid"), _text(row, "open_kfid")
        kind, at = _filled(row, "msgtype"), _time(row)
        if kind == "event":
            return _event(row["event"], message_id, open_kfid, at)
        if row.get("origin") != CUSTOMER:
            return Echo(message_id=message_id, open_kfid=open_kfid)
        customer = _filled(row, "external_userid")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        return Rejected(reason=f"not a row of customer service: {type(error).__name__}")
    segments = _segments(kind, row.get(kind))
    return Inbound(
        dedupe_key=message_id,
        message_id=message_id,
        occurred_at=at,
        conversation=_conversation(open_kfid, customer),
        sender=Sender(id=customer),
        segments=segments,
        app={"open_kfid": open_kfid},
        raw=kept(segments, row),
    )


def _read(raw: bytes) -> _Row:
    try:
        return msgspec.json.decode(raw, type=_Row)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(wx_json.mended(raw), type=_Row)


def _event(event: Any, message_id: str, open_kfid: str, at: float) -> Notice:
    if not isinstance(event, dict):
        raise TypeError("event")
    fail_type = event.get("fail_type")
    return Notice(
        event=_filled(event, "event_type"),
        dedupe_key=message_id,
        occurred_at=at,
        open_kfid=open_kfid or _text(event, "open_kfid"),
        sender_id=_text(event, "external_userid"),
        welcome_code=_text(event, "welcome_code"),
        fail_message_id=_text(event, "fail_msgid"),
        fail_type=fail_type if isinstance(fail_type, int) else 0,
    )


def undelivered(notice: Notice) -> Undelivered:
    """What a notice of a message that was not shown means."""
    return Undelivered(
        dedupe_key=notice.dedupe_key,
        conversation=_conversation(notice.open_kfid, notice.sender_id),
        platform_message_id=notice.fail_message_id,
        error_class=FAILURE_CLASSES.get(notice.fail_type, UNDELIVERED),
        detail=FAILURES.get(notice.fail_type, FAILURES[0]),
    )


def _conversation(open_kfid: str, customer: str) -> ConversationKey:
    return ConversationKey(type="direct", id=f"{open_kfid}:{customer}")


def _segments(kind: str, payload: Any) -> list[Segment]:
    """What was said; the message counts even where its content cannot be read."""
    fields = wx_json.plain(payload) if isinstance(payload, dict) else {}
    read = _SEGMENTS.get(kind)
    if read is None:
        return [Unsupported(platform_type=kind, text=fields.get("title") or None)]
    try:
        return read(fields)
    except (KeyError, ValueError):
        return [Unsupported(platform_type=kind, reason="its content cannot be read")]


def _words(fields: Fields) -> list[Segment]:
    content = fields["content"]
    return [Text(text=content)] if content.strip() else []


def _location(fields: Fields) -> list[Segment]:
    lat, lon = float(fields["latitude"]), float(fields["longitude"])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError("no such place")
    title, address = fields.get("name") or None, fields.get("address") or None
    return [Location(lat=lat, lon=lon, title=title, address=address)]


def _link(fields: Fields) -> list[Segment]:
    return [
        Link(
            url=_filled(fields, "url"),
            title=fields.get("title") or None,
            desc=fields.get("desc") or None,
            image=fields.get("pic_url") or None,
        )
    ]


def _mini_program(fields: Fields) -> list[Segment]:
    data = msgspec.json.encode(fields).decode()
    return [Card(format=MINI_PROGRAM, data=data, text=fields.get("title") or None)]


_SEGMENTS: dict[str, Callable[[Fields], list[Segment]]] = {
    "text": _words,
    "image": lambda fields: [Image(ref=_ref(fields))],
    "voice": lambda fields: [Voice(ref=_ref(fields), format="amr")],
    "video": lambda fields: [Video(ref=_ref(fields))],
    "file": lambda fields: [File(ref=_ref(fields))],
    "location": _location,
    "link": _link,
    "business_card": lambda fields: [
        BusinessCard(contact_type="user", id=_filled(fields, "userid"))
    ],
    "miniprogram": _mini_program,
}


def _ref(fields: Fields) -> Ref:
    return Ref(via=MEDIA, id=_filled(fields, "media_id"))


def _text(row: _Row, name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _filled(row: _Row, name: str) -> str:
    value = _text(row, name)
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _time(row: _Row) -> float:
    stamp = row["send_time"]
    if not isinstance(stamp, int) or not 0 <= stamp <= _END_OF_TIME:
        raise ValueError("send_time is no time")
    return float(stamp)


# --- out -------------------------------------------------------------------------------------


def stands_alone(segment: Segment) -> bool:
    """Whether the platform has a message of its own for it; otherwise it is said in words."""
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case _:
            return "msgtype" in body(segment)


def body(segment: Segment) -> Body:
    """`msgtype` and its payload for what needs no upload and is no text; empty otherwise."""
    match segment:
        case Location():
            place = {"latitude": segment.lat, "longitude": segment.lon}
            names = {"name": segment.title or "", "address": segment.address or ""}
            return {"msgtype": "location", "location": names | place}
        case Card() if segment.format == MENU and segment.data:
            try:
                menu = msgspec.json.decode(segment.data, type=_Row)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                menu = {}
            return {"msgtype": "msgmenu", "msgmenu": menu} if menu else {}
        case _:
            return {}


def media_body(kind: str, media_id: str, _: Segment) -> Body:
    """The same for something that was uploaded."""
    return {"msgtype": kind, kind: {"media_id": media_id}}


def greeting(text: str) -> Body:
    return words(Text(text=text))


def message_id(idempotency_key: str) -> str:
    """Our id for a message: what the platform names when it could not be shown."""
    return hashlib.sha256(idempotency_key.encode()).hexdigest()[:_ID_BYTES]
