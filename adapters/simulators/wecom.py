"""A stand-in of WeCom for one application: its API over HTTP, and signed, encrypted callbacks.

It remembers what each customer saw (see `wecom_company`). What customers say is delivered up to
three times.
"""

import itertools
import json
import secrets
from collections import defaultdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapters.simulators.platform import Line
from adapters.simulators.wecom_company import (
    MAX_TEXT_BYTES,
    MEDIA,
    Company,
    CutOff,
    Handler,
    Refusal,
    Seen,
    content_of,
)
from adapters.simulators.wecom_seal import elements

# Messages to one member that a minute takes; the excess is dropped without an error.
PER_MINUTE = 30


class WeCom(Company):
    """The platform as one application and its members know it."""

    def __init__(self, *, agent_id: int = 1000002, **company: Any) -> None:
        super().__init__(**company)
        self.agent_id = agent_id
        self.members: set[str] = {"zhangsan"}
        self.groups: set[str] = set()
        """Chats that the application has made."""
        self._sent_at: dict[str, list[float]] = defaultdict(list)
        self._duplicates: dict[str, float] = {}
        self._numbers = itertools.count(7_300_000_000_000_000_001)

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"agent_id": self.agent_id}

    # --- the API ---

    def api(self) -> dict[str, tuple[str, Handler]]:
        return super().api() | {
            "agent/get": ("GET", self._get_agent),
            "message/send": ("POST", self._send),
            "appchat/send": ("POST", self._send_to_group),
        }

    async def _get_agent(self, request: Request) -> Response:
        self._authorised(request)
        if request.query_params.get("agentid") != str(self.agent_id):
            raise Refusal(301002, "not allow operate another agent with this accesstoken")
        return JSONResponse(
            {"errcode": 0, "errmsg": "ok", "agentid": self.agent_id, "name": "客服"}
        )

    async def _send(self, request: Request) -> Response:
        self._authorised(request)
        try:
            message = json.loads(await request.body())
            users = message["touser"].split("|")
            msgtype, agent_id = message["msgtype"], message["agentid"]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Refusal(40058, "invalid Request Parameter") from None
        if agent_id != self.agent_id:
            raise Refusal(301002, "not allow operate another agent with this accesstoken")
        payload = self._payload(msgtype, message.get(msgtype))
        known = [user for user in users if user in self.members]
        if not known:
            raise Refusal(81013, "user & party & tag all invalid")
        message_id = secrets.token_urlsafe(16)
        for user in known:
            self._show(Seen(user=user, msgtype=msgtype, payload=payload, id=message_id), message)
        await self._shown()
        if self._strikes("drop_reply"):
            raise CutOff
        invalid = "|".join(user for user in users if user not in known)
        answer = {"errcode": 0, "errmsg": "ok", "invaliduser": invalid, "msgid": message_id}
        return JSONResponse(answer)

    async def _send_to_group(self, request: Request) -> Response:
        self._authorised(request)
        try:
            message = json.loads(await request.body())
            chat_id, msgtype = message["chatid"], message["msgtype"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(40058, "invalid Request Parameter") from None
        if chat_id not in self.groups:
            raise Refusal(86001, "invalid chatid")
        if msgtype == "template_card":
            raise Refusal(40008, "invalid message type")
        payload = self._payload(msgtype, message.get(msgtype))
        message_id = secrets.token_urlsafe(16)
        self._show(Seen(user=chat_id, msgtype=msgtype, payload=payload, id=message_id), message)
        await self._shown()
        if self._strikes("drop_reply"):
            raise CutOff
        return JSONResponse({"errcode": 0, "errmsg": "ok", "msgid": message_id})

    def _show(self, message: Seen, options: dict[str, Any]) -> None:
        now = self._clock()
        recent = [at for at in self._sent_at[message.user] if now - at < 60]
        self._sent_at[message.user] = [*recent, now]
        content = json.dumps([message.user, message.payload], sort_keys=True)
        window = options.get("duplicate_check_interval", 1800)
        repeated = now - self._duplicates.get(content, -1e9) < window
        self._duplicates[content] = now
        if len(recent) >= PER_MINUTE or (options.get("enable_duplicate_check") and repeated):
            self.silenced.append(message)
        else:
            self.seen.append(message)

    def _payload(self, msgtype: str, payload: Any) -> dict[str, Any]:
        if not isinstance(payload, dict):
            raise Refusal(40008, "invalid message type")
        if msgtype == "text":
            # A longer text is cut without a word, so a customer would miss its end.
            cut = content_of(payload).encode()[:MAX_TEXT_BYTES]
            return {"content": cut.decode("utf-8", "ignore")}
        if msgtype == "markdown":
            if len(content_of(payload).encode()) > MAX_TEXT_BYTES:
                raise Refusal(45002, "content size out of limit")
            return payload
        if msgtype in MEDIA:
            self._medium(payload.get("media_id"), msgtype)
            return payload
        if msgtype == "textcard":
            if not all(payload.get(name) for name in ("title", "description", "url")):
                raise Refusal(40058, "textcard needs title, description and url")
            return payload
        if msgtype == "template_card" and payload.get("card_type"):
            return payload
        raise Refusal(40008, "invalid message type")

    # --- callbacks ---

    async def say(self, user: str, text: str, *, message_id: str = "") -> bool:
        """A customer writes; whether we acknowledged it in the end."""
        return await self.deliver(user, "text", {"Content": text}, message_id=message_id)

    async def bring(self, line: Line) -> bool:
        """A customer says something; the platform knows neither groups nor quotes here."""
        self.members.add(line.user)
        media = {"image": line.picture, "voice": line.voice, "file": line.file}
        for kind, body in media.items():
            if body:
                more = {"MediaId": self.keep(kind, body, name=line.name), "FileName": line.name}
                return await self.deliver(line.user, kind, more, message_id=line.id)
        return await self.say(line.user, line.text, message_id=line.id)

    async def deliver(
        self, user: str, msgtype: str, more: dict[str, str], *, message_id: str = ""
    ) -> bool:
        """A message or an event of a customer, up to three times until it is acknowledged."""
        values = {
            "ToUserName": self.corp_id,
            "FromUserName": user,
            "CreateTime": str(int(self._clock())),
            "MsgType": msgtype,
            **({} if msgtype == "event" else {"MsgId": message_id or str(next(self._numbers))}),
            "AgentID": str(self.agent_id),
            **more,
        }
        return await self.call(values, agent_id=str(self.agent_id))

    def _passive(self, answer: bytes) -> None:
        """An answer that is a message in itself; raises ValueError for one that is not for us."""
        outer = elements(answer)
        expected = self.seal.signature(outer["TimeStamp"], outer["Nonce"], outer["Encrypt"])
        if outer["MsgSignature"] != expected:
            raise ValueError("the passive reply has another signature")
        inner = elements(self.seal.open(outer["Encrypt"]))
        self.seen.append(
            Seen(
                user=inner["ToUserName"],
                msgtype=inner["MsgType"],
                payload={"content": inner["Content"]},
                id="passive",
            )
        )

    @property
    def unacknowledged(self) -> int:
        """It gives up after three tries."""
        return 0


PLATFORM = WeCom
