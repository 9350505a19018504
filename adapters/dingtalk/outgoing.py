"""The neutral model to a robot's messages, and the platform's refusals; pure.

What a segment goes out as, the first that the platform takes:

    text, mentions and what can be said in words    text, cut at 10,000 bytes
    markdown                                        markdown, text where it is too long
    link                                            link, text without a title or a web address
    card of the platform's own form                 sampleActionCard, text otherwise
    image                                           the same, text otherwise
    voice, video                                    the same, a file without length or cover
    file                                            file, text otherwise
    voice without sound                             its transcript as text

There are two ways: the address for replies, which comes with a message and lives for a while, and
the robot's API. Media and cards go by the API alone, but for pictures.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

from adapters import cutting
from adapters.base import Content
from adapters.model import (
    At,
    Card,
    Face,
    File,
    Image,
    Link,
    Markdown,
    Reply,
    Segment,
    Text,
    Video,
    Voice,
    in_words,
)

CARD = "dingtalk.sampleActionCard"
DIRECT_PATH = "/v1.0/robot/oToMessages/batchSend"
GROUP_PATH = "/v1.0/robot/groupMessages/send"

# Bytes of one text or markdown: a message has 20,000 at most, and its JSON lies within JSON.
MAX_TEXT_BYTES = 10_000
# Characters of a title that we make up from the first line.
MAX_TITLE = 60
MAX_URL_BYTES = 2048

_MB = 1024 * 1024
# What the platform takes as which kind of media: content types, and at most how many bytes.
_UPLOADS: dict[str, tuple[frozenset[str], int]] = {
    "image": (frozenset({"image/jpeg", "image/png", "image/gif", "image/bmp"}), 20 * _MB),
    "voice": (frozenset({"audio/amr", "audio/ogg"}), 2 * _MB),
    "video": (frozenset({"video/mp4"}), 20 * _MB),
}
MAX_FILE_BYTES = 20 * _MB
_INLINE = (Text, At, Face, Reply)
_CARD_KEY = re.compile(r"sampleActionCard[0-9]{0,2}")

Body = dict[str, Any]


class Message(NamedTuple):
    """One message of the robot: as the API has it, and as the address for replies has it."""

    key: str
    param: Body
    webhook: Body | None = None


class _Parts(Struct):
    """A message on its way into parts: those that are done, and the words that wait for more."""

    done: list[list[Segment]] = field(default_factory=list)
    words: list[Segment] = field(default_factory=list)
    size: int = 0

    def say(self, segment: Segment, *, inline: bool) -> None:
        """Inline words go on where others ended; anything else begins a line."""
        words = in_words(segment)
        if self.size and not inline:
            words = "\n" + words
        if isinstance(segment, At) and segment.target:
            if self.size + len(words.encode()) > MAX_TEXT_BYTES:
                self.end_words()
            self._add(segment, words)
            return
        for piece in cutting.pieces(words, cutting.utf8_bytes(MAX_TEXT_BYTES)):
            if self.size + len(piece.encode()) > MAX_TEXT_BYTES:
                self.end_words()
            self._add(Text(text=piece), piece)

    def put(self, segment: Segment) -> None:
        self.end_words()
        self.done.append([segment])

    def end_words(self) -> None:
        if any(isinstance(each, At) or in_words(each).strip() for each in self.words):
            self.done.append(self.words)
        self.words, self.size = [], 0

    def _add(self, segment: Segment, words: str) -> None:
        self.words.append(segment)
        self.size += len(words.encode())


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """A message as parts: words with whom they mention, or something that is sent by itself."""
    parts = _Parts()
    for segment in segments:
        if _stands_alone(segment):
            parts.put(segment)
        else:
            parts.say(segment, inline=isinstance(segment, _INLINE))
    parts.end_words()
    return parts.done


def _stands_alone(segment: Segment) -> bool:
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case Markdown():
            return bool(segment.text.strip()) and _fits(segment.text)
        case Link():
            return _is_link(segment)
        case Card():
            return card(segment) is not None
        case _:
            return False


def message(segments: Sequence[Segment]) -> Message:
    """A part that needs no upload."""
    match segments[0]:
        case Markdown() as formatted:
            return markdown(formatted.text, formatted.title)
        case Link() as link:
            return _link(link)
        case Card() as template if (found := card(template)) is not None:
            return found
        case _:
            return words(segments)


def words(segments: Sequence[Segment]) -> Message:
    """What it says, in one text, and whom it mentions."""
    text = "".join(map(in_words, segments))
    text = text[: cutting.utf8_bytes(MAX_TEXT_BYTES)(text)]
    mentioned = [each.target for each in segments if isinstance(each, At)]
    at = {
        "atUserIds": [target for target in mentioned if target != "all"],
        "isAtAll": "all" in mentioned,
    }
    # An id within the text is where the platform shows the name.
    shown = "".join(
        f"@{each.target} " if isinstance(each, At) and each.target != "all" else in_words(each)
        for each in segments
    )
    shown = shown[: cutting.utf8_bytes(MAX_TEXT_BYTES)(shown)]
    return Message(
        "sampleText",
        {"content": text},
        {"msgtype": "text", "text": {"content": shown}, "at": at},
    )


def markdown(text: str, title: str | None = None) -> Message:
    shown = {"title": title or _first_line(text), "text": text}
    return Message("sampleMarkdown", shown, {"msgtype": "markdown", "markdown": shown})


def picture(media_id: str) -> Message:
    """An uploaded picture: the platform takes its id for an address."""
    shown = {"title": "[image]", "text": f"![image]({media_id})"}
    return Message(
        "sampleImageMsg", {"photoURL": media_id}, {"msgtype": "markdown", "markdown": shown}
    )


def media(kind: str, media_id: str, segment: Segment, content: Content, cover: str) -> Message:
    """Something else that was uploaded; the address for replies takes none of it."""
    duration = getattr(segment, "duration_ms", None) or 0
    if kind == "voice":
        return Message("sampleAudio", {"mediaId": media_id, "duration": str(duration)})
    if kind == "video":
        param = {
            "duration": str(max(duration // 1000, 1)),
            "videoMediaId": media_id,
            "videoType": "mp4",
            "picMediaId": cover,
        }
        return Message("sampleVideo", param)
    name = getattr(segment, "name", None) or content.name or "file"
    param = {"mediaId": media_id, "fileName": name, "fileType": _ending(name)}
    return Message("sampleFile", param)


def card(segment: Card) -> Message | None:
    """The platform's own card: `data` is `{"msgKey", "msgParam": {...}}`."""
    if segment.format != CARD or not segment.data:
        return None
    try:
        data = msgspec.json.decode(segment.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    key, param = data.get("msgKey"), data.get("msgParam")
    if not (isinstance(key, str) and _CARD_KEY.fullmatch(key) and isinstance(param, dict)):
        return None
    return Message(key, param)


def upload_kind(segment: Segment, content: Content) -> str | None:
    """What to upload it as; None when the platform takes it as nothing."""
    size = len(content.body)
    if not size:
        return None
    wanted = type(segment).__name__.lower()
    types, limit = _UPLOADS.get(wanted, (frozenset(), 0))
    if content.content_type in types and size <= limit and _is_whole(segment):
        return wanted
    return "file" if size <= MAX_FILE_BYTES else None


def direct(robot: str, staff_id: str, what: Message) -> Body:
    return {"robotCode": robot, "userIds": [staff_id], **_keyed(what)}


def group(robot: str, conversation_id: str, what: Message) -> Body:
    return {"robotCode": robot, "openConversationId": conversation_id, **_keyed(what)}


def _keyed(what: Message) -> Body:
    return {"msgKey": what.key, "msgParam": msgspec.json.encode(what.param).decode()}


def _link(link: Link) -> Message:
    text, cover = link.desc or link.url, link.image or ""
    param = {"title": link.title, "text": text, "picUrl": cover, "messageUrl": link.url}
    return Message("sampleLink", param, {"msgtype": "link", "link": param})


def _is_link(link: Link) -> bool:
    web = link.url.startswith(("http://", "https://"))
    return bool(link.title and web and len(link.url.encode()) <= MAX_URL_BYTES)


def _is_whole(segment: Segment) -> bool:
    """Voices need a length, films a cover too."""
    match segment:
        case Voice():
            return bool(segment.duration_ms)
        case Video():
            return bool(segment.duration_ms) and segment.thumb is not None
        case _:
            return True


def _fits(text: str) -> bool:
    return len(text.encode()) <= MAX_TEXT_BYTES


def _first_line(text: str) -> str:
    line = next((each for each in text.splitlines() if each.strip("#>*-_` \t")), "")
    return line.strip("#>*-_` \t")[:MAX_TITLE] or "…"


def _ending(name: str) -> str:
    ending = name.rpartition(".")[2] if "." in name else ""
    return re.sub(r"[^A-Za-z0-9]", "", ending)[:10].lower() or "bin"


# --- the platform's refusals -----------------------------------------------------------------

# By the beginning of what the new API says, in lower case; the first that fits.
_NAMED = (
    ("invalidauthentication", "token_invalid"),
    ("invalidclientidorsecret", "secret_invalid"),
    ("forbidden.accessdenied.ipnotinwhitelist", "ip_not_allowed"),
    ("forbidden", "no_permission"),
    ("throttling", "rate_limited"),
    ("invalidparameter.robotcode", "no_permission"),
    ("invalidparameter.userids", "recipient_invalid"),
    ("invalidparameter.openconversationid", "chat_gone"),
    ("invalidparameter.mediaid", "media_failed"),
    ("invalidsession", "reply_handle_invalid"),
    ("serviceunavailable", "server_busy"),
)
# By HTTP status, where the name says nothing.
_STATUS = {401: "token_invalid", 403: "no_permission", 429: "rate_limited"}
# The older API's numbers.
_CODES = {
    -1: "server_busy",
    0: "ok",
    88: "token_invalid",
    40014: "token_invalid",
    42001: "token_expired",
    41001: "token_missing",
    40035: "content_invalid",
    90002: "rate_limited",
    90018: "rate_limited",
    130101: "rate_limited",
    300001: "reply_handle_invalid",
    310000: "no_permission",
    460101: "too_long",
}


def refusal_class(status: int, name: str) -> str:
    """The neutral class of a refusal of the new API; what is unknown is a fault of the content."""
    said = name.lower()
    for beginning, found in _NAMED:
        if said.startswith(beginning):
            return found
    return _STATUS.get(status, "content_invalid")


def error_class(errcode: int) -> str:
    """The same of the older API."""
    return _CODES.get(errcode, "content_invalid")


def not_reached(answer: Mapping[str, object]) -> str | None:
    """Why a message that was taken goes to nobody; None when it goes."""
    lists = {
        "invalidStaffIdList": "recipient_invalid",
        "flowControlledStaffIdList": "rate_limited",
        "filteredStaffIdList": "recipient_refuses",
    }
    return next((found for name, found in lists.items() if answer.get(name)), None)
