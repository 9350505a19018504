"""A robot's messages to the neutral model; pure.

The same JSON comes as data of a frame and as body of a callback.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

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

MEDIA = "dingtalk.downloadCode"
# The names within a reply handle.
WEBHOOK, EXPIRES_AT, STAFF_ID = "session_webhook", "expires_at", "staff_id"

MAX_BYTES = 1024 * 1024
# Words and pictures of one rich text; people write a dozen.
MAX_PIECES = 500
# The last second that a datetime can hold.
_END_OF_TIME = 253_402_300_799

_Id = Annotated[str, Meta(min_length=1, max_length=500)]
_Millis = Annotated[int, Meta(ge=0, le=_END_OF_TIME * 1000)]
_Content = dict[str, Any]


class _Message(Struct, rename="camel"):
    conversation_id: _Id
    msg_id: _Id
    msgtype: _Id
    create_at: _Millis
    sender_id: str = ""
    sender_staff_id: str | None = None
    sender_nick: str | None = None
    conversation_type: str | int = "1"
    chatbot_user_id: str | None = None
    robot_code: str | None = None
    is_in_at_list: bool | None = None
    session_webhook: str | None = None
    session_webhook_expired_time: _Millis | None = None
    text: _Content = field(default_factory=dict)
    content: _Content | str = field(default_factory=dict)

    @property
    def fields(self) -> _Content:
        """What the message holds, by the names of its type."""
        if self.msgtype == "text":
            return self.text
        return self.content if isinstance(self.content, dict) else {}


class Own(Struct, frozen=True, kw_only=True):
    """The robot's own words came back: nothing to report."""


class Said(Struct, frozen=True, kw_only=True):
    """A message, and every id that the platform gave its sender."""

    message: Inbound
    ids: dict[str, str]


def decode(data: bytes | str) -> Said | Own | Rejected:
    """A robot's message; never raises."""
    if len(data) > MAX_BYTES:
        return Rejected(reason="not a DingTalk message: too large")
    try:
        found = msgspec.json.decode(data, type=_Message, strict=False)
        return _said(found, data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # The library's words may quote what was said.
        return Rejected(reason="not a DingTalk message")


def _said(found: _Message, data: bytes | str) -> Said | Own:
    sender = found.sender_staff_id or found.sender_id
    names = f"{found.conversation_id}{found.msg_id}{sender}{found.sender_nick}"
    if not sender or "\0" in names or len(sender) > 500:
        raise ValueError("nobody said it")
    if found.chatbot_user_id and found.sender_id == found.chatbot_user_id:
        return Own()
    in_group = str(found.conversation_type) == "2"
    segments = _segments(found)
    message = Inbound(
        dedupe_key=found.msg_id,
        message_id=found.msg_id,
        occurred_at=found.create_at / 1000,
        conversation=ConversationKey(
            type="group" if in_group else "direct", id=found.conversation_id
        ),
        sender=Sender(id=sender, name=found.sender_nick or None),
        segments=segments,
        mentions_bot=found.is_in_at_list is not False if in_group else True,
        reply_handle=_handle(found),
        app={"robot_code": found.robot_code} if found.robot_code else {},
        raw=kept(segments, data),
    )
    ids = {"senderId": found.sender_id, "senderStaffId": found.sender_staff_id}
    return Said(message=message, ids={name: value for name, value in ids.items() if value})


def _handle(found: _Message) -> dict[str, str]:
    """What a reply needs: the address for it while that is good, and the person's own id."""
    handle = {}
    if found.session_webhook and found.session_webhook_expired_time:
        handle[WEBHOOK] = found.session_webhook
        handle[EXPIRES_AT] = str(found.session_webhook_expired_time / 1000)
    if found.sender_staff_id:
        handle[STAFF_ID] = found.sender_staff_id
    return handle


def _segments(found: _Message) -> list[Segment]:
    quoted = _quoted(found.text)
    return [*quoted, *_content(found.msgtype, found.fields, found.robot_code)]


def _content(kind: str, fields: _Content, robot_code: str | None) -> list[Segment]:
    match kind:
        case "text":
            text = _text(fields, "content").strip()
            return [Text(text=text)] if text else []
        case "richText":
            return _rich_text(fields.get("richText"), robot_code)
        case "picture":
            return [Image(ref=_ref(fields, robot_code))]
        case "audio":
            return [
                Voice(
                    ref=_ref(fields, robot_code) if fields.get("downloadCode") else None,
                    duration_ms=_whole(fields.get("duration")),
                    transcript=_text(fields, "recognition") or None,
                )
            ]
        case "video":
            seconds = _whole(fields.get("duration"))
            return [
                Video(
                    ref=_ref(fields, robot_code),
                    format=_text(fields, "videoType") or None,
                    duration_ms=None if seconds is None else seconds * 1000,
                )
            ]
        case "file":
            return [File(ref=_ref(fields, robot_code), name=_text(fields, "fileName") or None)]
        case _:
            said = _text(fields, "unknownMsgType") or _text(fields, "text")
            return [Unsupported(platform_type=kind, text=said or None)]


def _rich_text(items: object, robot_code: str | None) -> list[Segment]:
    """Words and pictures in turn; words beside each other become one text."""
    if not isinstance(items, list):
        raise ValueError("no list")
    segments: list[Segment] = []
    words: list[str] = []

    def end_words() -> None:
        text = "".join(words)
        words.clear()
        if text.strip():
            segments.append(Text(text=text))

    for item in items[:MAX_PIECES]:
        if not isinstance(item, dict):
            continue
        if item.get("downloadCode"):
            end_words()
            segments.append(Image(ref=_ref(item, robot_code)))
        else:
            words.append(_text(item, "text"))
    end_words()
    if len(items) > MAX_PIECES:
        segments.append(Unsupported(platform_type="richText", reason="too long"))
    return segments


def _quoted(text: _Content) -> list[Segment]:
    """What the message answers: with its words, where the platform repeats them."""
    replied = text.get("repliedMsg")
    if not text.get("isReplyMsg") or not isinstance(replied, dict):
        return []
    fields = replied.get("content")
    said = _text(fields, "text") or _text(fields, "content") if isinstance(fields, dict) else ""
    return [
        Reply(
            message_id=_text(replied, "msgId") or None,
            quoted=[Text(text=said.strip())] if said.strip() else [],
        )
    ]


def _ref(fields: _Content, robot_code: str | None) -> Ref:
    code = _text(fields, "downloadCode")
    if not code.strip():
        raise ValueError("there is nothing to download")
    return Ref(via=MEDIA, id=code, more={"robot_code": robot_code} if robot_code else {})


def _text(fields: _Content, name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    """A number that may come as a text; None for anything else."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
