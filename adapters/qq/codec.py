"""QQ's messages to the neutral model; pure. The way out is `adapters.qq.outgoing`."""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from adapters.model import (
    At,
    ConversationKey,
    Face,
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
from adapters.qq.callback import Call
from adapters.raw import kept

URL = "qq.url"
# A private talk within a guild has the guild's number and a way of its own.
PRIVATE = "dms:"

# The platform's ids have up to some hundred characters.
_MAX_ID = 512
# More than a person can attach; what is behind it is named, not lost in silence.
_MAX_ATTACHMENTS = 20
# Messages with a quote inside; the platform does not go deeper.
_QUOTE = 103
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799

# Marks inside a text. No part of one may hold the beginning of another, so one pass is enough.
_MARKS = re.compile(
    r"<@!?(?P<at>[0-9A-Za-z_-]{1,128})>"
    r'|<qqbot-at-user id="(?P<user>[0-9A-Za-z_-]{1,128})" ?/>'
    r"|(?P<all><qqbot-at-everyone ?/>)"
    r"|<emoji:(?P<emoji>[0-9]{1,10})>"
    r'|<faceType=[0-9]{1,4},faceId="(?P<face>[0-9]{0,10})",ext="(?P<ext>[A-Za-z0-9+/=]{0,4000})">'
)


class Notice(Struct, frozen=True, kw_only=True):
    """Something happened that nobody said: the bot was added, a button was pressed."""

    event: str
    dedupe_key: str
    occurred_at: float | None = None
    conversation: ConversationKey | None = None
    sender_id: str = ""
    reply_handle: dict[str, str] = {}
    button_id: str = ""
    button_data: str = ""


class Ignored(NamedTuple):
    """Nothing to report, and nothing wrong."""

    reason: str


Decoded = Inbound | Notice | Ignored


class _Place(NamedTuple):
    """Where a kind of message is said, and who says it: names of fields."""

    type: str
    conversation: str
    sender: tuple[str, ...]


_MESSAGES = {
    "C2C_MESSAGE_CREATE": _Place("direct", "", ("user_openid", "id")),
    "GROUP_AT_MESSAGE_CREATE": _Place("group", "group_openid", ("member_openid", "id")),
    "GROUP_MESSAGE_CREATE": _Place("group", "group_openid", ("member_openid", "id")),
    "AT_MESSAGE_CREATE": _Place("channel", "channel_id", ("id",)),
    "MESSAGE_CREATE": _Place("channel", "channel_id", ("id",)),
    "DIRECT_MESSAGE_CREATE": _Place("channel", "guild_id", ("id",)),
}
# Of these the platform says everything, not only what is meant for the bot.
_OVERHEARD = frozenset({"GROUP_MESSAGE_CREATE", "MESSAGE_CREATE"})
# Whether the notice may be answered, by its own id.
_NOTICES = {
    "FRIEND_ADD": True,
    "FRIEND_DEL": False,
    "C2C_MSG_REJECT": False,
    "C2C_MSG_RECEIVE": True,
    "GROUP_ADD_ROBOT": True,
    "GROUP_DEL_ROBOT": False,
    "GROUP_MSG_REJECT": False,
    "GROUP_MSG_RECEIVE": True,
}


def decode(call: Call, *, self_id: str = "") -> Decoded | Rejected:
    """What a dispatch says; never raises. `self_id` is the bot's own id within guilds."""
    event = call.t or ""
    if event not in _MESSAGES and event not in _NOTICES and event != "INTERACTION_CREATE":
        return Ignored(f"there is nothing to hear in {event[:64]!r}")
    try:
        said = _fields(call.d)
        if event in _MESSAGES:
            return _message(event, said, self_id)
        return _notice(event, call, said)
    except (KeyError, ValueError, OverflowError) as error:
        return Rejected(reason=f"not a message of QQ: {error}")


# --- messages ---


def _message(event: str, said: dict[str, Any], self_id: str) -> Inbound | Ignored:
    place, author = _MESSAGES[event], _fields(said.get("author"))
    sender = next((_id(author, name) for name in place.sender if author.get(name)), "")
    if not sender:
        raise ValueError("nobody said it")
    if author.get("bot") is True or sender == self_id:
        return Ignored("a bot said it")
    chat = _id(said, place.conversation) if place.conversation else sender
    if event == "DIRECT_MESSAGE_CREATE":
        chat = PRIVATE + chat
    message_id = _id(said, "id")
    mentions = [each for each in _list(said.get("mentions")) if isinstance(each, dict)]
    ours = [each for each in mentions if each.get("is_you") is True]
    own = {self_id} | {_word(each.get(key)) for each in ours for key in _IDS}
    segments = list(_segments(said, mentions, own - {""}))
    meant = bool(ours) or any(isinstance(each, At) and each.is_self for each in segments)
    guild = _word(said.get("guild_id"))
    return Inbound(
        dedupe_key=message_id,
        message_id=message_id,
        occurred_at=_time(said.get("timestamp")),
        conversation=ConversationKey(type=place.type, id=chat),  # type: ignore[arg-type]
        sender=Sender(id=sender, name=_word(author.get("username")) or None),
        segments=segments,
        mentions_bot=meant or event not in _OVERHEARD,
        reply_handle={"msg_id": message_id},
        app={"guild_id": guild} if guild else {},
        raw=kept(segments, said),
    )


_IDS = ("id", "member_openid", "user_openid")


def _segments(
    said: dict[str, Any], mentions: list[dict[str, Any]], own: set[str]
) -> Iterator[Segment]:
    quote = _quote(said)
    if quote is not None:
        yield quote
    names = {_word(each.get(key)): _word(each.get("username")) for each in mentions for key in _IDS}
    content = said.get("content")
    yield from _text(content if isinstance(content, str) else "", names, own)
    attachments = [each for each in _list(said.get("attachments")) if isinstance(each, dict)]
    for attachment in attachments[:_MAX_ATTACHMENTS]:
        yield _attachment(attachment)
    for card in ("ark", "embeds"):
        if said.get(card):
            yield Unsupported(platform_type=card)
    if len(attachments) > _MAX_ATTACHMENTS:
        yield Unsupported(platform_type="attachments", reason="too many in one message")


def _text(content: str, names: dict[str, str], own: set[str]) -> Iterator[Segment]:
    # PostgreSQL has no place for a zero.
    content = content.replace("\0", "\ufffd").strip()
    at = 0
    for mark in _MARKS.finditer(content):
        if mark.start() > at:
            yield Text(text=content[at : mark.start()])
        at = mark.end()
        yield _marked(mark, names, own)
    if at < len(content):
        yield Text(text=content[at:])


def _marked(mark: re.Match[str], names: dict[str, str], own: set[str]) -> Segment:
    target = mark["at"] or mark["user"]
    if target:
        return At(target=target, name=names.get(target) or None, is_self=target in own)
    if mark["all"]:
        return At(target="all")
    if mark["emoji"]:
        return Face(id=mark["emoji"])
    return Face(id=mark["face"], text=_face_text(mark["ext"]))


def _face_text(packed: str) -> str | None:
    try:
        found = msgspec.json.decode(base64.b64decode(packed, validate=True))
    except (binascii.Error, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return (_word(found.get("text")) or None) if isinstance(found, dict) else None


def _attachment(given: dict[str, Any]) -> Segment:
    type_, name = _word(given.get("content_type")), _word(given.get("filename")) or None
    size = _number(given.get("size"))
    url = _address(given.get("url"))
    if type_.startswith(("voice", "audio")):
        return _voice(given, url, name, size)
    if not url:
        return Unsupported(platform_type=type_ or "attachment", text=name, reason="no address")
    ref = Ref(via=URL, id=url)
    width, height = _number(given.get("width")), _number(given.get("height"))
    if type_.startswith("image"):
        return Image(ref=ref, name=name, width=width, height=height, size=size)
    if type_.startswith("video"):
        format_ = type_.partition("/")[2] or None
        return Video(ref=ref, name=name, format=format_, width=width, height=height)
    return File(ref=ref, name=name, size=size)


def _voice(given: dict[str, Any], url: str, name: str | None, size: int | None) -> Voice:
    """As something a browser plays, where the platform offers that."""
    wav = _address(given.get("voice_wav_url"))
    more = {"name": name, "size": None if size is None else str(size)}
    known = {key: value for key, value in more.items() if value is not None}
    found = wav or url
    ending = (name or "").rpartition(".")[2].lower()
    return Voice(
        ref=Ref(via=URL, id=found, more=known) if found else None,
        format="wav" if wav else (ending if ending.isalnum() and len(ending) <= 8 else None),
        transcript=_word(given.get("asr_refer_text")) or None,
    )


def _quote(said: dict[str, Any]) -> Reply | None:
    reference = said.get("message_reference")
    if isinstance(reference, dict) and (quoted := _word(reference.get("message_id"))):
        return Reply(message_id=quoted)
    if said.get("message_type") != _QUOTE:
        return None
    scene = said.get("message_scene")
    found = [
        each.partition("=")[2]
        for each in _list(scene.get("ext") if isinstance(scene, dict) else None)
        if isinstance(each, str) and each.startswith("ref_msg_idx=")
    ]
    elements = [each for each in _list(said.get("msg_elements")) if isinstance(each, dict)]
    inner = {key: elements[0].get(key) for key in ("content", "attachments")} if elements else {}
    quoted_segments = list(_segments(inner, [], set()))
    return Reply(message_id=_word(found[0]) or None if found else None, quoted=quoted_segments)


# --- notices ---


def _notice(event: str, call: Call, said: dict[str, Any]) -> Notice:
    if event == "INTERACTION_CREATE":
        resolved = _fields(_fields(said.get("data")).get("resolved"))
        return Notice(
            event=event,
            dedupe_key=_id(said, "id"),
            sender_id=_word(resolved.get("user_id")),
            button_id=_word(resolved.get("button_id")),
            button_data=_word(resolved.get("button_data")),
        )
    event_id = _id({"id": call.id}, "id")
    group = _word(said.get("group_openid"))
    sender = _id(said, "op_member_openid" if group else "openid")
    return Notice(
        event=event,
        dedupe_key=event_id,
        occurred_at=_time(said.get("timestamp")),
        conversation=ConversationKey(type="group" if group else "direct", id=group or sender),
        sender_id=sender,
        reply_handle={"event_id": event_id} if _NOTICES[event] else {},
    )


# --- fields ---


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a part of it is missing")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    """A text as it is, an id that came as a number as its digits, nothing for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 2**64 else ""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else ""


def _id(fields: dict[str, Any], name: str) -> str:
    value = _word(fields.get(name))
    if not value.strip() or len(value) > _MAX_ID or "\ufffd" in value:
        raise ValueError(f"{name} is no id")
    return value


def _number(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**53 else None


def _address(value: Any) -> str:
    """Of a medium; the platform leaves the scheme out at times."""
    url = _word(value)
    if url.startswith("//"):
        url = "https:" + url
    return url if url.startswith(("https://", "http://")) and len(url) <= 4096 else ""


def _time(value: Any) -> float:
    """Unix seconds, from those or from the platform's way of writing a time."""
    if isinstance(value, str) and not value.isdigit():
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("the time is of no zone")
        seconds = moment.timestamp()
    elif isinstance(value, str | int) and not isinstance(value, bool):
        seconds = float(str(value)[:15])
    else:
        raise ValueError("there is no time")
    if not 0 <= seconds <= _END_OF_TIME:
        raise ValueError("the time is absurd")
    return seconds
