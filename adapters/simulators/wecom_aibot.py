"""A stand-in of WeCom for one AI bot: the long connection, or encrypted callbacks that are polled.

It refuses what the platform refuses, counts what each talk gets, keeps media sealed, shows answers
as they grow, and misbehaves on request: `Faults`. The long connection says everything once.
"""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.simulators.platform import Line
from adapters.simulators.serving import serving
from adapters.simulators.wecom_aibot_media import Kept
from adapters.simulators.wecom_aibot_screen import STREAM_LIFE_S, No, Screen
from adapters.simulators.wecom_seal import Seal

Transport = Literal["long_connection", "callback"]
# A callback's answer must be there by then; a stream is polled until it ends, for so long.
DEADLINE_S = 5.0
CHECK_DEADLINE_S = 1.0
TRIES = 3
ANSWER_LIFE_S = 3600.0


class AiBot(Screen):
    """The platform as one bot and the members of its company know it."""

    def __init__(
        self,
        *,
        transport: Transport = "long_connection",
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
        check_deadline_s: float = CHECK_DEADLINE_S,
        poll_every_s: float = 0.05,
        callback_url: str = "",
    ) -> None:
        super().__init__(clock)
        self.transport = transport
        self.bot_id = f"aib{secrets.token_hex(8)}"
        self.secret = secrets.token_urlsafe(32)
        self.token = secrets.token_hex(8)
        self.encoding_aes_key = secrets.token_hex(22)[:43]
        self.seal = Seal(self.token, self.encoding_aes_key, "")
        self.callback_url = callback_url
        self.calls: Counter[str] = Counter()
        self.tries: list[int] = []
        self.kicked = 0
        self.url = ""
        self._deadline_s, self._check_deadline_s = deadline_s, check_deadline_s
        self._poll_every_s = poll_every_s
        self._codes: dict[str, tuple[str, str, float]] = {}
        self.media = Kept()
        self._socket: WebSocket | None = None
        self._polls: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the console."""
        ours = {"transport": self.transport, "bot_id": self.bot_id, "base_url": self.url}
        if self.transport == "callback":
            keys = {"token": self.token, "encoding_aes_key": self.encoding_aes_key}
            return ours | keys
        socket = "ws" + self.url.removeprefix("http") + "/socket"
        return ours | {"secret": self.secret, "websocket_url": socket}

    async def __aenter__(self) -> "AiBot":
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        routes = [
            WebSocketRoute("/socket", self._serve),
            Route("/media/{id}", self._download),
            Route("/cgi-bin/aibot/response", self._late_answer, methods=["POST"]),
        ]
        self._serving = serving(Starlette(routes=routes), sockets=True)
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)
        await self.disconnect()
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    # --- the long connection ---

    async def _serve(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await self._answer(socket, json.loads(await socket.receive_text()))
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if self._socket is socket:
                self._socket = None
                await self._tell()

    async def _answer(self, socket: WebSocket, frame: dict[str, Any]) -> None:
        cmd, req_id = frame["cmd"], frame["headers"]["req_id"]
        self.calls[cmd] += 1
        await self._tell()
        if self.faults.deaf:
            return
        try:
            if cmd != "aibot_subscribe" and socket is not self._socket:
                raise No(846600, "not subscribed")
            more = await self._do(cmd, req_id, frame.get("body", {}), socket)
            answer = {"errcode": 0, "errmsg": "ok", **more}
        except No as no:
            answer = no.answer
        if cmd in {"ping", "aibot_subscribe"} or not self._strikes("silent"):
            await self._send(socket, {"headers": {"req_id": req_id}, **answer})
        if cmd == "aibot_subscribe":
            await self._tell()

    async def _do(
        self, cmd: str, req_id: str, body: dict[str, Any], socket: WebSocket
    ) -> dict[str, Any]:
        match cmd:
            case "aibot_subscribe":
                if (body.get("bot_id"), body.get("secret")) != (self.bot_id, self.secret):
                    raise No(853000, "invalid bot or secret")
                await self._take_over(socket)
            case "ping":
                pass
            case "aibot_respond_msg":
                await self._respond(req_id, body)
            case "aibot_respond_welcome_msg":
                talk = self._questions[req_id]
                await self._show(*talk, "text", body["text"]["content"])
            case "aibot_send_msg":
                await self._push(body)
            case _ if cmd.startswith("aibot_upload_media_"):
                if self.faults.no_uploads:
                    raise No(40007, "invalid media")
                try:
                    return {"body": self._uploads.take(cmd, body)}
                except ValueError as error:
                    raise No(40007, str(error)) from None
            case _:
                raise No(40008, "unknown cmd")
        return {}

    async def _take_over(self, socket: WebSocket) -> None:
        former, self._socket = self._socket, socket
        if former is not None and former is not socket:
            self.kicked += 1
            event = {"eventtype": "disconnected_event"}
            await self._send(former, self._frame("aibot_event_callback", event=event))
            with suppress(RuntimeError):
                await former.close()

    async def _send(self, socket: WebSocket, frame: dict[str, Any]) -> bool:
        try:
            await socket.send_text(json.dumps(frame, ensure_ascii=False))
        except (WebSocketDisconnect, RuntimeError):
            return False
        return True

    def _frame(self, cmd: str, **body: Any) -> dict[str, Any]:
        req_id = f"question-{next(self._numbers)}"
        common = {"msgid": f"event-{req_id}", "aibotid": self.bot_id, "msgtype": "event"}
        made = {"create_time": int(self._clock())} if "event" in body else {}
        return {"cmd": cmd, "headers": {"req_id": req_id}, "body": common | made | body}

    # --- what customers do ---

    async def bring(self, line: Line) -> bool:
        """Say it. The long connection says everything once, to whoever is connected."""
        return await self.deliver(self._body(line))

    async def deliver(self, body: dict[str, Any]) -> bool:
        """A message or an event in the platform's own words."""
        talk = body.get("chatid") or body["from"]["userid"]
        if body["msgtype"] != "event":
            self._spoke.add(talk)
        if self.transport == "callback":
            return await self._deliver(body)
        if self._socket is None:
            return False
        event = body["msgtype"] == "event"
        frame = self._frame("aibot_event_callback" if event else "aibot_msg_callback", **body)
        self._questions[frame["headers"]["req_id"]] = (talk, body["from"]["userid"])
        return await self._send(self._socket, frame)

    async def enter(self, user: str) -> bool:
        """Somebody opens the talk."""
        event = {"eventtype": "enter_chat"}
        return await self.deliver(
            {
                "msgid": f"e{next(self._numbers)}",
                "create_time": int(self._clock()),
                "aibotid": self.bot_id,
                "from": {"userid": user},
                "msgtype": "event",
                "event": event,
            }
        )

    def _body(self, line: Line) -> dict[str, Any]:
        body: dict[str, Any] = {
            "msgid": line.id or f"m{next(self._numbers)}",
            "aibotid": self.bot_id,
            "chattype": "group" if line.chat else "single",
            "from": {"userid": line.user},
        }
        if line.chat:
            body["chatid"] = line.chat
        if line.quotes:
            quoted = next(each for each in self.bubbles if each.id == line.quotes)
            body["quote"] = {"msgtype": "text", "text": {"content": quoted.text}}
        words = f"@Bot {line.text}" if line.chat and line.mentions else line.text
        text = {"msgtype": "text", "text": {"content": words}}
        if line.voice:
            # Only the words reach a bot.
            voice = {"msgtype": "voice", "voice": {"content": line.text or "（语音）"}}
            return body | voice
        if line.file:
            return body | {"msgtype": "file", "file": self.keep(line.file, name=line.name)}
        if line.picture:
            image = {"msgtype": "image", "image": self.keep(line.picture, name=line.name)}
            if not words:
                return body | image
            return body | {"msgtype": "mixed", "mixed": {"msg_item": [text, image]}}
        return body | text

    def keep(self, content: bytes, *, name: str = "") -> dict[str, str]:
        """A medium of a customer, sealed: its address, and its key where it has one of its own."""
        key = "" if self.transport == "long_connection" else self.encoding_aes_key + "="
        medium_id, own = self.media.keep(content, key, name=name)
        return {"url": f"{self.url}/media/{medium_id}?sign=q"} | ({"aeskey": own} if own else {})

    async def _download(self, request: Request) -> Response:
        self.calls["media"] += 1
        if self._strikes("busy"):
            return Response("bad gateway", 502)
        return self.media.answer(request.path_params["id"])

    # --- callbacks ---

    async def check_address(self) -> bool:
        """What the console does when somebody saves the callback address."""
        echo = str(secrets.randbelow(10**18))
        sealed = self.seal.close(echo.encode())
        query = self._query(sealed) | {"echostr": sealed}
        try:
            answer = await self._http.get(
                self.callback_url, params=query, timeout=self._check_deadline_s
            )
        except httpx2.HTTPError:
            return False
        return answer.status_code == 200 and answer.content == echo.encode()

    async def _deliver(self, body: dict[str, Any]) -> bool:
        user = body["from"]["userid"]
        talk = body.get("chatid") or user
        if body["msgtype"] != "event":
            code = secrets.token_urlsafe(16)
            self._codes[code] = (talk, user, self._clock())
            url = f"{self.url}/cgi-bin/aibot/response?response_code={code}"
            body = body | {"response_url": url}
        for tries in range(1, TRIES + 1):
            status, answer = await self._call(body)
            if status == 200 and not self._strikes("drop_callbacks"):
                self.tries.append(tries)
                await self._take(talk, user, answer, body)
                return True
        self.tries.append(TRIES)
        return False

    async def _take(
        self, talk: str, user: str, answer: dict[str, Any] | None, asked: dict[str, Any]
    ) -> None:
        """An answer to a callback is shown; a stream that has not ended is asked for again."""
        if answer is None:
            return
        if answer["msgtype"] == "text":
            if asked["msgtype"] != "event":
                raise ValueError("only a greeting may be text")
            await self._show(talk, user, "text", answer["text"]["content"])
            return
        stream = answer["stream"]
        with suppress(No):
            await self._grow(talk, user, stream)
        if not stream["finish"]:
            self._spawn(self._poll(talk, user, stream["id"], asked))

    async def _poll(self, talk: str, user: str, stream_id: str, asked: dict[str, Any]) -> None:
        begun = self._clock()
        while self._clock() - begun < STREAM_LIFE_S:
            await asyncio.sleep(self._poll_every_s)
            if self.faults.no_polls:
                continue
            common = {name: asked[name] for name in asked if name in _COMMON}
            poll = common | {"msgtype": "stream", "stream": {"id": stream_id}}
            status, answer = await self._call(poll)
            self.calls["poll"] += 1
            await self._tell()
            if status == 200 and answer is not None:
                with suppress(No):
                    await self._grow(talk, user, answer["stream"])
                if answer["stream"]["finish"]:
                    return

    async def _call(self, body: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """One callback: its status, and the message that its answer is."""
        sealed = self.seal.close(json.dumps(body, ensure_ascii=False).encode())
        query = self._query(sealed)
        try:
            answer = await self._http.post(
                self.callback_url,
                params=query,
                content=json.dumps({"encrypt": sealed}).encode(),
                headers={"content-type": "application/json"},
                timeout=self._deadline_s,
            )
        except httpx2.HTTPError:
            return 0, None
        if answer.status_code != 200 or not answer.content:
            return answer.status_code, None
        outer = json.loads(answer.content)
        expected = self.seal.signature(str(outer["timestamp"]), outer["nonce"], outer["encrypt"])
        if outer["msgsignature"] != expected or outer["nonce"] != query["nonce"]:
            raise ValueError("the answer has another signature")
        return 200, json.loads(self.seal.open(outer["encrypt"]))

    async def _late_answer(self, request: Request) -> Response:
        """The address that came with a message: good once, for an hour."""
        self.calls["late_answer"] += 1
        body = json.loads(await request.body())
        code = request.query_params.get("response_code", "")
        talk, user, at = self._codes.get(code, ("", "", 0.0))
        if not talk or self._clock() - at > ANSWER_LIFE_S:
            return JSONResponse({"errcode": 40001, "errmsg": "invalid response code"})
        try:
            self._limit(talk)
            if body["msgtype"] not in {"markdown", "template_card"}:
                raise No(40008, "invalid message type")
            await self._pushed(talk, user, body["msgtype"], body.get(body["msgtype"]))
        except No as no:
            return JSONResponse(no.answer)
        del self._codes[code]
        return JSONResponse({"errcode": 0, "errmsg": "ok"})

    def _query(self, sealed: str) -> dict[str, str]:
        timestamp, nonce = str(int(self._clock())), secrets.token_hex(5)
        return {
            "msg_signature": self.seal.signature(timestamp, nonce, sealed),
            "timestamp": timestamp,
            "nonce": nonce,
        }

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)

    # --- for tests, and for people who play a customer ---

    @property
    def unacknowledged(self) -> int:
        """It says everything once, or gives up after three tries."""
        return 0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def disconnect(self) -> None:
        """Cut the connection, if there is one."""
        if self._socket is not None:
            with suppress(RuntimeError):
                await self._socket.close(1001)

    def expire_tokens(self) -> None:
        """There are none."""

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls


_COMMON = {"msgid", "aibotid", "chatid", "chattype", "from"}
PLATFORM = AiBot
