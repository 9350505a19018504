"""Neutral messages to QQ's, and what its answers mean; pure.

What a segment goes out as, the first that the platform takes:

    text and what can be said in words    text; a picture takes the words before it along
    markdown                              markdown, text otherwise
    card of the platform's own form       that, text otherwise
    image, voice, video                   the same, words otherwise (a voice: its transcript)
    file                                  a file in direct talks, words otherwise

QQ lets a bot answer a message five times. So a long text makes as few parts as it can, and never
more than that: the last takes all that is left.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from adapters import cutting
from adapters.base import Content
from adapters.model import (
    At,
    Card,
    ConversationKey,
    Face,
    File,
    Image,
    Markdown,
    Reply,
    Segment,
    Text,
    Video,
    Voice,
    in_words,
)
from adapters.qq.codec import PRIVATE

# Cards in the platform's own words: their data are the fields of its message.
ARK, MARKDOWN = "qq.ark", "qq.markdown"

# Answers to one message, in direct talks and groups.
MAX_REPLIES = 5
# Characters of one text or markdown. The platform names no limit of its own; long texts are cut
# into pieces that a telephone shows as a whole.
MAX_TEXT = 2000
# Bytes of an upload inside a call; more needs an upload in pieces.
MAX_UPLOAD_BYTES = 10 * 1024 * 1024

# The platform's numbers for kinds of uploads, and what it takes as which.
IMAGE, VIDEO, VOICE, FILE = 1, 2, 3, 4
_UPLOADS: dict[int, frozenset[str]] = {
    IMAGE: frozenset({"image/png", "image/jpeg"}),
    VIDEO: frozenset({"video/mp4"}),
    VOICE: frozenset({"audio/silk", "audio/wav", "audio/x-wav", "audio/mpeg", "audio/flac"}),
}
# A guild takes pictures alone.
_GUILD_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif"})

Body = dict[str, Any]
Media = Image | Voice | Video | File

# What the platform would read as a mark of its own, and nobody meant so: a text must not call
# everybody of a group, whoever made the bot say it.
_MARK = re.compile(r"<(?=/?(?:qqbot-|@|#|emoji:|faceType=))")
_CHAT = re.compile(r"[0-9A-Za-z_.!=-]{1,128}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)


class Target(NamedTuple):
    """Where a message goes: the part of the address before `/messages`."""

    path: str
    scene: str
    """users, groups, channels or dms."""

    @property
    def counts(self) -> bool:
        """Whether the platform counts answers, and knows a repeat by its number."""
        return self.scene in ("users", "groups")


class Anchor(NamedTuple):
    """What a message answers: the platform lets a bot answer, and nothing else."""

    field: str
    id: str


def target(conversation: ConversationKey) -> Target | None:
    """None for what is no conversation of the platform."""
    chat = conversation.id
    if conversation.type == "channel":
        scene = "dms" if chat.startswith(PRIVATE) else "channels"
        chat = chat.removeprefix(PRIVATE)
        return Target(f"/{scene}/{chat}", scene) if _NUMBER.fullmatch(chat) else None
    scene = "groups" if conversation.type == "group" else "users"
    # Dots alone would lead up in the path.
    if not _CHAT.fullmatch(chat) or not chat.strip("."):
        return None
    return Target(f"/v2/{scene}/{in_path(chat)}", scene)


def in_path(id_: str) -> str:
    """An id of the platform within an address."""
    return quote(id_, safe="")


def anchor(reply_handle: dict[str, str]) -> Anchor | None:
    """None where there is nothing that may be answered."""
    for field in ("msg_id", "event_id"):
        if reply_handle.get(field):
            return Anchor(field, reply_handle[field])
    return None


# --- parts ---


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """A message as parts, each for one call: words, a picture with the words before it, or one
    thing alone. What it answers leads the first part."""
    runs: list[list[Segment]] = []
    words: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Reply):
            continue
        if not stands_alone(segment):
            _say(words, segment)
            continue
        takes_words = isinstance(segment, Image) and _length(words) <= MAX_TEXT
        if words and not takes_words:
            runs.append(words)
            words = []
        runs.append([*words, segment])
        words = []
    runs.append(words)
    parts = list(_cut([run for run in runs if not _blank(run)]))
    replies = [each for each in segments if isinstance(each, Reply) and each.message_id]
    if parts and replies:
        parts[0] = [replies[0], *parts[0]]
    return parts


def stands_alone(segment: Segment) -> bool:
    """Whether the platform has a message of its own for it; otherwise it is said in words."""
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case Markdown():
            return bool(segment.text.strip()) and len(segment.text) <= MAX_TEXT
        case Card():
            return card_body(segment) is not None
        case _:
            return False


def _say(words: list[Segment], segment: Segment) -> None:
    if isinstance(segment, At):
        words.append(segment)
        return
    said = in_words(segment)
    inline = isinstance(segment, Text | Face)
    if words and not inline and not _ending(words[-1]).endswith("\n"):
        said = "\n" + said
    if words and isinstance(words[-1], Text):
        words[-1] = Text(text=words[-1].text + said)
    elif said:
        words.append(Text(text=said))


def _cut(runs: list[list[Segment]]) -> Iterable[list[Segment]]:
    """As many pieces as are left to us, and the last piece has the rest."""
    spare = MAX_REPLIES - len(runs)
    for run in runs:
        rest = run
        while spare > 0 and not stands_alone(run[-1]) and _length(rest) > MAX_TEXT:
            piece, rest = _first(rest)
            spare -= 1
            yield piece
        if not _blank(rest):
            yield rest


def _first(run: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """What fits into one message, and what does not; a mention is never cut."""
    piece: list[Segment] = []
    room = MAX_TEXT
    for index, segment in enumerate(run):
        cost = len(in_words(segment))
        if cost <= room:
            piece.append(segment)
            room -= cost
            continue
        rest = list(run[index:])
        if isinstance(segment, Text) and (room > 0 or not piece):
            head = cutting.pieces(segment.text, cutting.characters(max(room, 1)))[0]
            piece.append(Text(text=head))
            rest[0] = Text(text=segment.text[len(head) :])
        elif not piece:
            piece.append(rest.pop(0))
        return piece, rest
    return piece, []


def _length(run: Iterable[Segment]) -> int:
    return sum(len(in_words(segment)) for segment in run)


def _ending(segment: Segment) -> str:
    return segment.text if isinstance(segment, Text) else " "


def _blank(run: Sequence[Segment]) -> bool:
    return all(isinstance(each, Text | Markdown) and not each.text.strip() for each in run)


# --- bodies ---


def said(segments: Iterable[Segment], to: Target) -> str:
    """The words of a part, as the platform writes them there."""
    written = words = ""
    for segment in segments:
        mark = _mention(segment, to) if isinstance(segment, At) else ""
        if mark:
            written, words = written + harmless(words) + mark, ""
        else:
            words += in_words(segment)
    return written + harmless(words)


def _mention(at: At, to: Target) -> str:
    """Empty where nobody can be called."""
    if to.scene == "channels" and at.target == "all":
        return "<qqbot-at-everyone />"
    if to.scene in ("groups", "channels") and at.target != "all" and _CHAT.fullmatch(at.target):
        return f'<qqbot-at-user id="{at.target}" />'
    return ""


def harmless(text: str) -> str:
    """The text, with nothing in it that the platform takes for a mark."""
    return _MARK.sub("\uff1c", text)


def text_body(content: str) -> Body:
    return {"content": content, "msg_type": 0}


def markdown_body(content: str) -> Body:
    return {"markdown": {"content": harmless(content)}, "msg_type": 2}


def media_body(file_info: str, content: str = "") -> Body:
    # Without any content the platform takes the message for an empty one.
    return {"msg_type": 7, "media": {"file_info": file_info}, "content": content or " "}


def card_body(card: Card) -> Body | None:
    """None for a card of another form."""
    fields = {ARK: ("ark",), MARKDOWN: ("markdown", "keyboard")}.get(card.format)
    if fields is None or not card.data:
        return None
    try:
        data = msgspec.json.decode(card.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    body = {name: data[name] for name in fields if isinstance(data.get(name), dict)}
    if fields[0] not in body:
        return None
    return body | {"msg_type": 3 if card.format == ARK else 2}


def addressed(
    body: Body, to: Target, answers: Anchor, seq: int, *, quotes: str | None = None
) -> Body:
    """The body with what it answers; guilds know neither numbers nor types of messages."""
    full = body | {answers.field: answers.id}
    if to.counts:
        return full | {"msg_seq": seq}
    full.pop("msg_type", None)
    if quotes:
        reference = {"message_id": quotes, "ignore_get_message_error": True}
        return full | {"message_reference": reference}
    return full


# --- media ---


def upload_type(segment: Media, content: Content, to: Target) -> int | None:
    """The platform's number of what it is uploaded as; None when it takes it as nothing."""
    if not to.counts or not 0 < len(content.body) <= MAX_UPLOAD_BYTES:
        return None
    wanted = type_of(segment)
    if content.content_type in _UPLOADS.get(wanted, ()):
        return wanted
    # A voice that it cannot play is worth more as words; groups take no files.
    as_file = to.scene == "users" and not isinstance(segment, Voice)
    return FILE if as_file else None


def type_of(segment: Media) -> int:
    match segment:
        case Image():
            return IMAGE
        case Video():
            return VIDEO
        case Voice():
            return VOICE
        case File():
            return FILE


def upload_body(
    file_type: int, *, url: str = "", data: bytes = b"", name: str | None = None
) -> Body:
    """To be kept by the platform and sent by us: by itself it would send it at once, unasked."""
    source: Body = {"url": url} if url else {"file_data": data}
    named = {"file_name": name[:128]} if name and file_type == FILE else {}
    return {"file_type": file_type, **source, **named, "srv_send_msg": False}


def guild_takes(segment: Media, content: Content) -> bool:
    """Whether a guild takes it, within the message itself."""
    fits = 0 < len(content.body) <= MAX_UPLOAD_BYTES
    return isinstance(segment, Image) and content.content_type in _GUILD_IMAGES and fits


# --- answers ---

# Besides the documented codes those that open clients of 2026 have met, of eight digits.
_CLASSES = {
    11241: "token_invalid",
    11242: "token_invalid",
    11243: "token_invalid",
    11253: "no_permission",
    11264: "no_permission",
    11265: "bot_banned",
    11298: "ip_not_allowed",
    20028: "rate_limited",
    22009: "rate_limited",
    50006: "empty_message",
    304003: "content_invalid",
    304014: "bad_markup",
    304020: "media_failed",
    304023: "async_audit",
    304024: "async_audit",
    304026: "reply_handle_invalid",
    304027: "window_expired",
    304031: "recipient_unavailable",
    304036: "bad_markup",
    304037: "bad_markup",
    304045: "rate_limited",
    304049: "rate_limited",
    304082: "media_failed",
    304083: "media_failed",
    304103: "window_expired",
    40034005: "window_expired",
    40034024: "reply_handle_invalid",
    40034101: "bot_not_in_chat",
    40034102: "window_expired",
    40034105: "window_expired",
    40034127: "bad_markup",
    40034128: "window_expired",
    40054002: "no_permission",
    40054003: "bot_not_in_chat",
    40054004: "recipient_invalid",
    40054005: "duplicate_in_flight",
    40054007: "too_long",
    40054010: "content_invalid",
    40054013: "recipient_refuses",
    40054018: "too_long",
    40093002: "media_quota",
    # Of the place where tokens come from.
    100007: "secret_invalid",
    100016: "secret_invalid",
}
# The one text that is not ours: an address in it which the console does not know.
UNKNOWN_ADDRESS = frozenset({304003, 40054010})


def error_class(http: int, code: int) -> str:
    """The neutral class of an answer; whatever is unknown is a fault of the content."""
    if code in _CLASSES:
        return _CLASSES[code]
    if http < 300 and code == 0:
        return "ok"
    if http == 401:
        return "token_invalid"
    if http == 429:
        return "rate_limited"
    return "server_busy" if http >= 500 else "content_invalid"
