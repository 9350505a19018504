"""A stand-in of DingTalk for one robot: its APIs over HTTP, its stream, and signed callbacks.

It refuses what the platform refuses, and says each message once: over one of the connections that
there are, or to the callback address, and to nobody where there is neither (`unheard`).
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.simulators.dingtalk_mouth import Mouth
from adapters.simulators.dingtalk_screen import Refusal, Screen, part
from adapters.simulators.platform import Line, Shown
from adapters.simulators.serving import serving
from adapters.simulators.wecom_seal import Seal

TOKEN_LIFE_S = 7200
TICKET_LIFE_S = 90
DEADLINE_S = 5.0
BOT_TOPIC = "/v1.0/im/bot/messages/get"


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    answer_500: int = 0
    rate_limit: int = 0
    drop_reply: int = 0
    """Sends that are shown to the customer and then answered by a cut connection."""
    refuse_stream: int = 0
    forbidden: bool = False
    """The application lacks its permissions."""
    refused_address: bool = False


class _Cut(Exception):
    """The connection ends without an answer."""


class DingTalk:
    """The platform as one robot and the people around it know it."""

    def __init__(
        self,
        *,
        transport: str = "stream",
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
        callback_url: str = "",
    ) -> None:
        self.transport = transport
        self.client_id = "ding" + secrets.token_hex(8)
        self.client_secret = secrets.token_urlsafe(48)
        self.token = secrets.token_hex(8)
        self.encoding_aes_key = secrets.token_hex(22)[:43]
        self.seal = Seal(self.token, self.encoding_aes_key, self.client_id)
        self.callback_url = callback_url
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.screen = Screen(clock)
        self.mouth = Mouth(self.screen, clock)
        self.unheard: list[str] = []
        """Messages that came while nobody listened: they are gone."""
        self.answers: dict[str, dict[str, Any]] = {}
        """What was answered to which frame."""
        self.url = ""
        self._clock = clock
        self._deadline_s = deadline_s
        self._tokens: dict[str, float] = {}
        self._tickets: dict[str, float] = {}
        self._sockets: list[WebSocket] = []
        self._news = asyncio.Condition()

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the console."""
        settings = {
            "transport": self.transport,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "api_url": self.url,
            "oapi_url": self.url,
        }
        if self.transport == "callback":
            settings |= {"token": self.token, "encoding_aes_key": self.encoding_aes_key}
        return settings

    # --- the server ---

    async def __aenter__(self) -> "DingTalk":
        # Certificates are read for https alone: reading them takes longer than most tests.
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        self._serving = serving(self.app(), sockets=True)
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.disconnect()
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    def app(self) -> Starlette:
        api: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1.0/oauth2/accessToken": self._get_token,
            "/v1.0/gateway/connections/open": self._open,
            "/v1.0/robot/oToMessages/batchSend": self._send_direct,
            "/v1.0/robot/groupMessages/send": self._send_to_group,
            "/v1.0/robot/messageFiles/download": self._find_file,
            "/media/upload": self._upload,
            "/robot/sendBySession": self._send_by_session,
        }
        routes = [
            Route(path, self._guarded(path, handler), methods=["POST"])
            for path, handler in api.items()
        ]
        files = Route("/files/{name}", self._file)
        return Starlette(routes=[*routes, files, WebSocketRoute("/connect", self._connect)])

    def _guarded(
        self, path: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self.calls[path.rpartition("/")[2]] += 1
            if self._strikes("answer_500"):
                return Response("bad gateway", 500)
            try:
                return await handler(request)
            except Refusal as refusal:
                return JSONResponse(refusal.answer, refusal.status)
            except _Cut:
                return _CutResponse()

        return guarded

    def _strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    # --- credentials ---

    async def _get_token(self, request: Request) -> Response:
        asked = await _json(request)
        self._known(asked.get("appKey"), asked.get("appSecret"))
        token = secrets.token_hex(16)
        self._tokens[token] = self._clock() + TOKEN_LIFE_S
        return JSONResponse({"accessToken": token, "expireIn": TOKEN_LIFE_S})

    def _known(self, client_id: Any, secret: Any) -> None:
        if (client_id, secret) != (self.client_id, self.client_secret):
            raise Refusal(400, "invalidClientIdOrSecret")
        if self.faults.refused_address:
            raise Refusal(403, "Forbidden.AccessDenied.IpNotInWhiteList")

    def expire_tokens(self) -> None:
        """All tokens end before their time."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def _authorised(self, token: str | None) -> None:
        if token is None or self._clock() >= self._tokens.get(token, 0.0):
            raise Refusal(401, "InvalidAuthentication", errcode=40014)
        if self.faults.forbidden:
            raise Refusal(403, "Forbidden.AccessDenied.AccessTokenPermissionDenied")
        if self._strikes("rate_limit"):
            raise Refusal(429, "Throttling.Api", errcode=90018)

    # --- what the robot says ---

    async def _send_direct(self, request: Request) -> Response:
        self._authorised(request.headers.get("x-acs-dingtalk-access-token"))
        asked = await self._asked_of_robot(request)
        users = asked["userIds"]
        if not 1 <= len(users) <= 20:
            raise Refusal(400, "invalidParameter.userIds")
        shown = self.screen.read_keyed(asked)
        known = [user for user in users if user in self.screen.members]
        for user in known:
            self.screen.show(user, "", shown)
        unknown = [user for user in users if user not in known]
        key = {"processQueryKey": secrets.token_urlsafe(12), "invalidStaffIdList": unknown}
        return await self._shown(key | {"flowControlledStaffIdList": []})

    async def _send_to_group(self, request: Request) -> Response:
        self._authorised(request.headers.get("x-acs-dingtalk-access-token"))
        asked = await self._asked_of_robot(request)
        if asked.get("openConversationId") not in self.screen.groups:
            raise Refusal(400, "invalidParameter.openConversationId.invalid")
        self.screen.show("", asked["openConversationId"], self.screen.read_keyed(asked))
        return await self._shown({"processQueryKey": secrets.token_urlsafe(12)})

    async def _send_by_session(self, request: Request) -> Response:
        session = self.screen.sessions.get(request.query_params.get("session", ""))
        if session is None or self._clock() >= session.ends_at:
            raise Refusal(200, errcode=300001)
        if self._strikes("rate_limit"):
            raise Refusal(200, errcode=130101)
        shown = self.screen.read_session(await request.body())
        self.screen.show(session.user, session.chat, shown)
        return await self._shown({"errcode": 0, "errmsg": "ok"})

    async def _shown(self, answer: dict[str, Any]) -> Response:
        async with self._news:
            self._news.notify_all()
        if self._strikes("drop_reply"):
            raise _Cut
        return JSONResponse(answer)

    async def _asked_of_robot(self, request: Request) -> dict[str, Any]:
        asked = await _json(request)
        if asked.get("robotCode") != self.client_id:
            raise Refusal(400, "invalidParameter.robotCode.notExsit")
        return asked

    # --- media ---

    async def _upload(self, request: Request) -> Response:
        query = request.query_params
        self._authorised_old(query.get("access_token"))
        name, body = part(request.headers.get("content-type", ""), await request.body())
        media_id = self.screen.keep(query.get("type", ""), name, body)
        return JSONResponse({"errcode": 0, "errmsg": "ok", "media_id": media_id})

    def _authorised_old(self, token: str | None) -> None:
        try:
            self._authorised(token)
        except Refusal as refusal:
            # The older API answers in numbers, and always with 200.
            raise Refusal(200, errcode=refusal.errcode or 310000) from None

    async def _find_file(self, request: Request) -> Response:
        self.calls["media"] += 1
        self._authorised(request.headers.get("x-acs-dingtalk-access-token"))
        asked = await self._asked_of_robot(request)
        if asked.get("downloadCode") not in self.mouth.files:
            raise Refusal(400, "invalidParameter.downloadCode")
        return JSONResponse({"downloadUrl": f"{self.url}/files/{asked['downloadCode']}"})

    async def _file(self, request: Request) -> Response:
        body = self.mouth.files.get(request.path_params["name"])
        if body is None:
            return Response("", 404)
        return Response(body, media_type="application/octet-stream")

    def forget_files(self) -> None:
        """What customers sent is not there any more."""
        self.mouth.files.clear()

    # --- the stream ---

    async def _open(self, request: Request) -> Response:
        asked = await _json(request)
        self._known(asked.get("clientId"), asked.get("clientSecret"))
        topics = [each.get("topic") for each in asked.get("subscriptions", [])]
        if BOT_TOPIC not in topics:
            raise Refusal(400, "invalidParameter.subscriptions")
        ticket = secrets.token_urlsafe(24) + "+/="
        self._tickets[ticket] = self._clock() + TICKET_LIFE_S
        endpoint = self.url.replace("http", "ws", 1) + "/connect"
        return JSONResponse({"endpoint": endpoint, "ticket": ticket})

    async def _connect(self, socket: WebSocket) -> None:
        ends_at = self._tickets.pop(socket.query_params.get("ticket", ""), 0.0)
        if self._clock() >= ends_at or self._strikes("refuse_stream"):
            await socket.close()
            return
        await socket.accept()
        self._sockets.append(socket)
        await self._tell()
        try:
            while True:
                answer = json.loads(await socket.receive_text())
                self.answers[answer["headers"]["messageId"]] = answer
                await self._tell()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if socket in self._sockets:
                self._sockets.remove(socket)
            await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    @property
    def connections(self) -> int:
        return len(self._sockets)

    async def until(self, true: Callable[[], bool], *, patience_s: float = 20) -> None:
        """Wait for something about the connections, the answers or the screens."""
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(true)

    async def frame(
        self, kind: str, topic: str, data: Any, *, message_id: str = "", **headers: str
    ) -> str:
        """Push a frame over one of the connections; its id."""
        message_id = message_id or secrets.token_hex(8)
        frame = {
            "specVersion": "1.0",
            "type": kind,
            "headers": {
                "topic": topic,
                "messageId": message_id,
                "contentType": "application/json",
                "time": str(int(self._clock() * 1000)),
                **headers,
            },
            "data": json.dumps(data, ensure_ascii=False),
        }
        await secrets.choice(self._sockets).send_text(json.dumps(frame, ensure_ascii=False))
        return message_id

    async def goodbye(self) -> None:
        """Every connection is to be replaced; the platform cuts it some time later."""
        for socket in list(self._sockets):
            frame = {"type": "SYSTEM", "headers": {"topic": "disconnect"}, "data": "{}"}
            await socket.send_text(json.dumps(frame))

    async def disconnect(self) -> None:
        sockets, self._sockets = self._sockets, []
        for socket in sockets:
            with suppress(RuntimeError):
                await socket.close(1001)

    # --- what people say ---

    async def bring(self, line: Line) -> bool:
        """Say it once: True when somebody was there to hear it."""
        message = self.message(line)
        if self.transport == "callback":
            return await self.call(message)
        try:
            if self._sockets:
                await self.frame("CALLBACK", BOT_TOPIC, message)
                return True
        except (WebSocketDisconnect, RuntimeError):
            # Whoever it was said to has just gone.
            pass
        self.unheard.append(message["msgId"])
        return False

    def message(self, line: Line) -> dict[str, Any]:
        """What the platform says of it."""
        return self.mouth.message(line, robot=self.client_id, url=self.url)

    async def call(self, message: dict[str, Any]) -> bool:
        """One signed call of the callback address."""
        answer = await self._posted(json.dumps(message), headers=self.signature())
        return answer is not None and answer.status_code == 200

    def signature(self) -> dict[str, str]:
        """The headers of a signed call, made now."""
        timestamp = str(int(self._clock() * 1000))
        signed = f"{timestamp}\n{self.client_secret}".encode()
        mac = hmac.new(self.client_secret.encode(), signed, hashlib.sha256)
        return {
            "timestamp": timestamp,
            "sign": base64.b64encode(mac.digest()).decode(),
            "content-type": "application/json; charset=utf-8",
        }

    async def event(self, event: dict[str, Any]) -> bool:
        """An encrypted delivery; whether it was answered with `success`, encrypted for us."""
        encrypt = self.seal.close(json.dumps(event).encode())
        stamp, nonce = str(int(self._clock() * 1000)), secrets.token_hex(4)
        query = {
            "msg_signature": self.seal.signature(stamp, nonce, encrypt),
            "timestamp": stamp,
            "nonce": nonce,
        }
        answer = await self._posted(json.dumps({"encrypt": encrypt}), params=query)
        return answer is not None and answer.status_code == 200 and self.is_success(answer.content)

    def is_success(self, content: bytes) -> bool:
        """Whether an answer is the encrypted word."""
        found = json.loads(content)
        signed = self.seal.signature(found["timeStamp"], found["nonce"], found["encrypt"])
        return found["msg_signature"] == signed and self.seal.open(found["encrypt"]) == b"success"

    async def check_address(self) -> bool:
        """What the console does when somebody saves the callback address."""
        return await self.event({"EventType": "check_url"})

    async def _posted(self, body: str, **more: Any) -> httpx2.Response | None:
        try:
            return await self._http.post(
                self.callback_url, content=body.encode(), timeout=self._deadline_s, **more
            )
        except httpx2.HTTPError:
            return None

    # --- for tests, and for people who play a customer ---

    @property
    def unacknowledged(self) -> int:
        """It never says anything again."""
        return 0

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        everything = self.screen.seen
        return [
            each
            for each in everything
            if not (user or chat) or (each.chat == chat if chat else each.user == user)
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        await self.until(lambda: len(self.screen.seen) >= count, patience_s=patience_s)

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls


async def _json(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, "invalidParameter")
    return found


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


PLATFORM = DingTalk
