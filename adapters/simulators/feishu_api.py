"""The HTTP API of Feishu's stand-in: tokens, sends, media."""

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from adapters.simulators.feishu_people import BOT, People, words
from adapters.simulators.platform import Line

TOKEN_LIFE_S = 7200
# One token is given out until this little of its life remains.
TOKEN_RENEWED_S = 1800
UUID_LIFE_S = 3600
PER_SECOND = 5
MAX_TEXT_BYTES = 150 * 1024
MAX_RICH_BYTES = 30 * 1024
_MB = 1024 * 1024
MAX_IMAGE_BYTES, MAX_FILE_BYTES = 10 * _MB, 30 * _MB
_FILE_TYPES = {"opus", "mp4", "pdf", "doc", "xls", "ppt", "stream"}
_MADE_OF = {"file": None, "audio": "opus", "media": "mp4"}


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    answer_500: int = 0
    rate_limit: int = 0
    drop_reply: int = 0
    """Sends that are shown and then answered by a cut connection."""
    refuse: int = 0
    """The code that all sends are refused with, until it is 0 again."""
    redeliver: int = 0
    """Times that each event is delivered again although it was acknowledged."""
    drop_acks: int = 0
    """Acknowledgements that the platform does not hear."""
    slow_s: float = 0.0
    mute: bool = False
    """Pings are not answered."""
    parts: int = 1
    """Frames that an event comes in."""
    endpoint_code: int = 0
    handshake: dict[str, str] = field(default_factory=dict)
    """Headers that the handshake is refused with."""
    ping_interval: int = 120
    no_bot: bool = False


class Error(Exception):
    """The platform says no."""

    def __init__(self, code: int, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(code))
        self.code, self.status, self.headers = code, status, headers


class Api(People, ABC):
    """Calls, and what they change."""

    def __init__(self, *, app_id: str, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.app_id = app_id
        self.app_secret = secrets.token_urlsafe(24)
        self.faults = Faults()
        self.url = ""
        self.calls: Counter[str] = Counter()
        self._tokens: dict[str, float] = {}
        self._uuids: dict[str, tuple[float, str]] = {}
        self._sent_at: dict[str, list[float]] = defaultdict(list)

    @abstractmethod
    def new_ticket(self) -> str:
        """The address of a long connection."""

    def app(self, more: Sequence[BaseRoute]) -> Starlette:
        api: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/open-apis/auth/v3/tenant_access_token/internal", self._get_token),
            ("POST", "/callback/ws/endpoint", self._endpoint),
            ("GET", "/open-apis/bot/v3/info", self._info),
            ("POST", "/open-apis/im/v1/messages", self._send),
            ("POST", "/open-apis/im/v1/messages/{id}/reply", self._reply),
            ("GET", "/open-apis/im/v1/messages/{id}", self._read),
            ("GET", "/open-apis/im/v1/messages/{id}/resources/{key}", self._resource),
            ("POST", "/open-apis/im/v1/images", self._upload_image),
            ("POST", "/open-apis/im/v1/files", self._upload_file),
        ]
        routes = [
            Route(path, self._guarded(path, handler), methods=[method])
            for method, path, handler in api
        ]
        control = Route("/control", self._control, methods=["GET", "POST"])
        return Starlette(routes=[*routes, control, *more])

    def _guarded(
        self, path: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        name = path.removeprefix("/open-apis/").removeprefix("/")

        async def guarded(request: Request) -> Response:
            self.calls[name] += 1
            await asyncio.sleep(self.faults.slow_s)
            if self.strikes("answer_500"):
                return Response("bad gateway", 500)
            try:
                return await handler(request)
            except Error as error:
                said = {"code": error.code, "msg": "no"}
                return JSONResponse(said, error.status, headers=error.headers)
            except ConnectionAbortedError:
                return _CutResponse()

        return guarded

    def strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    # --- who may call ---

    async def _get_token(self, request: Request) -> Response:
        given = json.loads(await request.body())
        if given.get("app_id") != self.app_id:
            raise Error(10003, 200)
        if given.get("app_secret") != self.app_secret:
            raise Error(10014, 200)
        now = self.clock()
        for token, until in self._tokens.items():
            if until - now > TOKEN_RENEWED_S:
                return _token(token, until - now)
        token = f"t-{secrets.token_urlsafe(24)}"
        self._tokens[token] = now + TOKEN_LIFE_S
        return _token(token, TOKEN_LIFE_S)

    def expire_tokens(self) -> None:
        """All tokens end before their time."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls

    def _authorised(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Error(99991661)
        if token not in self._tokens:
            raise Error(99991663)
        if self.clock() >= self._tokens[token]:
            raise Error(99991677)

    async def _endpoint(self, request: Request) -> Response:
        given = json.loads(await request.body())
        if (given.get("AppID"), given.get("AppSecret")) != (self.app_id, self.app_secret):
            raise Error(514, 200)
        if self.faults.endpoint_code:
            raise Error(self.faults.endpoint_code, 200)
        config = {
            "ReconnectCount": -1,
            "ReconnectInterval": 120,
            "ReconnectNonce": 30,
            "PingInterval": self.faults.ping_interval,
        }
        data = {"URL": self.new_ticket(), "ClientConfig": config}
        return JSONResponse({"code": 0, "msg": "", "data": data})

    async def _info(self, request: Request) -> Response:
        self._authorised(request)
        if self.faults.no_bot:
            raise Error(11205)
        return JSONResponse({"code": 0, "msg": "ok", "bot": {"open_id": BOT, "app_name": "客服"}})

    # --- sends ---

    async def _send(self, request: Request) -> Response:
        self._authorised(request)
        body = await request.body()
        given = json.loads(body)
        to, kind = given.get("receive_id", ""), request.query_params.get("receive_id_type")
        if kind == "open_id":
            names = {self.open_id(name): chat for chat, name in self.users.items()}
            if to not in names:
                raise Error(230013)
            to = names[to]
        elif kind != "chat_id":
            raise Error(230001)
        if to not in self.users and to not in self.groups:
            raise Error(230002)
        return await self._show(to, given, len(body))

    async def _reply(self, request: Request) -> Response:
        self._authorised(request)
        message_id = request.path_params["id"]
        parent = self.messages.get(message_id)
        if parent is None:
            raise Error(230001)
        if message_id in self.recalled:
            raise Error(230011)
        body = await request.body()
        return await self._show(parent.chat, json.loads(body), len(body), parent=message_id)

    async def _show(
        self, chat: str, given: dict[str, Any], size: int, *, parent: str = ""
    ) -> Response:
        if self.strikes("rate_limit"):
            raise Error(99991400, 429, {"x-ogw-ratelimit-reset": "7"})
        if self.faults.refuse:
            raise Error(self.faults.refuse)
        now, uuid = self.clock(), given.get("uuid", "")
        if uuid and now - self._uuids.get(uuid, (-1e9, ""))[0] < UUID_LIFE_S:
            return _told({"message_id": self._uuids[uuid][1]})
        self._check(given, size)
        recent = [at for at in self._sent_at[chat] if now - at < 1]
        if len(recent) >= PER_SECOND:
            raise Error(230020)
        self._sent_at[chat] = [*recent, now]
        kept = self.remember(
            chat=chat,
            sender=BOT,
            type=given["msg_type"],
            content=json.loads(given["content"]),
            parent=parent,
            in_thread=bool(given.get("reply_in_thread")),
        )
        self.seen.append(kept)
        if uuid:
            self._uuids[uuid] = (now, kept.id)
        await self.tell()
        if self.strikes("drop_reply"):
            raise ConnectionAbortedError
        return _told({"message_id": kept.id})

    def _check(self, given: dict[str, Any], size: int) -> None:
        kind = given.get("msg_type", "")
        if size > (MAX_TEXT_BYTES if kind == "text" else MAX_RICH_BYTES):
            raise Error(230025)
        try:
            content = json.loads(given["content"])
            self._check_content(kind, content)
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Error(230099 if kind == "interactive" else 230001) from None

    def _check_content(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "text":
            if not content["text"].strip():
                raise ValueError
        elif kind == "post":
            if not all(each["tag"] for line in content["zh_cn"]["content"] for each in line):
                raise ValueError
        elif kind == "interactive":
            if not (content.get("elements") or content.get("body")):
                raise ValueError
        elif kind == "image":
            self._uploaded(content["image_key"], "image")
        elif kind in _MADE_OF:
            self._uploaded(content["file_key"], _MADE_OF[kind])
        elif not (kind == "share_chat" and content["chat_id"]) and not (
            kind == "share_user" and content["user_id"]
        ):
            raise ValueError

    def _uploaded(self, key: str, kind: str | None) -> None:
        if key not in self.media or kind not in (None, self.media[key][0]):
            raise Error(230055)

    # --- media and messages ---

    async def _upload_image(self, request: Request) -> Response:
        self._authorised(request)
        form = _form(request.headers.get("content-type", ""), await request.body())
        body = form.get("image", b"")
        if form.get("image_type") != b"message" or not 0 < len(body) <= MAX_IMAGE_BYTES:
            raise Error(234006)
        if not body.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")):
            raise Error(234011)
        return _told({"image_key": self.keep("image", body)})

    async def _upload_file(self, request: Request) -> Response:
        self._authorised(request)
        form = _form(request.headers.get("content-type", ""), await request.body())
        kind, name = form.get("file_type", b"").decode(), form.get("file_name", b"").decode()
        body = form.get("file", b"")
        if kind not in _FILE_TYPES or not name or not 0 < len(body) <= MAX_FILE_BYTES:
            raise Error(234001)
        return _told({"file_key": self.keep(kind, body, name=name)})

    async def _resource(self, request: Request) -> Response:
        self.calls["media"] += 1
        self._authorised(request)
        key, message = request.path_params["key"], self.messages.get(request.path_params["id"])
        if message is None or key not in json.dumps(message.content) or key not in self.media:
            raise Error(234003)
        kind, _, body = self.media[key]
        if (request.query_params.get("type") == "image") != (kind == "image"):
            raise Error(234001)
        return Response(body, media_type="application/octet-stream")

    async def _read(self, request: Request) -> Response:
        self._authorised(request)
        message_id = request.path_params["id"]
        if message_id not in self.messages:
            raise Error(230001)
        found = [self.messages[message_id]]
        found += [each for each in self.messages.values() if each.upper == message_id]
        items = [
            {
                "message_id": each.id,
                "msg_type": each.type,
                "body": {"content": json.dumps(each.content)},
                "sender": {"id": each.sender, "id_type": "open_id", "sender_type": "user"},
                "upper_message_id": each.upper,
                "mentions": [mention | {"id": BOT} for mention in each.mentions],
            }
            for each in found
        ]
        return _told({"items": items})

    @abstractmethod
    async def bring(self, line: Line) -> bool:
        """See `platform.Platform`."""

    async def _control(self, request: Request) -> Response:
        """GET: what was shown. POST `{"faults", "say": {"user", "text"}, "expire_tokens"}`."""
        if request.method == "POST":
            order = await request.json()
            for fault in fields(Faults):
                if fault.name in order.get("faults", {}):
                    setattr(self.faults, fault.name, order["faults"][fault.name])
            if order.get("expire_tokens"):
                self.expire_tokens()
            if said := order.get("say"):
                taken = await self.bring(Line(user=said["user"], text=said["text"]))
                return JSONResponse({"acknowledged": taken})
        seen = [{"chat": each.chat, "type": each.type, "text": words(each)} for each in self.seen]
        return JSONResponse({"seen": seen, "calls": self.calls})


def _token(token: str, lives_s: float) -> Response:
    answer = {"code": 0, "msg": "ok", "tenant_access_token": token, "expire": int(lives_s)}
    return JSONResponse(answer)


def _told(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 0, "msg": "success", "data": data})


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    found = {}
    for part in message_from_bytes(head + body, policy=HTTP).walk():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content
    return found
