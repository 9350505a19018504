"""A stand-in of a QQ account in a OneBot v11 client, and of the people it talks with.

As a client it opens a WebSocket to us and comes back when that ends, or posts signed events and
serves its API by HTTP. It says everything once. It misbehaves on request: `Faults`.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from adapters.simulators.platform import Line, Shown
from adapters.simulators.serving import serving

# What a client takes in one frame.
MAX_FRAME_BYTES = 50 * 1024 * 1024
# Characters that QQ shows of one message.
MAX_TEXT = 4500
# Until a handshake or a post must be answered.
DEADLINE_S = 20.0
_MEDIA = ("image", "record", "video", "file")

Fields = dict[str, Any]


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    rate_limit: int = 0
    refuse_media: int = 0
    late: int = 0
    """Sends that are shown, and answered as if QQ had not said so in time."""
    drop_reply: int = 0
    """Sends that are shown, and whose connection then ends without an answer."""
    answer_500: int = 0
    offline: bool = False
    """The client runs, and QQ has thrown the account out."""
    mute: bool = False
    """Nothing is answered, though the connection stands."""


class _Error(Exception):
    """The client says no."""

    def __init__(self, retcode: int, words: str) -> None:
        super().__init__(words)
        self.answer = {"status": "failed", "retcode": retcode, "data": None, "wording": words}


class _Cut(Exception):
    """The connection ends without an answer."""


class OneBot:
    """One account in one client."""

    def __init__(
        self,
        *,
        self_id: str = "10001000",
        transport: Literal["reverse_websocket", "http"] = "reverse_websocket",
        clock: Callable[[], float] = time.time,
        callback_url: str = "",
        as_strings: bool = False,
        reconnect_s: float = 0.05,
        heartbeat_s: float = 30.0,
    ) -> None:
        """`as_strings`: messages come with CQ codes rather than as lists."""
        self.self_id = self_id
        self.transport = transport
        self.access_token = secrets.token_hex(16)
        self.friends: set[str] = {"345678901"}
        self.groups: set[str] = {"987654321"}
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.seen: list[Shown] = []
        self.media: dict[str, bytes] = {}
        self.received: list[bytes] = []
        """Bytes of the media that we sent."""
        self.refused: list[int] = []
        """Statuses with which our handshakes were refused."""
        self.closed: list[int] = []
        """Codes with which our sockets were closed."""
        self.url = ""
        self._clock = clock
        self._as_strings = as_strings
        self._reconnect_s = reconnect_s
        self._heartbeat_s = heartbeat_s
        self._address = asyncio.Event()
        self._callback_url = ""
        self._messages: dict[str, Fields] = {}
        self._forwards: dict[str, list[Fields]] = {}
        self._numbers = itertools.count(2001)
        self._news = asyncio.Condition()
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.callback_url = callback_url

    @property
    def callback_url(self) -> str:
        """Where the client connects or posts; once it is there, it does."""
        return self._callback_url

    @callback_url.setter
    def callback_url(self, url: str) -> None:
        self._callback_url = url
        if url:
            self._address.set()
        else:
            self._address.clear()

    @property
    def settings(self) -> Fields:
        """What a tenant copies from the client's page."""
        own: Fields = {"self_id": self.self_id, "access_token": self.access_token}
        # Nobody here bans an account for writing fast.
        own["spacing_s"] = 0
        if self.transport == "http":
            own |= {"transport": "http", "api_url": self.url}
        return own

    async def __aenter__(self) -> "OneBot":
        # Certificates are read for https alone: reading them takes longer than most tests.
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        routes = [
            Route("/media/{name:path}", self._give),
            Route("/{action}", self._serve, methods=["POST"]),
        ]
        self._serving = serving(Starlette(routes=routes))
        self.url = await self._serving.__aenter__()
        if self.transport == "reverse_websocket":
            self._tasks = [asyncio.create_task(self._stay_connected(), name="onebot-client")]
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    # --- the socket ---

    async def _stay_connected(self) -> None:
        while True:
            await self._address.wait()
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self._connect()
            await self._notify()
            await asyncio.sleep(self._reconnect_s)

    async def _connect(self) -> None:
        headers = {
            "Authorization": f"Bearer {self.access_token}",
            "X-Self-ID": self.self_id,
            "x-client-role": "Universal",
            "User-Agent": "OneBot/11",
        }
        url = "ws" + self.callback_url.removeprefix("http")
        try:
            async with connect(
                url,
                additional_headers=headers,
                user_agent_header=None,
                max_size=MAX_FRAME_BYTES,
                proxy=None,
                open_timeout=DEADLINE_S,
                close_timeout=1,
            ) as socket:
                with contextlib.suppress(ConnectionClosed):
                    async with self._beating(socket):
                        async for frame in socket:
                            await self._obey(socket, json.loads(frame))
                self.closed.append(socket.close_code or 1006)
        except InvalidStatus as refused:
            self.refused.append(refused.response.status_code)

    @contextlib.asynccontextmanager
    async def _beating(self, socket: ClientConnection) -> AsyncIterator[None]:
        begins = {"meta_event_type": "lifecycle", "sub_type": "connect"}
        await socket.send(self._event("meta_event", **begins))
        self._socket = socket
        await self._notify()
        beats = asyncio.create_task(self._beat(socket), name="onebot-heartbeat")
        try:
            yield
        finally:
            beats.cancel()
            self._socket = None

    async def _beat(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._heartbeat_s)
                if not self.faults.mute:
                    await socket.send(self.heartbeat())

    def heartbeat(self) -> str:
        """The event of that name, as of now."""
        return self._event(
            "meta_event",
            meta_event_type="heartbeat",
            status=self._status(),
            interval=int(self._heartbeat_s * 1000),
        )

    async def _obey(self, socket: ClientConnection, call: Fields) -> None:
        if self.faults.mute:
            return
        try:
            answer = self._act(call["action"], call["params"])
        except _Error as error:
            answer = error.answer
        except _Cut:
            await self._notify()
            socket.transport.abort()
            return
        await self._notify()
        await socket.send(json.dumps(answer | {"echo": call["echo"]}, ensure_ascii=False))

    # --- HTTP ---

    async def _serve(self, request: Request) -> Response:
        proof = request.headers.get("authorization", "")
        if not proof:
            return Response("", 401)
        if proof != f"Bearer {self.access_token}":
            return Response("", 403)
        if request.headers.get("content-type") != "application/json":
            return Response("", 406)
        if self._strikes("answer_500"):
            return Response("bad gateway", 500)
        action = request.path_params["action"]
        if action not in self._actions:
            return Response("", 404)
        try:
            return JSONResponse(self._act(action, await request.json()))
        except _Error as error:
            return JSONResponse(error.answer)
        except _Cut:
            return _CutResponse()
        finally:
            await self._notify()

    async def _give(self, request: Request) -> Response:
        self.calls["media"] += 1
        body = self.media.get(request.path_params["name"])
        return Response("", 404) if body is None else Response(body)

    # --- the API ---

    @property
    def _actions(self) -> dict[str, Callable[[Fields], Any]]:
        return {
            "send_private_msg": lambda given: self._send(given, "user_id", self.friends),
            "send_group_msg": lambda given: self._send(given, "group_id", self.groups),
            "get_msg": self._get_message,
            "get_forward_msg": lambda given: {"messages": self._forwards.get(given["id"], [])},
            "get_login_info": lambda _: {"user_id": int(self.self_id), "nickname": "小花"},
            "get_status": lambda _: self._status(),
            "get_group_file_url": lambda given: self._file_url(given, "group_id"),
            "get_private_file_url": lambda given: self._file_url(given, "file_id"),
        }

    def _act(self, action: str, params: Fields) -> Fields:
        self.calls[action] += 1
        handler = self._actions.get(action)
        if handler is None:
            raise _Error(1404, "不支持的 API")
        try:
            data = handler(params)
        except (KeyError, TypeError, ValueError):
            raise _Error(1400, "bad request") from None
        return {"status": "ok", "retcode": 0, "data": data, "message": "", "wording": ""}

    def _send(self, given: Fields, place: str, known: set[str]) -> Fields:
        if self._strikes("rate_limit"):
            raise _Error(1200, "消息发送过于频繁")
        to, by_way_of = str(given[place]), str(given.get("group_id", ""))
        if to not in known and by_way_of not in self.groups:
            raise _Error(1200, "群不存在" if place == "group_id" else "请先添加对方为好友")
        message = given["message"]
        if not isinstance(message, list):
            raise _Error(1400, "this stand-in shows no codes: whoever wrote them may be a customer")
        if not message or len(_words(message)) > MAX_TEXT:
            raise _Error(1200, "消息体无法解析")
        self.received += [self._bytes(each["data"]) for each in message if each["type"] in _MEDIA]
        number = next(self._numbers)
        self._messages[str(number)] = self._said(number, self.self_id, "小花", message)
        in_group = place == "group_id"
        types = [each["type"] for each in message if each["type"] not in {"text", "at", "reply"}]
        quotes = [each["data"]["id"] for each in message if each["type"] == "reply"]
        self.seen.append(
            Shown(
                user="" if in_group else to,
                chat=to if in_group else "",
                text=_words(message),
                type=types[0] if types else "text",
                id=str(number),
                quotes=str(quotes[0]) if quotes else "",
            )
        )
        if self._strikes("drop_reply"):
            raise _Cut
        if self._strikes("late"):
            raise _Error(1200, "Timeout: NTEvent sendMsg")
        return {"message_id": number}

    def _bytes(self, data: Fields) -> bytes:
        if self._strikes("refuse_media"):
            raise _Error(1200, "rich media transfer failed")
        scheme, _, text = data["file"].partition("://")
        if scheme != "base64":
            raise _Error(1200, "识别URL失败")
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise _Error(1200, "rich media transfer failed") from None

    def _get_message(self, given: Fields) -> Fields:
        found = self._messages.get(str(given["message_id"]))
        if found is None:
            raise _Error(1200, "消息不存在")
        return found

    def _file_url(self, given: Fields, needed: str) -> Fields:
        if not given[needed] or given["file_id"] not in self.media:
            raise _Error(1200, "文件不存在")
        return {"url": f"{self.url}/media/{given['file_id']}"}

    def _status(self) -> Fields:
        well = not self.faults.offline
        return {"online": well, "good": well}

    def _strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    # --- what people say ---

    async def bring(self, line: Line) -> bool:
        """Whoever says something is a friend, or in a group where the account is, too."""
        if line.chat:
            self.groups.add(line.chat)
        else:
            self.friends.add(line.user)
        return await self.say(line.user, self._segments(line), chat=line.chat, message_id=line.id)

    async def say(
        self, user: str, message: list[Fields], *, chat: str = "", message_id: str = "", **more: Any
    ) -> bool:
        """Somebody says these segments."""
        number = int(message_id) if message_id else next(self._numbers)
        said = self._said(number, user, f"name of {user}", message)
        self._messages[str(number)] = said
        group = {"group_id": int(chat), "sub_type": "normal"} if chat else {"sub_type": "friend"}
        fields = said | {"message_type": "group" if chat else "private"} | group | more
        if self._as_strings:
            fields["message"] = "".join(map(_coded, message))
        return await self.emit(self._event("message", **fields))

    def forward(self, nodes: list[tuple[str, str]]) -> str:
        """A forwarded talk of (who, what); its id."""
        forward_id = secrets.token_hex(8)
        self._forwards[forward_id] = [
            {"sender": {"nickname": who}, "message": [_segment("text", text=what)]}
            for who, what in nodes
        ]
        return forward_id

    async def emit(self, event: str) -> bool:
        """Hand an event over, once; whether somebody was there."""
        if self.transport == "http":
            return await self._post(event.encode())
        if self._socket is None:
            return False
        try:
            await self._socket.send(event)
        except ConnectionClosed:
            return False
        return True

    async def _post(self, body: bytes) -> bool:
        digest = hmac.new(self.access_token.encode(), body, hashlib.sha1).hexdigest()
        headers = {"X-Self-ID": self.self_id, "X-Signature": f"sha1={digest}"}
        try:
            answer = await self._http.post(
                self.callback_url, content=body, headers=headers, timeout=DEADLINE_S
            )
        except httpx2.HTTPError:
            return False
        return answer.status_code == 204

    def _segments(self, line: Line) -> list[Fields]:
        found = [_segment("reply", id=line.quotes)] if line.quotes else []
        if line.chat and line.mentions:
            found.append(_segment("at", qq=self.self_id))
        if line.text:
            found.append(_segment("text", text=line.text))
        for kind, body in (("image", line.picture), ("record", line.voice)):
            if body:
                name = self.keep(body)
                found.append(_segment(kind, file=name, url=f"{self.url}/media/{name}"))
        if line.file:
            name = self.keep(line.file)
            size = str(len(line.file))
            found.append(_segment("file", file=line.name, file_id=name, file_size=size))
        return found

    def keep(self, body: bytes) -> str:
        """Bytes that somebody sent; what the client calls them."""
        name = hashlib.sha256(body).hexdigest()[:32]
        self.media[name] = body
        return name

    def _said(self, number: int, user: str, name: str, message: list[Fields]) -> Fields:
        return {
            "message_id": number,
            "user_id": int(user),
            "message": message,
            "raw_message": "",
            "sender": {"user_id": int(user), "nickname": name},
        }

    def _event(self, kind: str, **fields: Any) -> str:
        common = {"time": int(self._clock()), "self_id": int(self.self_id), "post_type": kind}
        return json.dumps(common | fields, ensure_ascii=False)

    # --- for tests, and for people who play a customer ---

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def unacknowledged(self) -> int:
        """It says everything once."""
        return 0

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        return [
            each
            for each in self.seen
            if not (user or chat) or (each.user, each.chat) == (user if not chat else "", chat)
        ]

    async def until(self, true: Callable[[], object], *, patience_s: float) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(true)

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        await self.until(lambda: len(self.seen) >= count, patience_s=patience_s)

    async def until_connected(self, *, patience_s: float) -> None:
        await self.until(lambda: self.connected, patience_s=patience_s)

    async def disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.transport.abort()

    def expire_tokens(self) -> None:
        """Tokens end only when somebody changes them."""

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _segment(kind: str, **data: Any) -> Fields:
    return {"type": kind, "data": data}


def _words(message: list[Fields]) -> str:
    def word(each: Fields) -> str:
        data = each["data"]
        return f"@{data['qq']}" if each["type"] == "at" else str(data.get("text", ""))

    return "".join(map(word, message))


def _coded(segment: Fields) -> str:
    def escaped(value: str) -> str:
        return value.replace("&", "&amp;").replace("[", "&#91;").replace("]", "&#93;")

    data = segment["data"]
    if segment["type"] == "text":
        return escaped(data["text"])
    pairs = [f"{name}={escaped(str(value)).replace(',', '&#44;')}" for name, value in data.items()]
    return f"[CQ:{','.join([segment['type'], *pairs])}]"


PLATFORM = OneBot
