"""The people of Feishu's stand-in: what they say, what they saw, and what the platform keeps."""

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.simulators.platform import Line, Shown

BOT = "ou_bot00000000000000000000000000000"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A message as the platform keeps it."""

    id: str
    chat: str
    sender: str
    type: str
    content: dict[str, Any]
    at: float
    mentions: list[dict[str, Any]]
    parent: str = ""
    in_thread: bool = False
    upper: str = ""


class People:
    """Users, their chats with the bot, and all messages and media."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.messages: dict[str, Kept] = {}
        self.seen: list[Kept] = []
        """What users saw of the bot."""
        self.recalled: set[str] = set()
        self.groups: set[str] = set()
        self.users: dict[str, str] = {}
        """Names by chat."""
        self.media: dict[str, tuple[str, str, bytes]] = {}
        """(kind, name, bytes) by key."""
        self._numbers = itertools.count(1)
        self._news = asyncio.Condition()

    def remember(self, **given: Any) -> Kept:
        """A message, from now on known to the platform."""
        known: dict[str, Any] = {"mentions": [], "at": self.clock(), **given}
        known["id"] = known.get("id") or f"om_{next(self._numbers):032x}"
        kept = Kept(**known)
        self.messages[kept.id] = kept
        return kept

    def keep(self, kind: str, body: bytes, *, name: str = "") -> str:
        """Bytes that somebody sent, or that we uploaded; their key."""
        key = f"{'img' if kind == 'image' else 'file'}_v3_{secrets.token_hex(12)}"
        self.media[key] = (kind, name, body)
        return key

    @staticmethod
    def open_id(user: str) -> str:
        return f"ou_{user}"

    def chat_of(self, user: str) -> str:
        """The direct talk of a user with the bot."""
        chat = f"oc_{user}"
        self.users.setdefault(chat, user)
        return chat

    @staticmethod
    def group_of(chat: str) -> str:
        """A group's id begins as the platform's do."""
        return chat if chat.startswith("oc_") else f"oc_{chat}"

    def said(self, line: Line) -> dict[str, Any]:
        """A user's message as its event tells it."""
        if line.chat:
            self.groups.add(self.group_of(line.chat))
        addressed = bool(line.chat) and line.mentions
        kind, content = self._content(line, addressed=addressed)
        mentions: list[dict[str, Any]] = []
        if addressed:
            mentions.append({"key": "@_user_1", "id": {"open_id": BOT}, "name": "客服"})
        kept = self.remember(
            id=line.id,
            chat=self.group_of(line.chat) if line.chat else self.chat_of(line.user),
            sender=self.open_id(line.user),
            type=kind,
            content=content,
            parent=line.quotes,
            mentions=mentions,
        )
        return self.event_of(kept, group=bool(line.chat))

    def event_of(self, kept: Kept, *, group: bool = False, sender: str = "user") -> dict[str, Any]:
        message = {
            "message_id": kept.id,
            "create_time": str(int(kept.at * 1000)),
            "chat_id": kept.chat,
            "chat_type": "group" if group else "p2p",
            "message_type": kept.type,
            "content": json.dumps(kept.content, ensure_ascii=False),
            "mentions": kept.mentions,
        }
        quoted = {"parent_id": kept.parent, "root_id": kept.parent} if kept.parent else {}
        ids = {"open_id": kept.sender, "union_id": f"on{kept.sender[2:]}", "user_id": None}
        return {
            "sender": {"sender_id": ids, "sender_type": sender, "tenant_key": "t"},
            "message": message | quoted,
        }

    def _content(self, line: Line, *, addressed: bool) -> tuple[str, dict[str, Any]]:
        if line.picture:
            return "image", {"image_key": self.keep("image", line.picture)}
        if line.voice:
            return "audio", {"file_key": self.keep("opus", line.voice), "duration": 2000}
        if line.file:
            key = self.keep("stream", line.file, name=line.name)
            return "file", {"file_key": key, "file_name": line.name}
        return "text", {"text": f"@_user_1 {line.text}" if addressed else line.text}

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        wanted = self.group_of(chat or user) if chat or user else ""
        return [
            Shown(
                user=self.users.get(each.chat, ""),
                text=words(each),
                chat=each.chat if each.chat in self.groups else "",
                type=each.type,
                id=each.id,
                quotes=each.parent,
            )
            for each in self.seen
            if not wanted or each.chat == wanted
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    async def tell(self) -> None:
        """Somebody saw something."""
        async with self._news:
            self._news.notify_all()


def words(message: Kept) -> str:
    """What somebody reads on the screen."""
    if message.type == "text":
        text: str = message.content["text"]
        return text
    if message.type == "post":
        lines = message.content["zh_cn"]["content"]
        return "\n".join("".join(each.get("text", "") for each in line) for line in lines)
    if message.type == "interactive":
        return "".join(each.get("content", "") for each in message.content.get("elements", []))
    return ""
