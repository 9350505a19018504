"""A stand-in of QQ's open platform for one bot: API, signed webhook calls, gateway, media.

It refuses what the platform refuses, remembers what each customer saw, and misbehaves on request:
`Faults`, also over HTTP at /control. What a webhook does not take is said up to three times; what a
gateway connection does not hear is said again to whoever resumes.
"""

import itertools
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from adapters.simulators.platform import Line
from adapters.simulators.qq_gateway import Gateway
from adapters.simulators.qq_messages import Anchor, Cut, Faults, Messages, Refusal
from adapters.simulators.serving import serving

TOKEN_LIFE_S = 7200
# A new token is given so long before the end of the old one, and never earlier.
TOKEN_OVERLAP_S = 60
DEADLINE_S = 5.0
TRIES = 3


class QQ(Messages):
    """The platform as one bot and its customers know it."""

    def __init__(
        self,
        *,
        transport: str = "webhook",
        app_id: str = "102000001",
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
        callback_url: str = "",
        heartbeat_ms: int = 41_250,
    ) -> None:
        super().__init__(clock)
        self.transport, self.app_id, self.callback_url = transport, app_id, callback_url
        self.secret = secrets.token_urlsafe(24)
        self.gateway = Gateway(good_token=self._good, heartbeat_ms=heartbeat_ms)
        self.guild_channels: set[str] = set()
        """Chats that are channels of a guild; every other one is a group."""
        self.pressed: set[str] = set()
        """Buttons that were acknowledged."""
        self.calls: Counter[str] = Counter()
        self.tries: list[int] = []
        self._deadline_s = deadline_s
        self._tokens: dict[str, float] = {}
        self._numbers = itertools.count(1)

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the console."""
        return {
            "app_id": self.app_id,
            "secret": self.secret,
            "transport": self.transport,
            "base_url": self.url,
            "login_url": self.url,
        }

    # --- the server ---

    async def __aenter__(self) -> "QQ":
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        self._serving = serving(self.app(), sockets=True)
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.gateway.close(1001)
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    def app(self) -> Starlette:
        api: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
            ("GET", "/users/@me", self._me),
            ("GET", "/gateway/bot", self._gateway_address),
            ("POST", "/v2/{scene:str}/{id:str}/messages", self._send),
            ("POST", "/{scene:str}/{id:str}/messages", self._send),
            ("POST", "/v2/{scene:str}/{id:str}/files", self._upload),
            ("PUT", "/interactions/{id:str}", self._pressed),
        ]
        routes = [Route(path, self._guarded(do), methods=[method]) for method, path, do in api]
        open_to_all = [
            Route("/app/getAppAccessToken", self._login, methods=["POST"]),
            Route("/download/{id:str}", self._download),
            Route("/control", self._control, methods=["GET", "POST"]),
            WebSocketRoute("/websocket", self.gateway.serve),
        ]
        return Starlette(routes=[*open_to_all, *routes])

    def _guarded(
        self, do: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self.calls[request.url.path] += 1
            if self.strikes("answer_500"):
                return Response("bad gateway", 500)
            try:
                self._authorised(request)
                status, answer = await do(request)
                return JSONResponse(answer, status)
            except Refusal as error:
                return JSONResponse(error.answer, error.status)
            except Cut:
                return _CutResponse()

        return guarded

    # --- tokens ---

    async def _login(self, request: Request) -> Response:
        self.calls["login"] += 1
        asked = await request.json()
        if (asked.get("appId"), asked.get("clientSecret")) != (self.app_id, self.secret):
            return JSONResponse({"code": 100016, "message": "invalid appid or secret"})
        now = self._clock()
        # The same one until shortly before its end.
        token, ends = next(reversed(self._tokens.items()), ("", 0.0))
        if ends - now <= TOKEN_OVERLAP_S:
            token, ends = secrets.token_urlsafe(24), now + TOKEN_LIFE_S
            self._tokens[token] = ends
        return JSONResponse({"access_token": token, "expires_in": str(int(ends - now))})

    def expire_tokens(self) -> None:
        """All tokens end before their time."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def _good(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        return scheme == "QQBot" and self._clock() < self._tokens.get(token, 0.0)

    def _authorised(self, request: Request) -> None:
        if not self._good(request.headers.get("authorization", "")):
            raise Refusal(401, 11243, "token invalid")
        if self.faults.refused_address:
            raise Refusal(401, 11298, "the source address is not on the list")
        if self.faults.banned:
            raise Refusal(403, 11265, "the bot is banned")

    async def _me(self, request: Request) -> tuple[int, Any]:
        return 200, {"id": "9001", "username": "客服", "avatar": ""}

    async def _gateway_address(self, request: Request) -> tuple[int, Any]:
        limit = {
            "total": 1000,
            "remaining": self.gateway.logins_left,
            "reset_after": 600_000,
            "max_concurrency": 1,
        }
        url = self.url.replace("http", "ws", 1) + "/websocket"
        return 200, {"url": url, "shards": 1, "session_start_limit": limit}

    async def _pressed(self, request: Request) -> tuple[int, Any]:
        if (await request.json()).get("code") == 0:
            self.pressed.add(request.path_params["id"])
        async with self._news:
            self._news.notify_all()
        return 200, {}

    async def _download(self, request: Request) -> Response:
        self.calls["media"] += 1
        found = self.media.get(request.path_params["id"])
        return Response("gone", 404) if found is None else Response(found)

    # --- what customers do ---

    async def bring(self, line: Line) -> bool:
        """A customer says something, in a direct talk, a group or a channel."""
        said: dict[str, Any] = {
            "id": line.id or f"ROBOT1.0_{next(self._numbers)}_{secrets.token_urlsafe(6)}",
            "content": line.text,
            "timestamp": self._written_time(),
        }
        attachments = [*self._attached(line)]
        if attachments:
            said["attachments"] = attachments
        if not line.chat:
            event, path = "C2C_MESSAGE_CREATE", f"users/{line.user}"
            said["author"] = {"id": line.user, "user_openid": line.user}
        elif line.chat in self.guild_channels:
            event = "AT_MESSAGE_CREATE" if line.mentions else "MESSAGE_CREATE"
            path = f"channels/{line.chat}"
            said |= {"channel_id": line.chat, "guild_id": "18700000000001", "seq": 1}
            said["author"] = {"id": line.user, "username": line.user, "bot": False}
        else:
            event = "GROUP_AT_MESSAGE_CREATE" if line.mentions else "GROUP_MESSAGE_CREATE"
            path = f"groups/{line.chat}"
            said |= {"group_openid": line.chat, "content": f" {line.text}"}
            said["author"] = {"id": line.user, "member_openid": line.user}
        if line.quotes:
            said |= self._quoted(line)
        self.anchors.setdefault(said["id"], Anchor(path=path, at=self._clock()))
        return await self.dispatch(event, said)

    async def befriend(self, user: str) -> bool:
        """Somebody adds the bot as a friend."""
        event_id = f"FRIEND_ADD:{secrets.token_hex(8)}"
        self.anchors[event_id] = Anchor(path=f"users/{user}", at=self._clock())
        said = {"openid": user, "timestamp": int(self._clock())}
        return await self.dispatch("FRIEND_ADD", said, id_=event_id)

    async def press(self, user: str, data: str) -> bool:
        """Somebody presses a button; True when the call was taken."""
        resolved = {"button_data": data, "button_id": "1", "user_id": user}
        said = {"id": secrets.token_hex(8), "chat_type": 2, "data": {"resolved": resolved}}
        return await self.dispatch("INTERACTION_CREATE", said)

    def _attached(self, line: Line) -> list[dict[str, Any]]:
        found = []
        if line.picture:
            size = {"width": 120, "height": 100, "size": len(line.picture)}
            found.append({"content_type": "image/png", "filename": "a.png", **size})
            found[-1]["url"] = self._kept(line.picture)
        if line.voice:
            url = self._kept(line.voice)
            found.append({"content_type": "voice", "filename": "v.silk", "url": url})
            found[-1] |= {"voice_wav_url": url, "asr_refer_text": line.text}
        if line.file:
            url = self._kept(line.file)
            found.append({"content_type": "file", "filename": line.name, "url": url})
        return found

    def _quoted(self, line: Line) -> dict[str, Any]:
        if line.chat in self.guild_channels:
            return {"message_reference": {"message_id": line.quotes}}
        text = next((each.text for each in self.seen if each.id == line.quotes), "")
        return {
            "message_type": 103,
            "msg_elements": [{"content": text}],
            "message_scene": {"ext": [f"ref_msg_idx={line.quotes}", "msg_idx=1"]},
        }

    # --- the way out ---

    async def dispatch(self, event: str, said: dict[str, Any], *, id_: str = "") -> bool:
        """Whether it need not be said again."""
        if self.transport == "gateway":
            session = self.gateway.current
            return session is not None and await session.say(event, said, id_)
        payload = {"op": 0, "s": next(self._numbers), "t": event, "d": said}
        payload["id"] = id_ or f"{event}:{payload['s']}"
        body = json.dumps(payload, ensure_ascii=False).encode()
        wanted, answered, tries = 1 + self.faults.redeliver, 0, 0
        while answered < wanted and tries < TRIES + self.faults.redeliver:
            tries += 1
            answered += await self._called(body)
        self.tries.append(tries)
        return answered > 0

    async def _called(self, body: bytes) -> bool:
        answer = await self._post(body, self.signed(body))
        if answer is None or self.strikes("drop_callbacks") or answer.status_code != 200:
            return False
        return not answer.content or answer.json() == {"op": 12, "d": 0}

    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx2.Response | None:
        try:
            return await self._http.post(
                self.callback_url, content=body, headers=headers, timeout=self._deadline_s
            )
        except httpx2.HTTPError:
            return None

    def signed(self, body: bytes) -> dict[str, str]:
        """The headers of a call with this body."""
        at = str(int(self._clock()))
        return {
            "content-type": "application/json",
            "user-agent": "QQBot-Callback",
            "x-bot-appid": self.app_id,
            "x-signature-ed25519": self._key().sign(at.encode() + body).hex(),
            "x-signature-timestamp": at,
        }

    def _key(self) -> Ed25519PrivateKey:
        seed = self.secret.encode()
        while len(seed) < 32:
            seed += self.secret.encode()
        return Ed25519PrivateKey.from_private_bytes(seed[:32])

    async def check_address(self, *, signed: bool = False) -> bool:
        """What the console does when somebody saves the webhook's address."""
        token, at = secrets.token_urlsafe(15), str(int(self._clock()))
        body = json.dumps({"d": {"plain_token": token, "event_ts": at}, "op": 13}).encode()
        headers = self.signed(body) if signed else {"x-bot-appid": self.app_id}
        answer = await self._post(body, headers)
        if answer is None or answer.status_code != 200:
            return False
        expected = self._key().sign((at + token).encode()).hex()
        return bool(answer.json() == {"plain_token": token, "signature": expected})

    # --- for tests, and for people who play a customer ---

    @property
    def unacknowledged(self) -> int:
        """Webhook calls are given up after three tries."""
        session = self.gateway.current
        return session.waiting if self.transport == "gateway" and session is not None else 0

    async def disconnect(self) -> None:
        await self.gateway.close(1001)

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls

    async def _control(self, request: Request) -> Response:
        """GET: what was seen. POST `{"faults", "say": {"user", "text"}, "callback_url"}`."""
        if request.method == "POST":
            order = await request.json()
            for fault in fields(Faults):
                if fault.name in order.get("faults", {}):
                    setattr(self.faults, fault.name, order["faults"][fault.name])
            if order.get("expire_tokens"):
                self.expire_tokens()
            self.callback_url = order.get("callback_url", self.callback_url)
            if said := order.get("say"):
                return JSONResponse({"acknowledged": await self.bring(Line(**said))})
        seen = [
            {"user": each.user, "chat": each.chat, "type": each.type, "text": each.text}
            for each in self.seen
        ]
        return JSONResponse({"seen": seen, "calls": self.calls})


PLATFORM = QQ


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
