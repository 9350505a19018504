"""What people see of a DingTalk robot, and what the platform takes from it."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, NamedTuple

from adapters.simulators.platform import Shown

MAX_MESSAGE_BYTES = 20_000
_MB = 1024 * 1024
_MEDIA = {"image": 20 * _MB, "voice": 2 * _MB, "video": 20 * _MB, "file": 20 * _MB}
# What each message of the API must have.
_NEEDS = {
    "sampleText": ("content",),
    "sampleMarkdown": ("title", "text"),
    "sampleImageMsg": ("photoURL",),
    "sampleLink": ("title", "text", "messageUrl"),
    "sampleAudio": ("mediaId", "duration"),
    "sampleFile": ("mediaId", "fileName", "fileType"),
    "sampleVideo": ("duration", "videoMediaId", "videoType", "picMediaId"),
    "sampleActionCard": ("title", "text", "singleTitle", "singleURL"),
}


class Refusal(Exception):
    """The platform says no: by a name, or by a number with the status 200."""

    def __init__(self, status: int, code: str = "", *, errcode: int = 0) -> None:
        super().__init__(code or errcode)
        self.status = status
        self.errcode = errcode
        self.answer: dict[str, Any] = (
            {"code": code, "message": "no", "requestid": "r1"}
            if status != 200
            else {"errcode": errcode, "errmsg": "no"}
        )


class Session(NamedTuple):
    """Where an address for replies leads, and until when."""

    user: str
    chat: str
    ends_at: float


@dataclass(frozen=True, kw_only=True)
class Medium:
    kind: str
    name: str
    body: bytes


class Screen:
    """Members, groups, uploads, and all that was shown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.members: set[str] = {"zhangsan"}
        self.groups: set[str] = set()
        self.sessions: dict[str, Session] = {}
        self.media: dict[str, Medium] = {}
        self.seen: list[Shown] = []
        self.details: list[dict[str, Any]] = []
        """What was shown, in the platform's own form."""

    def show(self, user: str, chat: str, shown: tuple[str, str, dict[str, Any]]) -> None:
        kind, text, detail = shown
        number = f"shown{len(self.seen)}"
        self.seen.append(Shown(user=user, chat=chat, text=text, type=kind, id=number))
        self.details.append(detail)

    def read_keyed(self, asked: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """A message of the robot's API."""
        key, text = asked.get("msgKey", ""), asked.get("msgParam", "")
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise Refusal(400, "invalidParameter.msgParam.tooLong")
        try:
            param = json.loads(text)
            whole = all(str(param[name]) for name in _NEEDS[key])
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise Refusal(400, "invalidParameter.msgParam")
        for name in ("mediaId", "videoMediaId", "picMediaId", "photoURL"):
            if name in param and param[name] not in self.media:
                raise Refusal(400, "invalidParameter.mediaId")
        return key, str(param.get("content") or param.get("text") or f"[{key}]"), param

    def read_session(self, body: bytes) -> tuple[str, str, dict[str, Any]]:
        """A message to an address for replies."""
        if len(body) > MAX_MESSAGE_BYTES:
            raise Refusal(200, errcode=460101)
        try:
            found = json.loads(body)
            kind = found["msgtype"]
            content = found[kind]
        except (ValueError, KeyError, TypeError):
            raise Refusal(200, errcode=40035) from None
        if kind not in ("text", "markdown", "actionCard", "feedCard", "link"):
            raise Refusal(200, errcode=40035)
        text = content.get("content") or content.get("text") or ""
        if not text.strip() or (kind != "text" and not content.get("title")):
            raise Refusal(200, errcode=40035)
        return kind, text, found

    def keep(self, kind: str, name: str, body: bytes) -> str:
        """An upload; its id."""
        if kind not in _MEDIA:
            raise Refusal(200, errcode=40004)
        if not 0 < len(body) <= _MEDIA[kind]:
            raise Refusal(200, errcode=40006)
        media_id = "@" + secrets.token_urlsafe(16)
        self.media[media_id] = Medium(kind=kind, name=name, body=body)
        return media_id


def part(content_type: str, body: bytes) -> tuple[str, bytes]:
    """(file name, bytes) of the field `media`."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    for each in message_from_bytes(head + body, policy=HTTP).walk():
        if each.get_param("name", header="content-disposition") == "media":
            content = each.get_payload(decode=True)
            if each.get_filename() and isinstance(content, bytes):
                return each.get_filename() or "", content
    raise Refusal(200, errcode=41005)
