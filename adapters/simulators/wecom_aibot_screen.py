"""What stands on members' screens: answers that grow, messages, and how many a talk may get."""

import asyncio
import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from adapters.simulators.platform import Shown
from adapters.simulators.wecom_aibot_media import Uploads

# A stream is over then, whether it has ended or not.
STREAM_LIFE_S = 360.0
MAX_CONTENT_BYTES = 20_480
PER_MINUTE = 30


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each frame or call that it hits."""

    rate_limit: int = 0
    busy: int = 0
    silent: int = 0
    """Frames that are taken and not answered, but for pings."""
    deaf: bool = False
    """Nothing is answered at all, though the connection stands."""
    no_polls: bool = False
    """The platform does not ask for what is open."""
    no_uploads: bool = False
    no_pushes_to: set[str] = field(default_factory=set)
    """Groups that let no bot push."""
    drop_callbacks: int = 0
    """Callbacks whose answer the platform does not hear."""
    forget_requests: bool = False
    """Answers to questions of before are refused: invalid req_id."""


@dataclass(kw_only=True)
class Bubble:
    """One message of the bot on a screen; a stream's changes until it has ended."""

    talk: str
    user: str
    type: str
    text: str
    id: str
    ended: bool = True
    begun_at: float = 0.0
    pictures: list[bytes] = field(default_factory=list)
    file: bytes = b""


class No(Exception):
    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errmsg)
        self.answer = {"errcode": errcode, "errmsg": errmsg}


class Screen:
    """All talks of one bot."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.faults = Faults()
        self.bubbles: list[Bubble] = []
        """As they stand on the screen, one below the other."""
        self._ended: list[Bubble] = []
        """In the order in which they got their last words."""
        self._clock = clock
        # Talk and member of each question that came as a frame.
        self._questions: dict[str, tuple[str, str]] = {}
        self._spoke: set[str] = set()
        self._sent: dict[str, list[float]] = {}
        self._uploads = Uploads()
        self._numbers = itertools.count(1)
        self._news = asyncio.Condition()

    def forget_uploads(self) -> None:
        """All media that we have sent up are gone before their time."""
        self._uploads.done.clear()

    def _strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    def _limit(self, talk: str) -> None:
        if self._strikes("rate_limit"):
            raise No(45009, "api freq out of limit")
        if self._strikes("busy"):
            raise No(-1, "system busy")
        now = self._clock()
        recent = [at for at in self._sent.get(talk, []) if now - at < 60]
        if len(recent) >= PER_MINUTE:
            raise No(45009, "api freq out of limit")
        self._sent[talk] = [*recent, now]

    async def _respond(self, req_id: str, body: dict[str, Any]) -> None:
        if self.faults.forget_requests or req_id not in self._questions:
            raise No(846605, "invalid req_id")
        talk, user = self._questions[req_id]
        self._limit(talk)
        if body.get("msgtype") != "stream":
            raise No(40008, "invalid message type")
        await self._grow(talk, user, body["stream"])

    async def _push(self, body: dict[str, Any]) -> None:
        talk, kind = body["chatid"], body["msgtype"]
        if talk not in self._spoke:
            raise No(93006, "invalid chatid")
        if talk in self.faults.no_pushes_to:
            raise No(93001, "the group does not allow it")
        self._limit(talk)
        await self._pushed(talk, "" if body.get("chat_type") == 2 else talk, kind, body.get(kind))

    async def _grow(self, talk: str, user: str, stream: dict[str, Any]) -> None:
        """Show a stream as it stands now."""
        content = stream["content"]
        if len(content.encode()) > MAX_CONTENT_BYTES:
            raise No(45002, "content size out of limit")
        images = stream.get("msg_item", [])
        if images and not stream["finish"]:
            raise No(40058, "pictures come with the end")
        pictures = [base64.b64decode(item["image"]["base64"]) for item in images]
        now = self._clock()
        known = next((each for each in self.bubbles if each.id == stream["id"]), None)
        if known is None:
            known = Bubble(
                talk=talk,
                user=user,
                type="stream",
                text="",
                id=stream["id"],
                ended=False,
                begun_at=now,
            )
            self.bubbles.append(known)
        elif known.ended or now - known.begun_at > STREAM_LIFE_S:
            raise No(846608, "stream message update expired")
        known.text, known.ended, known.pictures = content, stream["finish"], pictures
        if known.ended:
            self._ended.append(known)
        await self._tell()

    async def _pushed(self, talk: str, user: str, kind: str, payload: Any) -> None:
        text, file = "", b""
        if kind == "markdown":
            text = payload["content"]
            if not text.strip():
                raise No(44004, "empty")
            if len(text.encode()) > MAX_CONTENT_BYTES:
                raise No(45002, "content size out of limit")
        elif kind in {"image", "voice", "video", "file"}:
            medium = self._uploads.done.get(payload["media_id"])
            if medium is None or medium.kind != kind:
                raise No(40007, "invalid media_id")
            file = medium.body
        elif kind != "template_card":
            raise No(40008, "invalid message type")
        await self._show(talk, user, kind, text, file=file)

    async def _show(self, talk: str, user: str, kind: str, text: str, *, file: bytes = b"") -> None:
        number = f"b{next(self._numbers)}"
        bubble = Bubble(talk=talk, user=user, type=kind, text=text, id=number, file=file)
        self.bubbles.append(bubble)
        self._ended.append(bubble)
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        """What has an end, the last one last; what still grows is no message yet."""
        return [
            Shown(
                user=each.user,
                text=each.text,
                chat="" if each.talk == each.user else each.talk,
                type=each.type,
                id=each.id,
            )
            for each in self._ended
            if not (user or chat) or each.talk == (chat or user)
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        await self.until(lambda: len(self.shown()) >= count, patience_s=patience_s)

    async def until(self, true: Callable[[], bool], *, patience_s: float = 20) -> None:
        """Wait until something is so on the platform's side."""
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(true)
