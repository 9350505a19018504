"""Feishu's events to the neutral model; pure.

Callbacks and long connections carry the same events. What is said in a content that cannot be
read becomes one `Unsupported`: its sender is still answered.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from adapters.model import (
    At,
    BusinessCard,
    Card,
    ConversationKey,
    Face,
    File,
    Forward,
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

RESOURCE = "feishu.resource"
STICKER = "feishu.sticker"
MESSAGE = "feishu.message"
CARD = "feishu"

MESSAGE_EVENT = "im.message.receive_v1"
CARD_EVENT = "card.action.trigger"
# The platform waits so long for the answer to an event or to a card.
DEADLINE_S = 3.0

# Ids of the platform are letters, digits and a few signs.
_ID = re.compile(r"[\x21-\x7e]{1,200}")
# What stands for a mention inside a text.
_KEY = re.compile(r"@_(?:user_[0-9]{1,6}|all)")
_ALL = "@_all"
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799
# Of a card or a merged forward: what is shown in words, at most.
_MAX_WORDS = 20_000
_MAX_DEPTH = 16
_MAX_FORWARDED = 100
# Where the kinds that we do not carry say what they are about.
_ABOUT = ("text", "topic", "summary", "title", "file_name")


# --- what the platform sends -----------------------------------------------------------------


class _Ids(Struct):
    open_id: str | None = None
    union_id: str | None = None
    user_id: str | None = None

    def known(self) -> dict[str, str]:
        named = {"open_id": self.open_id, "union_id": self.union_id, "user_id": self.user_id}
        return {name: value for name, value in named.items() if value}


class _Sender(Struct):
    sender_id: _Ids | None = None
    sender_type: str = ""


class _Mention(Struct):
    key: str
    # An id alone where messages are read, all of them where they are brought.
    id: _Ids | str = ""
    name: str | None = None

    @property
    def open_id(self) -> str:
        return self.id if isinstance(self.id, str) else self.id.open_id or ""


class _Message(Struct):
    message_id: str
    chat_id: str
    chat_type: str
    message_type: str
    create_time: str
    content: str = ""
    parent_id: str | None = None
    root_id: str | None = None
    thread_id: str | None = None
    mentions: list[_Mention] | None = None


class _Received(Struct):
    sender: _Sender
    message: _Message


class _Context(Struct):
    open_chat_id: str | None = None
    open_message_id: str | None = None


class _Pressed(Struct):
    operator: _Ids
    action: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    context: _Context = field(default_factory=_Context)


class _Header(Struct):
    event_id: str = ""
    event_type: str = ""
    app_id: str = ""


class _Envelope(Struct):
    header: _Header = field(default_factory=_Header)
    event: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))


class _Body(Struct):
    content: str = ""


class _From(Struct):
    id: str | None = None


class _Item(Struct):
    """One message as it is read from the platform."""

    message_id: str = ""
    msg_type: str = ""
    body: _Body = field(default_factory=_Body)
    sender: _From = field(default_factory=_From)
    mentions: list[_Mention] | None = None


class _Items(Struct):
    items: list[_Item] = field(default_factory=list)


_envelope = msgspec.json.Decoder(_Envelope)
_received = msgspec.json.Decoder(_Received)
_pressed = msgspec.json.Decoder(_Pressed)
_content = msgspec.json.Decoder(dict[str, Any])
_items = msgspec.json.Decoder(_Items)


# --- what it comes to ------------------------------------------------------------------------


class Said(Struct, frozen=True, kw_only=True):
    """Somebody said something; `sender_ids` are all ids that the platform knows them by."""

    event_id: str
    sender_ids: dict[str, str]
    message: Inbound


class Notice(Struct, frozen=True, kw_only=True):
    """Something happened that nobody said, or that we do not answer."""

    event: str
    dedupe_key: str


class Pressed(Struct, frozen=True, kw_only=True):
    """Somebody pressed a card's button; the platform waits for the answer."""

    event: str
    dedupe_key: str
    sender_id: str
    chat_id: str
    message_id: str
    card_token: str
    action: dict[str, Any]


Decoded = Said | Notice | Pressed


class _Place(Struct, frozen=True):
    """Where a content stands: its message, whom it mentions, and who we are."""

    message_id: str
    mentions: Mapping[str, At]

    def resource(self, key: str, kind: str) -> Ref:
        more = {"message_id": self.message_id, "resource_type": kind}
        return Ref(via=RESOURCE, id=key, more=more)


def decode(payload: bytes, *, app_id: str, bot_open_id: str) -> Decoded | Rejected:
    """One event; never raises."""
    try:
        envelope = _envelope.decode(payload)
        header = envelope.header
        if header.app_id not in ("", app_id):
            return Rejected(reason="it is for another application")
        if header.event_type == MESSAGE_EVENT:
            return _said(header, _received.decode(envelope.event), bot_open_id)
        if header.event_type == CARD_EVENT:
            return _press(header, _pressed.decode(envelope.event))
        return Notice(event=header.event_type, dedupe_key=header.event_id)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Rejected(reason=f"not an event: {type(error).__name__}")


def _said(header: _Header, received: _Received, bot_open_id: str) -> Said | Notice:
    message, sender = received.message, received.sender
    ids = sender.sender_id.known() if sender.sender_id else {}
    sender_id = next(iter(ids.values()), "")
    if sender.sender_type == "app" or sender_id == bot_open_id:
        return Notice(event=header.event_type, dedupe_key=header.event_id)
    message_id, chat_id = _id(message.message_id), _id(message.chat_id)
    direct = message.chat_type == "p2p"
    place = _Place(message_id, _mentions(message.mentions, bot_open_id))
    said = segments(message.message_type, message.content, place)
    return Said(
        event_id=header.event_id,
        sender_ids=ids,
        message=Inbound(
            # Redeliveries of both transports repeat it, and so does a second subscription.
            dedupe_key=message_id,
            message_id=message_id,
            occurred_at=_time(message.create_time),
            conversation=ConversationKey(type="direct" if direct else "group", id=chat_id),
            sender=Sender(id=_id(sender_id)),
            segments=_quote(message) + said,
            mentions_bot=direct or any(at.is_self for at in place.mentions.values()),
            reply_handle=_handle(message),
            app={"app_id": header.app_id} if header.app_id else {},
            raw=kept(said, message),
        ),
    )


def _press(header: _Header, pressed: _Pressed) -> Pressed:
    return Pressed(
        event=header.event_type,
        dedupe_key=header.event_id,
        sender_id=next(iter(pressed.operator.known().values()), ""),
        chat_id=pressed.context.open_chat_id or "",
        message_id=pressed.context.open_message_id or "",
        card_token=pressed.token or "",
        action=pressed.action,
    )


def _handle(message: _Message) -> dict[str, str]:
    named = {"thread_id": message.thread_id, "root_id": message.root_id}
    found = {name: _id(value) for name, value in named.items() if value}
    return {"message_id": message.message_id, **found}


def _quote(message: _Message) -> list[Segment]:
    return [Reply(message_id=_id(message.parent_id))] if message.parent_id else []


def _mentions(given: list[_Mention] | None, bot_open_id: str) -> dict[str, At]:
    found = {}
    for each in given or []:
        if _KEY.fullmatch(each.key) and each.open_id:
            is_self = each.open_id == bot_open_id
            found[each.key] = At(target=each.open_id, name=_kept(each.name), is_self=is_self)
    return found


def _time(stamp: str) -> float:
    if not (stamp.isascii() and stamp.isdigit() and int(stamp[:18]) / 1000 <= _END_OF_TIME):
        raise ValueError("no time")
    return int(stamp[:18]) / 1000


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("no id")
    return value


# --- contents --------------------------------------------------------------------------------


def segments(kind: str, content: str, place: _Place) -> list[Segment]:
    """What a message of this kind says; never raises."""
    kind = kind[:100].replace("\0", "") or "unknown"
    try:
        fields = _content.decode(content) if content else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return [Unsupported(platform_type=kind, reason="its content cannot be read")]
    read = _KINDS.get(kind)
    if read is None:
        return [Unsupported(platform_type=kind, text=_about(fields))]
    try:
        return read(fields, place)
    except (KeyError, TypeError, ValueError, AttributeError):
        return [Unsupported(platform_type=kind, reason="its content is incomplete")]


class _Saying:
    """Segments as they are found; words that follow each other become one text."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._words: list[str] = []

    def say(self, words: str) -> None:
        self._words.append(words)

    def put(self, segment: Segment) -> None:
        self.end()
        self.segments.append(segment)

    def end(self) -> list[Segment]:
        words = "".join(self._words).replace("\0", "\ufffd")
        if words:
            self.segments.append(Text(text=words))
        self._words = []
        return self.segments


def _text(fields: dict[str, Any], place: _Place) -> list[Segment]:
    said = _Saying()
    _words_with_mentions(_str(fields, "text"), place, said)
    return [each for each in said.end() if not _blank(each)]


def _words_with_mentions(text: str, place: _Place, said: _Saying) -> None:
    begun = 0
    for found in _KEY.finditer(text):
        key = _mentioned(found[0], place)
        if key is not None:
            said.say(text[begun : found.start()])
            said.put(place.mentions.get(key) or At(target="all"))
            begun = found.start() + len(key)
    said.say(text[begun:])


def _mentioned(found: str, place: _Place) -> str | None:
    """The longest key that it begins with: behind one, digits may go on."""
    for length in range(len(found), 0, -1):
        if found[:length] in place.mentions or found[:length] == _ALL:
            return found[:length]
    return None


def _post(fields: dict[str, Any], place: _Place) -> list[Segment]:
    if "content" not in fields:
        # One form per language; the first is the sender's.
        [fields, *_] = [each for each in fields.values() if isinstance(each, dict)]
    said = _Saying()
    title = fields.get("title")
    begun = isinstance(title, str) and bool(title.strip())
    if begun:
        said.say(str(title))
    for paragraph in fields["content"]:
        if begun:
            said.say("\n")
        begun = True
        for element in paragraph:
            _element(element, place, said)
    found = said.end()
    return [] if all(_blank(each) for each in found) else found


def _element(element: dict[str, Any], place: _Place, said: _Saying) -> None:
    match element.get("tag"):
        case "a":
            said.put(Link(url=_str(element, "href"), title=_opt(element, "text")))
        case "at":
            said.put(_at(_str(element, "user_id"), _opt(element, "user_name"), place))
        case "img":
            said.put(
                Image(
                    ref=place.resource(_key(element, "image_key"), "image"),
                    width=_number(element, "width"),
                    height=_number(element, "height"),
                )
            )
        case "media":
            said.put(_film(element, place))
        case "emotion":
            said.put(Face(id=_key(element, "emoji_type")))
        case "hr":
            said.say("---")
        case "code_block":
            code = _str(element, "text")
            ending = "" if code.endswith("\n") else "\n"
            said.say(f"```{_opt(element, 'language') or ''}\n{code}{ending}```")
        case _:
            said.say(_opt(element, "text") or "")


def _at(key: str, name: str | None, place: _Place) -> At:
    if key in (_ALL, "all"):
        return At(target="all")
    return place.mentions.get(key) or At(target=key.replace("\0", ""), name=name)


def _image(fields: dict[str, Any], place: _Place) -> list[Segment]:
    return [Image(ref=place.resource(_key(fields, "image_key"), "image"))]


def _file(fields: dict[str, Any], place: _Place) -> list[Segment]:
    ref = place.resource(_key(fields, "file_key"), "file")
    return [File(ref=ref, name=_opt(fields, "file_name"))]


def _audio(fields: dict[str, Any], place: _Place) -> list[Segment]:
    ref = place.resource(_key(fields, "file_key"), "file")
    return [Voice(ref=ref, format="opus", duration_ms=_number(fields, "duration"))]


def _media(fields: dict[str, Any], place: _Place) -> list[Segment]:
    return [_film(fields, place)]


def _film(fields: dict[str, Any], place: _Place) -> Video:
    thumb = _opt(fields, "image_key")
    return Video(
        ref=place.resource(_key(fields, "file_key"), "file"),
        thumb=place.resource(_id(thumb), "image") if thumb else None,
        name=_opt(fields, "file_name"),
        duration_ms=_number(fields, "duration"),
    )


def _sticker(fields: dict[str, Any], place: _Place) -> list[Segment]:
    # The platform gives its picture to nobody.
    return [Sticker(ref=Ref(via=STICKER, id=_key(fields, "file_key")))]


def _location(fields: dict[str, Any], place: _Place) -> list[Segment]:
    lat, lon = float(fields["latitude"]), float(fields["longitude"])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError("no such place")
    return [Location(lat=lat, lon=lon, title=_opt(fields, "name"))]


def _share_chat(fields: dict[str, Any], place: _Place) -> list[Segment]:
    return [BusinessCard(contact_type="group", id=_key(fields, "chat_id"))]


def _share_user(fields: dict[str, Any], place: _Place) -> list[Segment]:
    return [BusinessCard(contact_type="user", id=_key(fields, "user_id"))]


def _merge_forward(fields: dict[str, Any], place: _Place) -> list[Segment]:
    return [Forward(ref=Ref(via=MESSAGE, id=place.message_id))]


def _interactive(fields: dict[str, Any], place: _Place) -> list[Segment]:
    lines: list[str] = []
    title = fields.get("title") or fields.get("header")
    for part in (title, fields.get("elements") or fields.get("body")):
        _gather(part, lines, _MAX_DEPTH)
    return [Card(format=CARD, text=_kept("\n".join(lines)[:_MAX_WORDS]))]


def _gather(part: Any, lines: list[str], depth: int) -> None:
    """The words of a card, whatever its version: one line for each paragraph."""
    if depth == 0 or len(lines) >= _MAX_FORWARDED:
        return
    if isinstance(part, str):
        lines.extend([part] if part.strip() else [])
    elif isinstance(part, list):
        inner: list[str] = []
        for each in part:
            _gather(each, inner, depth - 1)
        # A list of elements inside a list is one paragraph.
        in_line = bool(part) and all(isinstance(each, dict) and _is_inline(each) for each in part)
        lines.extend(["".join(inner)] if in_line and inner else inner)
    elif isinstance(part, dict):
        for name in ("title", "text", "content", "elements", "columns", "actions", "fields"):
            _gather(part.get(name), lines, depth - 1)


def _is_inline(element: dict[str, Any]) -> bool:
    return element.get("tag") in ("text", "a", "at") and isinstance(element.get("text", ""), str)


_KINDS: dict[str, Callable[[dict[str, Any], _Place], list[Segment]]] = {
    "text": _text,
    "post": _post,
    "image": _image,
    "file": _file,
    "audio": _audio,
    "media": _media,
    "sticker": _sticker,
    "location": _location,
    "share_chat": _share_chat,
    "share_user": _share_user,
    "merge_forward": _merge_forward,
    "interactive": _interactive,
}


def forwarded(payload: bytes, container_id: str) -> str:
    """The words of forwarded messages, one a line, who said it before; raises ValueError."""
    try:
        items = _items.decode(payload).items
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("not a list of messages") from None
    lines = []
    for item in items[: _MAX_FORWARDED + 1]:
        if item.message_id == container_id:
            continue
        place = _Place(item.message_id, _mentions(item.mentions, ""))
        words = "".join(map(in_words, segments(item.msg_type, item.body.content, place)))
        lines.append(f"{_kept(item.sender.id) or '?'}: {words}")
    return "\n".join(lines)[:_MAX_WORDS]


def _about(fields: dict[str, Any]) -> str | None:
    for name in _ABOUT:
        value = fields.get(name)
        if isinstance(value, dict):
            value = value.get("title")
        if isinstance(value, str) and value.strip():
            return _kept(value[:_MAX_WORDS])
    return None


def _str(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _key(fields: dict[str, Any], name: str) -> str:
    return _id(_str(fields, name))


def _opt(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return _kept(value) if isinstance(value, str) else None


def _number(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    # A day in milliseconds, and no picture is as wide.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 86_400_000:
        return value
    return None


def _kept(value: str | None) -> str | None:
    """No database keeps a NUL in a text."""
    return value.replace("\0", "\ufffd") if value else None


def _blank(segment: Segment) -> bool:
    return isinstance(segment, Text) and not segment.text.strip()
