"""The neutral model to Feishu's messages; pure.

What a segment goes out as, the first that the platform takes:

    words, mentions, faces, places    text; post where the words hold what text would interpret
    link                              in a post among the words; words without a web address
    markdown                          a card with one markdown element, text otherwise
    card of the platform's own form   interactive, text otherwise
    image, video, file                image, media, file; a file otherwise, text in the end
    voice                             audio if it is opus, a file otherwise; its transcript as text
    business card                     share_user, share_chat
    reply                             the whole part by the reply call
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from adapters import cutting
from adapters.base import Content, Outgoing, SendFailed
from adapters.feishu.codec import CARD
from adapters.model import (
    At,
    BusinessCard,
    Card,
    ConversationKey,
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

# Bytes of a request: 150 KB for a text, 30 KB for a post or a card. The rest is for what is
# around the content, which is JSON inside of JSON.
MAX_TEXT_BYTES = 145_000
MAX_RICH_BYTES = 28_000
# Around each line of a post.
_LINE_BYTES = len(r"]},[{\"tag\":\"text\",\"text\":\"\"}")
# The platform's limit for the key by which it recognises a repeated send.
MAX_UUID = 50

_MB = 1024 * 1024
_IMAGES = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/tiff",
        "image/bmp",
        "image/x-icon",
    }
)
MAX_IMAGE_BYTES = 10 * _MB
MAX_FILE_BYTES = 30 * _MB
_OFFICE = {
    "pdf": "pdf",
    "doc": "doc",
    "docx": "doc",
    "xls": "xls",
    "xlsx": "xls",
    "ppt": "ppt",
    "pptx": "ppt",
}
_OGG = frozenset({"audio/ogg", "audio/opus", "application/ogg"})
# The name of the codec stands in the first page of an Ogg file.
_OPUS, _OGG_HEAD = b"OpusHead", 128

# Ids of chats, people and messages, which go into paths and attributes.
_ID = re.compile(r"[A-Za-z0-9_@.\-]{1,128}")
_BEGINNINGS = {"oc_": "chat_id", "ou_": "open_id", "on_": "union_id"}
# What a text would show in bold, as a link or as a mention that nobody meant.
_INTERPRETED = ("<", "](", "**")
_INLINE = (Text, At, Face, Link)

Fields = dict[str, Any]


class Message(Struct, frozen=True, kw_only=True):
    """What a call sends; `content` is JSON in a string."""

    type: str
    content: str


class Call(Struct, frozen=True, kw_only=True):
    """One call of the send API."""

    path: str
    query: dict[str, str]
    body: Fields


# --- parts -----------------------------------------------------------------------------------


class _Parts(Struct):
    """A message on its way into parts: those that are done, and the line that is being written."""

    done: list[list[Segment]] = field(default_factory=list)
    line: list[Segment] = field(default_factory=list)

    def write(self, segment: Segment) -> None:
        """Inline segments go on where others ended; anything else begins a line."""
        if not isinstance(segment, _INLINE):
            words = in_words(segment)
            ended = not self.line or in_words(self.line[-1]).endswith("\n")
            segment = Text(text=words if ended else f"\n{words}")
        last = self.line[-1] if self.line else None
        if isinstance(last, Text) and isinstance(segment, Text):
            self.line[-1] = Text(text=last.text + segment.text)
        else:
            self.line.append(segment)

    def put(self, segment: Segment) -> None:
        self.end_line()
        self.done.append([segment])

    def end_line(self) -> None:
        self.done += _cut(self.line)
        self.line = []


def split(segments: Sequence[Segment]) -> list[list[Segment]]:
    """A message as parts of one call each; what it answers is quoted by the first."""
    quote = [each for each in segments if isinstance(each, Reply) and each.message_id][:1]
    parts = _Parts()
    for segment in segments:
        if isinstance(segment, Reply):
            continue
        if _stands_alone(segment):
            parts.put(segment)
        else:
            parts.write(segment)
    parts.end_line()
    return [[*(quote if index == 0 else []), *part] for index, part in enumerate(parts.done)]


def _cut(line: list[Segment]) -> list[list[Segment]]:
    """A line in pieces that one message takes each; blank ones are none."""
    rich = _is_rich(line)
    limit = _limit(rich=rich)
    done: list[list[Segment]] = []
    now: list[Segment] = []
    left = limit
    for segment in line:
        for piece in _pieces(segment, left, rich=rich):
            size = _size(piece, rich=rich)
            if now and size > left:
                done.append(now)
                now, left = [], limit
            now.append(piece)
            left -= size
    if now:
        done.append(now)
    return [part for part in done if not all(_blank(each) for each in part)]


def _pieces(segment: Segment, left: int, *, rich: bool) -> list[Segment]:
    if not isinstance(segment, Text) or _size(segment, rich=rich) <= left:
        return [segment]
    return [Text(text=piece) for piece in cutting.pieces(segment.text, _fit(rich=rich))]


def _fit(*, rich: bool) -> cutting.Fit:
    """Pieces that fit in a request."""
    limit = _limit(rich=rich)

    def fits(text: str) -> bool:
        return _size(Text(text=text), rich=rich) <= limit

    def fit(text: str) -> int:
        low, high = 1, min(len(text), limit)
        if fits(text[:high]):
            return high
        while low < high:
            middle = (low + high + 1) // 2
            if fits(text[:middle]):
                low = middle
            else:
                high = middle - 1
        return low

    return fit


def _limit(*, rich: bool) -> int:
    return MAX_RICH_BYTES if rich else MAX_TEXT_BYTES


def _size(segment: Segment, *, rich: bool) -> int:
    """Bytes that it takes in a request, JSON inside of JSON; in a post a few too many."""
    if not rich:
        return len(_twice(_plain(segment)))
    lines = segment.text.count("\n") if isinstance(segment, Text) else 0
    return len(_twice(_rich_element(segment))) + lines * _LINE_BYTES


def _twice(form: Any) -> bytes:
    return _encoded(_encoded(form).decode())


def _stands_alone(segment: Segment) -> bool:
    match segment:
        case Image() | Video() | File():
            return True
        case Voice():
            return segment.ref is not None
        case Markdown() | Card() | BusinessCard():
            return message([segment]) is not None
        case _:
            return False


# --- messages --------------------------------------------------------------------------------


def message(part: Sequence[Segment]) -> Message | None:
    """What needs no upload, without its quote; None where it can only be said in words."""
    match part:
        case [Markdown() as markdown]:
            return _within(_markdown(markdown))
        case [Card() as card]:
            return _within(_card(card))
        case [BusinessCard(contact_type="group", id=shared)]:
            return _made("share_chat", {"chat_id": shared})
        case [BusinessCard(id=shared)]:
            return _made("share_user", {"user_id": shared})
    if not part or not all(isinstance(each, _INLINE) for each in part):
        return None
    if _is_rich(part):
        return _rich(part)
    return _made("text", {"text": "".join(_plain(each) for each in part)})


def words(part: Sequence[Segment]) -> Message:
    """The last resort: what it says; longer than any message, only its beginning."""
    said = Text(text="".join(in_words(each) for each in part))
    if _is_rich([said]) and _size(said, rich=True) <= MAX_RICH_BYTES:
        return _rich([said])
    # What would mention somebody mentions nobody.
    text = said.text.replace("<at", "< at")
    return _made("text", {"text": text[: _fit(rich=False)(text)]})


def media_message(kind: str, key: str, segment: Segment) -> Message:
    """The same for something that was uploaded as `kind`."""
    if kind == "image":
        return _made("image", {"image_key": key})
    if kind == "opus":
        return _made("audio", {"file_key": key})
    if kind == "mp4" and isinstance(segment, Video):
        return _made("media", {"file_key": key})
    return _made("file", {"file_key": key})


def keys(sent: Message) -> list[str]:
    """The uploads that a message shows."""
    content = msgspec.json.decode(sent.content, type=Fields)
    return [content[name] for name in ("image_key", "file_key") if name in content]


def upload_kind(segment: Segment, content: Content) -> str | None:
    """What to upload it as: `image`, or a file type; None when the platform takes it as nothing."""
    size = len(content.body)
    if not 0 < size <= MAX_FILE_BYTES:
        return None
    match segment:
        case Image() if content.content_type in _IMAGES and size <= MAX_IMAGE_BYTES:
            return "image"
        case Voice() if content.content_type in _OGG and _OPUS in content.body[:_OGG_HEAD]:
            return "opus"
        case Video() if content.content_type == "video/mp4":
            return "mp4"
        case File():
            return _OFFICE.get(content.name.rpartition(".")[2].lower(), "stream")
        case _:
            return "stream"


def call(
    sent: Message,
    conversation: ConversationKey,
    *,
    key: str = "",
    handle: Mapping[str, str] | None = None,
) -> Call:
    """Where it goes; `handle` quotes a message or goes on in its thread. Raises SendFailed."""
    body: Fields = {"msg_type": sent.type, "content": sent.content}
    uuid = {"uuid": key} if 0 < len(key) <= MAX_UUID else {}
    if handle and (reply_to := handle.get("message_id")):
        if not _ID.fullmatch(reply_to):
            raise SendFailed("message_gone", "there is no such message")
        thread: Fields = {"reply_in_thread": True} if handle.get("thread_id") else {}
        return Call(path=f"messages/{reply_to}/reply", query={}, body=body | thread | uuid)
    to = conversation.id
    kind = _BEGINNINGS.get(to[:3])
    if kind is None or not _ID.fullmatch(to):
        raise SendFailed("recipient_invalid", "neither a chat nor a person")
    return Call(
        path="messages",
        query={"receive_id_type": kind},
        body={"receive_id": to, **body, **uuid},
    )


def handle(part: Outgoing) -> Mapping[str, str]:
    """What the part answers: a quote, or the thread that the talk goes on in."""
    quoted = next((each.message_id for each in part.segments if isinstance(each, Reply)), None)
    thread = part.reply_handle.get("thread_id", "")
    if quoted:
        return {"message_id": quoted, "thread_id": thread}
    return part.reply_handle if thread else {}


# --- forms -----------------------------------------------------------------------------------


def _is_rich(part: Sequence[Segment]) -> bool:
    """Whether it must go as a post, whose texts are shown as they stand."""
    return any(
        (isinstance(each, Link) and _is_web(each))
        or (isinstance(each, Text) and any(mark in each.text for mark in _INTERPRETED))
        for each in part
    )


def _rich(part: Sequence[Segment]) -> Message:
    return _made("post", {"zh_cn": {"content": _paragraphs(part)}})


def _plain(segment: Segment) -> str:
    if isinstance(segment, At) and _ID.fullmatch(segment.target):
        name = re.sub(r"[<>&\"]", "", segment.name or "")
        return f'<at user_id="{segment.target}">{name}</at>'
    return in_words(segment)


def _paragraphs(part: Sequence[Segment]) -> list[list[Fields]]:
    lines: list[list[Fields]] = [[]]
    for segment in part:
        if not isinstance(segment, Text):
            lines[-1].append(_rich_element(segment))
            continue
        first, *more = segment.text.split("\n")
        for index, text in enumerate([first, *more]):
            if index:
                lines.append([])
            if text:
                lines[-1].append({"tag": "text", "text": text})
    return lines


def _rich_element(segment: Segment) -> Fields:
    match segment:
        case At() if _ID.fullmatch(segment.target):
            return {"tag": "at", "user_id": segment.target}
        case Link() if _is_web(segment):
            return {"tag": "a", "href": segment.url, "text": segment.title or segment.url}
        case _:
            return {"tag": "text", "text": in_words(segment)}


def _is_web(link: Link) -> bool:
    return link.url.startswith(("http://", "https://"))


def _markdown(markdown: Markdown) -> Message:
    card: Fields = {
        "config": {"wide_screen_mode": True},
        "elements": [{"tag": "markdown", "content": markdown.text}],
    }
    if markdown.title:
        card["header"] = {"title": {"tag": "plain_text", "content": markdown.title}}
    return _made("interactive", card)


def _card(card: Card) -> Message | None:
    if card.format != CARD or not card.data:
        return None
    try:
        data = msgspec.json.decode(card.data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return _made("interactive", data) if data else None


def _within(made: Message | None) -> Message | None:
    if made is None or len(_encoded(made.content)) > MAX_RICH_BYTES:
        return None
    return made


def _made(kind: str, content: Fields) -> Message:
    return Message(type=kind, content=_encoded(content).decode())


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _blank(segment: Segment) -> bool:
    return isinstance(segment, Text) and not segment.text.strip()
