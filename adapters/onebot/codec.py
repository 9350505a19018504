"""OneBot's events and answers to the neutral model; pure.

A message is a list of segments, one segment, or a string with CQ codes, as the client is set.
What goes out is in `adapters.onebot.outgoing`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

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
from adapters.onebot import cq
from adapters.raw import kept

FILE = "onebot.file"
FORWARD = "onebot.forward"
JSON_CARD = "onebot.json"

# Of one frame or call. Clients say media by address; the longest text is some kilobytes.
MAX_BYTES = 1024 * 1024
# Segments of one message; clients show a few hundred signs, and a forwarded talk is one segment.
MAX_SEGMENTS = 200
# Characters of a message in one string: QQ's longest with all its codes is far below.
MAX_STRING = 128 * 1024
# Characters of a card's own data that are kept; cards of mini programs have some kilobytes.
MAX_CARD = 64 * 1024
# Messages of a forwarded talk that are read, and characters of each.
MAX_FORWARDED = 50
MAX_FORWARDED_WORDS = 200

# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799
# QQ's own bots have numbers out of these.
_BOTS = (range(2_854_196_301, 2_854_216_400), range(3_889_000_000, 3_890_000_000))

Fields = dict[str, Any]


class Meta(Struct, frozen=True, kw_only=True):
    """The client about itself: `lifecycle` names or `heartbeat`; `online` is the account's."""

    event: str
    interval_ms: int | None = None
    online: bool | None = None


class Ignored(Struct, frozen=True, kw_only=True):
    """Nobody said anything to us."""

    reason: str


class Answer(Struct, frozen=True, kw_only=True):
    """What became of a call; `words` are the client's, for nobody's eyes."""

    echo: str = ""
    status: str = ""
    retcode: int = 0
    data: Any = None
    words: str = ""


Decoded = Inbound | Meta | Ignored | Answer


# --- in --------------------------------------------------------------------------------------


def read(raw: str | bytes) -> Fields | Rejected:
    """The object in a frame or body; never raises."""
    if len(raw) > MAX_BYTES:
        return Rejected(reason="this is too large")
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Rejected(reason="this is not a JSON object")


def decode(fields: Fields) -> Decoded | Rejected:
    """An event, or the answer to a call; never raises."""
    try:
        match fields.get("post_type"):
            case None:
                return _answer(fields)
            case "meta_event":
                return _meta(fields)
            case "message":
                return _message(fields)
            case other:
                return Ignored(reason=f"{_words(other)[:64]} is no message")
    except ValueError as error:
        return Rejected(reason=f"not a OneBot event: {error}")


def segments(message: Any, *, self_id: str) -> list[Segment]:
    """A message in neutral segments; raises ValueError."""
    match message:
        case str() if len(message) > MAX_STRING:
            return [Unsupported(platform_type="string", reason="the message is too long")]
        case str():
            found = cq.parse(message, most=MAX_SEGMENTS + 1)
        case dict():
            found = [message]
        case list():
            found = message
        case _:
            raise ValueError("there is no message")
    neutral = [_segment(each, self_id) for each in found[:MAX_SEGMENTS]]
    if len(found) > MAX_SEGMENTS:
        neutral.append(Unsupported(platform_type="more", reason="the message has too many parts"))
    return _tidy(neutral)


def quoted(data: Any, *, self_id: str) -> tuple[list[Segment], bool] | None:
    """(what a message said, whether the bot itself said it), from the answer of `get_msg`."""
    try:
        said = segments(data.get("message"), self_id=self_id)
        sender = data.get("sender")
        author = _id(sender, "user_id") if isinstance(sender, dict) else ""
    except (AttributeError, ValueError):
        return None
    # A quote within a quote would have to be fetched, and so on.
    return [bare(each) for each in said if not isinstance(each, Reply)], author == self_id


def bare(segment: Segment) -> Segment:
    """The segment without what only fetching its bytes needs."""
    match segment:
        case Image() | Voice() | Video() | File() | Sticker() if segment.ref is not None:
            return replace(segment, ref=Ref(via=segment.ref.via, id=segment.ref.id))
        case _:
            return segment


def forwarded(data: Any, *, self_id: str) -> Card | None:
    """A forwarded talk as a card that can be read, from the answer of `get_forward_msg`."""
    nodes = data.get("messages", data.get("message")) if isinstance(data, dict) else None
    if not isinstance(nodes, list):
        return None
    lines = [line for node in nodes[:MAX_FORWARDED] if (line := _forwarded_line(node, self_id))]
    if len(nodes) > MAX_FORWARDED:
        lines.append("…")
    return Card(format=FORWARD, text="\n".join(lines)) if lines else None


def url_in(data: Any) -> str:
    """The address in the answer to a question for one; empty where there is none."""
    found = data.get("url") if isinstance(data, dict) else None
    if isinstance(found, str) and found.startswith(("http://", "https://")):
        return found
    return ""


def online(data: Any) -> bool:
    """Whether the account is logged in, from a heartbeat or the answer of `get_status`."""
    return (
        isinstance(data, dict) and data.get("online") is not False and data.get("good") is not False
    )


def message_id(data: Any) -> str | None:
    """The id of what was sent."""
    try:
        return _id(data, "message_id") if isinstance(data, dict) else None
    except ValueError:
        return None


def _answer(fields: Fields) -> Answer:
    echo, status, retcode = fields.get("echo"), fields.get("status"), fields.get("retcode")
    if not isinstance(status, str) or not isinstance(retcode, int):
        raise ValueError("neither an event nor an answer")
    words = [fields.get(name) for name in ("message", "wording", "msg")]
    return Answer(
        echo=echo if isinstance(echo, str) else "",
        status=status,
        retcode=retcode,
        data=fields.get("data"),
        words=" ".join(each for each in words if isinstance(each, str))[:500],
    )


def _meta(fields: Fields) -> Meta | Ignored:
    if fields.get("meta_event_type") == "lifecycle":
        return Meta(event=_words(fields.get("sub_type")))
    if fields.get("meta_event_type") != "heartbeat":
        return Ignored(reason="this says nothing of the account")
    interval = fields.get("interval")
    return Meta(
        event="heartbeat",
        interval_ms=interval if isinstance(interval, int) else None,
        online=online(fields.get("status")),
    )


def _message(fields: Fields) -> Inbound | Ignored:
    self_id, user_id = _id(fields, "self_id"), _id(fields, "user_id")
    if user_id == self_id or any(int(user_id) in numbers for numbers in _BOTS):
        return Ignored(reason="a bot said it")
    spoken = fields.get("sender")
    sender: Fields = spoken if isinstance(spoken, dict) else {}
    match fields.get("message_type"):
        case "private":
            conversation = ConversationKey(type="direct", id=user_id)
            name = _words(sender.get("nickname"))
        case "group":
            conversation = ConversationKey(type="group", id=_id(fields, "group_id"))
            name = _words(sender.get("card")) or _words(sender.get("nickname"))
        case _:
            return Ignored(reason="this was said in a place that we do not know")
    found = segments(fields.get("message"), self_id=self_id)
    number = _id(fields, "message_id")
    direct = conversation.type == "direct"
    return Inbound(
        dedupe_key=f"{self_id}:{number}",
        message_id=number,
        occurred_at=_time(fields.get("time")),
        conversation=conversation,
        sender=Sender(id=user_id, name=name[:200] or None),
        segments=found,
        mentions_bot=direct or any(isinstance(each, At) and each.is_self for each in found),
        reply_handle=_temporary(fields, sender) if direct else {},
        raw=kept(found, fields),
    )


def _temporary(fields: Fields, sender: Fields) -> dict[str, str]:
    """Who is no friend writes by way of a group, and is answered by way of it."""
    if fields.get("sub_type") != "group":
        return {}
    for source in (fields, sender):
        if source.get("group_id"):
            return {"group_id": _id(source, "group_id")}
    return {}


def _forwarded_line(node: Any, self_id: str) -> str:
    inside = node.get("data", node) if isinstance(node, dict) else None
    if not isinstance(inside, dict):
        return ""
    try:
        said = segments(inside.get("content", inside.get("message")), self_id=self_id)
    except ValueError:
        return ""
    author = inside.get("sender")
    known: Fields = author if isinstance(author, dict) else inside
    name = _words(known.get("nickname")) or _words(known.get("name"))
    words = "".join(map(in_words, said))[:MAX_FORWARDED_WORDS]
    return f"{name[:64]}: {words}" if name else words


def _tidy(found: list[Segment]) -> list[Segment]:
    """Texts side by side are one, blank ones none, and what is answered comes first."""
    merged: list[Segment] = []
    for each in found:
        last = merged[-1] if merged else None
        if isinstance(each, Text) and isinstance(last, Text):
            merged[-1] = Text(text=last.text + each.text)
        else:
            merged.append(each)
    kept = [each for each in merged if not (isinstance(each, Text) and not each.text.strip())]
    replies = [each for each in kept if isinstance(each, Reply)]
    return [*replies[:1], *(each for each in kept if not isinstance(each, Reply))]


def _segment(raw: Any, self_id: str) -> Segment:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or not kind:
        raise ValueError("a segment has no type")
    data = raw.get("data")
    values = _Values(data if isinstance(data, dict) else {})
    read_as = _SEGMENTS.get(kind)
    try:
        found = read_as(values, self_id) if read_as else None
    except ValueError as error:
        return Unsupported(platform_type=kind[:64], reason=str(error))
    return found or Unsupported(platform_type=kind[:64], text=values["text"] or None)


class _Values:
    """A segment's data as texts: clients send numbers and strings as they like."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def __getitem__(self, name: str) -> str:
        return _words(self._data.get(name))

    def needed(self, name: str) -> str:
        if not self[name]:
            raise ValueError(f"it has no {name}")
        return self[name]

    def size(self, name: str) -> int | None:
        given = self[name]
        return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None

    def ref(self, *names: str) -> Ref:
        """What it is called at the client, and where its bytes are."""
        called = next((self[name] for name in names if self[name]), "")
        url = url_in({"url": self["url"]}) or url_in({"url": self["file"]})
        if not called and not url:
            raise ValueError("it names no file")
        return Ref(via=FILE, id=called or url, more={"url": url} if url else {})


def _picture(values: _Values, _: str) -> Segment:
    ref = values.ref("file", "file_id")
    if values["emoji_id"]:
        return Sticker(ref=ref, text=values["summary"] or None)
    return Image(ref=ref, size=values.size("file_size"))


def _sticker(values: _Values, _: str) -> Segment:
    return Sticker(ref=values.ref("emoji_id", "file"), text=values["summary"] or None)


def _voice(values: _Values, _: str) -> Segment:
    return Voice(ref=values.ref("file", "file_id"))


def _video(values: _Values, _: str) -> Segment:
    return Video(ref=values.ref("file", "file_id"))


def _file(values: _Values, _: str) -> Segment:
    name = values["name"] or values["file"]
    return File(
        ref=values.ref("file_id", "file"),
        name=name or None,
        size=values.size("file_size"),
    )


def _at(values: _Values, self_id: str) -> Segment:
    target = values.needed("qq")
    return At(target=target, name=values["name"] or None, is_self=target == self_id)


def _face(values: _Values, _: str) -> Segment:
    return Face(id=values.needed("id"), text=values["text"] or None)


def _place(values: _Values, _: str) -> Segment:
    lat, lon = float(values["lat"]), float(values["lon"])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError("there is no such place")
    title, address = values["title"] or None, values["content"] or None
    return Location(lat=lat, lon=lon, title=title, address=address)


def _share(values: _Values, _: str) -> Segment:
    return Link(
        url=values.needed("url"),
        title=values["title"] or None,
        desc=values["content"] or None,
        image=values["image"] or None,
    )


def _contact(values: _Values, _: str) -> Segment:
    return BusinessCard(
        contact_type="group" if values["type"] == "group" else "user", id=values.needed("id")
    )


def _json_card(values: _Values, _: str) -> Segment:
    data = values.needed("data")
    kept = data if len(data) <= MAX_CARD else None
    return Card(format=JSON_CARD, data=kept, text=_prompt(kept or ""))


def _other_card(kind: str, name: str) -> Callable[[_Values, str], Segment]:
    def read_card(values: _Values, _: str) -> Segment:
        data = values[name] or values["data"]
        return Card(format=f"onebot.{kind}", data=data if len(data) <= MAX_CARD else None)

    return read_card


_SEGMENTS: dict[str, Callable[[_Values, str], Segment]] = {
    "text": lambda values, _: Text(text=values["text"]),
    "face": _face,
    "image": _picture,
    "mface": _sticker,
    "record": _voice,
    "video": _video,
    "file": _file,
    "at": _at,
    "reply": lambda values, _: Reply(message_id=values.needed("id")),
    "share": _share,
    "location": _place,
    "contact": _contact,
    "forward": lambda values, _: Forward(ref=Ref(via=FORWARD, id=values.needed("id"))),
    "json": _json_card,
    "xml": _other_card("xml", "data"),
    "markdown": _other_card("markdown", "content"),
}


def _prompt(data: str) -> str | None:
    """What QQ itself shows in place of a card."""
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return _words(found.get("prompt"))[:500] or None


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else ""


def _id(fields: Fields, name: str) -> str:
    """A number, whether it comes as one or as text."""
    given = fields.get(name)
    text = given if isinstance(given, str) else str(given) if type(given) is int else ""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise ValueError(f"{name} is no number")
    return text


def _time(given: Any) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 <= given <= _END_OF_TIME:
        raise ValueError("time is no time")
    return float(given)


# --- what became of a call -------------------------------------------------------------------


class Failure(Struct, frozen=True, kw_only=True):
    """A client's no; `name` is its code in words, `unsure` that it may have been done."""

    name: str
    error_class: str
    unsure: bool = False


_CODES = {
    1400: Failure(name="bad_request", error_class="content_invalid"),
    1401: Failure(name="unauthorized", error_class="secret_invalid"),
    1403: Failure(name="forbidden", error_class="secret_invalid"),
    1404: Failure(name="unsupported_action", error_class="content_invalid"),
}
# Clients have one code for all that QQ refuses, so their words are looked at, and not shown.
_WORDS: tuple[tuple[tuple[str, ...], Failure], ...] = (
    (
        ("timeout", "timed out", "超时"),
        Failure(name="timeout", error_class="server_busy", unsure=True),
    ),
    (("频繁", "too often", "rate limit"), Failure(name="too_often", error_class="rate_limited")),
    (("禁言", "muted"), Failure(name="muted", error_class="no_permission")),
    (("rich media", "富媒体"), Failure(name="media", error_class="media_failed")),
    (("好友", "friend"), Failure(name="no_friend", error_class="recipient_refuses")),
    (("不在群", "群不存在", "not in group"), Failure(name="no_group", error_class="chat_gone")),
)
_OTHER = Failure(name="failed", error_class="content_invalid")


def failure(answer: Answer) -> Failure | None:
    """Why a call failed; None when it was done, or taken for later."""
    if answer.status in {"ok", "async"} and answer.retcode in {0, 1}:
        return None
    if answer.retcode in _CODES:
        return _CODES[answer.retcode]
    words = answer.words.lower()
    for signs, found in _WORDS:
        if any(sign in words for sign in signs):
            return found
    return _OTHER
