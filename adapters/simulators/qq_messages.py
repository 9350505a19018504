"""What the stand-in of QQ does with messages of the bot: what it refuses, and what is shown."""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from starlette.requests import Request

from adapters.simulators.platform import Shown

UPLOAD_LIFE_S = 3600
REPLIES = 5
WINDOWS_S = {"users": 3600, "groups": 300, "channels": 300, "dms": 300}
MAX_CONTENT = 5000
_BEIJING = timezone(timedelta(hours=8))
_BEGINNINGS = {1: (b"\x89PNG", b"\xff\xd8"), 2: (b"",), 3: (b"#!SILK", b"\x02#!SILK", b"RIFF")}
_ADDRESS = re.compile(r"https?://([^/\s]+)")


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    answer_500: int = 0
    rate_limit: int = 0
    drop_reply: int = 0
    """Sends that are shown to the customer and then answered by a cut connection."""
    forbid_markdown: bool = False
    audit: int = 0
    """Sends that people look at first."""
    refused_address: bool = False
    banned: bool = False
    redeliver: int = 0
    """Times that each webhook call comes again although it was answered well."""
    drop_callbacks: int = 0
    """Tries whose answer the platform does not hear."""


@dataclass(eq=False, kw_only=True)
class Anchor:
    """Something that may be answered: a message, or an event such as a new friend."""

    path: str
    at: float
    numbers: set[int] = field(default_factory=set)


class Refusal(Exception):
    """The platform says no."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.answer = {"code": code, "err_code": code, "message": message, "trace_id": "t"}


class Cut(Exception):
    """The connection ends without an answer."""


class Messages:
    """What customers were shown, what may be answered, and the media that the platform keeps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.faults = Faults()
        self.seen: list[Shown] = []
        self.media: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, float]] = {}
        self.anchors: dict[str, Anchor] = {}
        self.registered: set[str] = set()
        """Hosts that the console knows: addresses of others are not sent."""
        self.url = ""
        self._clock = clock
        self._news = asyncio.Condition()

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        everything = not (user or chat)
        return [
            each
            for each in self.seen
            if everything or (each.chat == chat if chat else each.user == user)
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        await self.until(lambda: len(self.seen) >= count, patience_s=patience_s)

    async def until(self, true: Callable[[], bool], *, patience_s: float) -> None:
        """Wait until something that customers or buttons show is true."""
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(true)

    async def _send(self, request: Request) -> tuple[int, Any]:
        scene, to = request.path_params["scene"], request.path_params["id"]
        body = await fields_of(request)
        if self.strikes("rate_limit"):
            raise Refusal(429, 20028, "too often")
        number = self._answered(scene, f"{scene}/{to}", body)
        shown = self._shown(scene, to, body)
        number()
        self.seen.append(shown)
        async with self._news:
            self._news.notify_all()
        if self.strikes("drop_reply"):
            raise Cut
        if self.strikes("audit"):
            audit = {"message_audit": {"audit_id": "a1"}}
            return 202, {"code": 304023, "message": "under audit", "data": audit}
        return 200, {"id": shown.id, "timestamp": self._written_time()}

    def _answered(self, scene: str, path: str, body: dict[str, Any]) -> Callable[[], None]:
        """Check what the message answers; the result notes it as answered."""
        named = body.get("msg_id") or body.get("event_id")
        if not named:
            raise Refusal(400, 40034102, "no permission for messages of its own accord")
        anchor = self.anchors.get(named)
        if anchor is None or anchor.path != path:
            raise Refusal(400, 304026, "msg_id is wrong")
        if self._clock() - anchor.at > WINDOWS_S[scene]:
            raise Refusal(400, 304027, "msg_id has expired")
        number = int(body.get("msg_seq", 1))
        if scene in ("users", "groups"):
            if number in anchor.numbers:
                raise Refusal(400, 40054005, "the message is a repeat, look at msg_seq")
            if len(anchor.numbers) >= REPLIES:
                raise Refusal(400, 22009, "reply msg exceed limit")
        return lambda: anchor.numbers.add(number)

    def _shown(self, scene: str, to: str, body: dict[str, Any]) -> Shown:
        kinds = {0: "text", 2: "markdown", 3: "ark", 7: "media"}
        kind = kinds.get(body.get("msg_type", 0), "")
        text = body.get("content", "")
        if kind == "markdown":
            if self.faults.forbid_markdown:
                raise Refusal(400, 304036, "no permission for markdown")
            text = body["markdown"]["content"]
        elif kind == "media":
            self._known_upload(scene, body["media"]["file_info"])
        elif "file_image" in body:
            kind = "image"
        elif kind == "text" and not text.strip():
            raise Refusal(400, 50006, "the message is empty")
        if len(text) > MAX_CONTENT:
            raise Refusal(400, 40054007, "the message is too long")
        if any(host not in self.registered for host in _ADDRESS.findall(text)):
            raise Refusal(400, 304003, "url is not registered")
        direct = scene in ("users", "dms")
        quotes = body.get("message_reference") or {}
        quoted = json.loads(quotes) if isinstance(quotes, str) else quotes
        return Shown(
            user=to if direct else "",
            chat="" if direct else to,
            text=text,
            type=kind,
            id=f"ROBOT1.0_{secrets.token_urlsafe(12)}",
            quotes=quoted.get("message_id", ""),
        )

    def _known_upload(self, scene: str, file_info: str) -> None:
        kept_for, ends = self.uploads.get(file_info, ("", 0.0))
        if kept_for != scene or self._clock() >= ends:
            raise Refusal(400, 304082, "the medium cannot be had")

    async def _upload(self, request: Request) -> tuple[int, Any]:
        scene, asked = request.path_params["scene"], await request.json()
        kind = asked.get("file_type")
        if asked.get("srv_send_msg") is not False:
            raise Refusal(400, 40034102, "no permission for messages of its own accord")
        if kind == 4 and scene == "groups":
            raise Refusal(400, 304083, "groups take no files")
        if "file_data" in asked:
            body = base64.b64decode(asked["file_data"], validate=True)
        else:
            body = self.media.get(str(asked.get("url", "")).rpartition("/")[2], b"")
        if not body or not body.startswith(_BEGINNINGS.get(kind, (b"",))):
            raise Refusal(400, 304082, "the medium cannot be had")
        file_info = secrets.token_urlsafe(24)
        self.media[file_info] = body
        self.uploads[file_info] = (scene, self._clock() + UPLOAD_LIFE_S)
        return 200, {"file_uuid": file_info, "file_info": file_info, "ttl": UPLOAD_LIFE_S}

    def _kept(self, body: bytes) -> str:
        key = secrets.token_urlsafe(12)
        self.media[key] = body
        return f"{self.url}/download/{key}"

    def _written_time(self) -> str:
        return datetime.fromtimestamp(self._clock(), _BEIJING).isoformat(timespec="seconds")

    def strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)


async def fields_of(request: Request) -> dict[str, Any]:
    """A message's fields, as JSON or as a form with a picture."""
    content_type, body = request.headers.get("content-type", ""), await request.body()
    if not content_type.startswith("multipart/"):
        found: dict[str, Any] = json.loads(body)
        return found
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form: dict[str, Any] = {}
    for part in message_from_bytes(head + body, policy=HTTP).walk():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            form[name] = content if part.get_filename() else content.decode()
    return form
