"""What people say to a DingTalk robot, in the platform's own words."""

import itertools
import secrets
from collections.abc import Callable
from typing import Any

from adapters.simulators.dingtalk_screen import Screen, Session
from adapters.simulators.platform import Line

SESSION_LIFE_S = 5400
BOT_ID = "$:LWCP_v1:$robot"


class Mouth:
    """People around one robot, and the files that they send."""

    def __init__(self, screen: Screen, clock: Callable[[], float]) -> None:
        self.files: dict[str, bytes] = {}
        self.guests: set[str] = set()
        """Who writes to the robot without being a member of its company."""
        self.screen = screen
        self._clock = clock
        self._numbers = itertools.count(1)

    def message(self, line: Line, *, robot: str, url: str) -> dict[str, Any]:
        """What the platform says of it."""
        now = int(self._clock() * 1000)
        chat = line.chat or f"cid-{line.user}"
        if line.chat:
            self.screen.groups.add(line.chat)
        session = secrets.token_hex(16)
        ends_at = self._clock() + SESSION_LIFE_S
        user = "" if line.chat else line.user
        self.screen.sessions[session] = Session(user, line.chat, ends_at)
        found = {
            "conversationId": chat,
            "conversationType": "2" if line.chat else "1",
            "msgId": line.id or f"msg{next(self._numbers)}",
            "createAt": now,
            "senderId": f"$:LWCP_v1:{line.user}",
            "senderNick": line.user,
            "chatbotUserId": BOT_ID,
            "robotCode": robot,
            "isInAtList": line.mentions,
            "sessionWebhook": f"{url}/robot/sendBySession?session={session}",
            "sessionWebhookExpiredTime": now + SESSION_LIFE_S * 1000,
            **self._said(line),
        }
        if line.user not in self.guests:
            self.screen.members.add(line.user)
            found["senderStaffId"] = line.user
        return found

    def _said(self, line: Line) -> dict[str, Any]:
        if line.picture and line.text:
            picture = {"type": "picture", "downloadCode": self._code(line.picture)}
            return _content("richText", {"richText": [{"text": line.text}, picture]})
        if line.picture:
            return _content("picture", {"downloadCode": self._code(line.picture)})
        if line.voice:
            heard = {"downloadCode": self._code(line.voice), "recognition": line.text}
            return _content("audio", {**heard, "duration": 1200})
        if line.file:
            return _content("file", {"downloadCode": self._code(line.file), "fileName": line.name})
        text: dict[str, Any] = {"content": f" {line.text}"}
        if line.quotes:
            text |= {"isReplyMsg": True, "repliedMsg": {"msgId": line.quotes, "msgType": "text"}}
        return {"msgtype": "text", "text": text}

    def _code(self, body: bytes) -> str:
        code = secrets.token_urlsafe(24)
        self.files[code] = body
        return code


def _content(msgtype: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"msgtype": msgtype, "content": content}
