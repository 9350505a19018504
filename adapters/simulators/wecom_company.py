"""What WeCom does for all that a company runs there: tokens, media, and calls to an address.

It refuses what the platform refuses, and misbehaves on request: `Faults`, also over HTTP at
/control. Calls are signed and encrypted, and made up to three times.
"""

import asyncio
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, Self

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.simulators.platform import Shown
from adapters.simulators.serving import serving
from adapters.simulators.wecom_seal import Seal

TOKEN_LIFE_S = 7200
MEDIA_LIFE_S = 3 * 86_400
# A callback's answer must be there by then, and it is tried so often in all.
DEADLINE_S = 5.0
TRIES = 3
# The console's check of the address is less patient.
CHECK_DEADLINE_S = 1.0
MAX_TEXT_BYTES = 2048
_MB = 1024 * 1024
MEDIA = {
    "image": (10 * _MB, (b"\xff\xd8", b"\x89PNG")),
    "voice": (2 * _MB, (b"#!AMR",)),
    "video": (10 * _MB, (b"",)),
    "file": (20 * _MB, (b"",)),
}


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    answer_500: int = 0
    rate_limit: int = 0
    busy: int = 0
    drop_reply: int = 0
    """Sends that are shown to the customer and then answered by a cut connection."""
    redeliver: int = 0
    """Times that each callback is delivered again although it was answered well."""
    slow_s: float = 0.0
    refused_address: str = ""
    """Our address as the platform sees it, while it is not on the trusted list."""
    drop_callbacks: int = 0
    """Tries whose answer the platform does not hear."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One message on a customer's screen."""

    user: str
    msgtype: str
    payload: dict[str, Any]
    id: str

    @property
    def text(self) -> str:
        content: str = self.payload.get("content", "")
        return content


@dataclass(frozen=True, kw_only=True)
class Medium:
    """Bytes that the platform keeps for three days."""

    kind: str
    name: str
    body: bytes
    made_at: float


class Refusal(Exception):
    """The platform says no."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errmsg)
        self.answer = {"errcode": errcode, "errmsg": errmsg}


class CutOff(Exception):
    """The connection ends without an answer."""


Handler = Callable[[Request], Awaitable[Response]]


class Company(ABC):
    """One secret of a company, the address that is called, and what customers saw."""

    url = ""
    """Where it is served."""

    def __init__(
        self,
        *,
        corp_id: str = "ww0123456789abcdef",
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
        check_deadline_s: float = CHECK_DEADLINE_S,
        callback_url: str = "",
    ) -> None:
        self.corp_id = corp_id
        self.secret = secrets.token_urlsafe(32)
        self.token = secrets.token_hex(8)
        self.encoding_aes_key = secrets.token_hex(22)[:43]
        self.faults = Faults()
        self.callback_url = callback_url
        self.seen: list[Seen] = []
        self.silenced: list[Seen] = []
        self.media: dict[str, Medium] = {}
        self.calls: Counter[str] = Counter()
        self.tries: list[int] = []
        self.seal = Seal(self.token, self.encoding_aes_key, corp_id)
        self._clock = clock
        self._deadline_s = deadline_s
        self._check_deadline_s = check_deadline_s
        self._tokens: dict[str, float] = {}
        self._news = asyncio.Condition()

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the console."""
        return {
            "corp_id": self.corp_id,
            "secret": self.secret,
            "token": self.token,
            "encoding_aes_key": self.encoding_aes_key,
            "base_url": self.url,
        }

    # --- the server ---

    async def __aenter__(self) -> Self:
        # Certificates are read for https alone: reading them takes longer than most tests.
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        self._serving = serving(self.app())
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    def api(self) -> dict[str, tuple[str, Handler]]:
        """Method and handler by path."""
        return {
            "gettoken": ("GET", self._get_token),
            "media/upload": ("POST", self._upload),
            "media/get": ("GET", self._download),
        }

    def app(self) -> Starlette:
        routes = [
            Route(f"/cgi-bin/{path}", self._guarded(path, handler), methods=[method])
            for path, (method, handler) in self.api().items()
        ]
        control = Route("/control", self._control, methods=["GET", "POST"])
        return Starlette(routes=[*routes, control])

    def _guarded(
        self, path: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self.calls[path] += 1
            await asyncio.sleep(self.faults.slow_s)
            if self._strikes("answer_500"):
                return Response("bad gateway", 500)
            try:
                return await handler(request)
            except Refusal as error:
                return JSONResponse(error.answer)
            except CutOff:
                return _CutResponse()

        return guarded

    def _strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    async def _get_token(self, request: Request) -> Response:
        query = request.query_params
        if query.get("corpid") != self.corp_id:
            raise Refusal(40013, "invalid corpid")
        if query.get("corpsecret") != self.secret:
            raise Refusal(40001, "invalid credential")
        token = secrets.token_urlsafe(48)
        self._tokens[token] = self._clock() + TOKEN_LIFE_S
        answer = {"errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": TOKEN_LIFE_S}
        return JSONResponse(answer)

    def expire_tokens(self) -> None:
        """All tokens end before their time."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def _authorised(self, request: Request) -> None:
        token = request.query_params.get("access_token")
        if not token:
            raise Refusal(41001, "access_token missing")
        if token not in self._tokens:
            raise Refusal(40014, "invalid access_token")
        if self._clock() >= self._tokens[token]:
            raise Refusal(42001, "access_token expired")
        if self.faults.refused_address:
            raise Refusal(60020, f"not allow to access from ip: {self.faults.refused_address}")
        if self._strikes("rate_limit"):
            raise Refusal(45009, "api freq out of limit")
        if self._strikes("busy"):
            raise Refusal(-1, "system busy")

    async def _asked(self, request: Request) -> dict[str, Any]:
        """What an authorised question says."""
        self._authorised(request)
        try:
            asked = json.loads(await request.body())
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise Refusal(40058, "invalid Request Parameter")
        return asked

    async def _shown(self) -> None:
        """Somebody saw something."""
        async with self._news:
            self._news.notify_all()

    # --- media ---

    async def _upload(self, request: Request) -> Response:
        self._authorised(request)
        kind = request.query_params.get("type", "")
        if kind not in MEDIA:
            raise Refusal(40004, "invalid media type")
        name, body = _part(request.headers.get("content-type", ""), await request.body())
        limit, beginnings = MEDIA[kind]
        if not 5 < len(body) <= limit:
            raise Refusal(40006, "invalid media size")
        if not body.startswith(beginnings):
            raise Refusal(40005, "invalid file type")
        media_id = self.keep(kind, body, name=name)
        answer = {"errcode": 0, "errmsg": "", "type": kind, "media_id": media_id}
        return JSONResponse(answer)

    def keep(self, kind: str, body: bytes, *, name: str = "") -> str:
        """Bytes that a customer sent, or that we uploaded; their id."""
        media_id = secrets.token_urlsafe(24)
        self.media[media_id] = Medium(kind=kind, name=name, body=body, made_at=self._clock())
        return media_id

    async def _download(self, request: Request) -> Response:
        self.calls["media"] += 1
        self._authorised(request)
        medium = self._medium(request.query_params.get("media_id"), None)
        disposition = f'attachment; filename="{medium.name or medium.kind}"'
        return Response(
            medium.body,
            media_type="application/octet-stream",
            headers={"content-disposition": disposition},
        )

    def _medium(self, media_id: Any, kind: str | None) -> Medium:
        found = self.media.get(media_id) if isinstance(media_id, str) else None
        if found is None or self._clock() - found.made_at > MEDIA_LIFE_S:
            raise Refusal(40007, "invalid media_id")
        if kind not in (None, found.kind):
            raise Refusal(40007, "invalid media_id")
        return found

    # --- callbacks ---

    async def check_address(self) -> bool:
        """What the console does when somebody saves the callback address."""
        echo = str(secrets.randbelow(10**18))
        encrypted = self.seal.close(echo.encode())
        query = self._query(encrypted) | {"echostr": encrypted}
        try:
            answer = await self._http.get(
                self.callback_url, params=query, timeout=self._check_deadline_s
            )
        except httpx2.HTTPError:
            return False
        return answer.status_code == 200 and answer.content == echo.encode()

    async def call(self, values: Mapping[str, str], *, agent_id: str = "") -> bool:
        """Call the address up to three times, until it answers well; whether it did."""
        inner = "".join(f"<{name}>{_quoted(value)}</{name}>" for name, value in values.items())
        message = f"<xml>{inner}</xml>".encode()
        wanted = 1 + self.faults.redeliver
        answered = 0
        tries = 0
        while answered < wanted and tries < TRIES + self.faults.redeliver:
            tries += 1
            answered += await self._call(message, agent_id)
        self.tries.append(tries)
        return answered > 0

    async def _call(self, message: bytes, agent_id: str) -> bool:
        encrypted = self.seal.close(message)
        body = (
            f"<xml><ToUserName><![CDATA[{self.corp_id}]]></ToUserName>"
            f"<AgentID><![CDATA[{agent_id}]]></AgentID>"
            f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        )
        try:
            answer = await self._http.post(
                self.callback_url,
                params=self._query(encrypted),
                content=body.encode(),
                headers={"content-type": "text/xml"},
                timeout=self._deadline_s,
            )
        except httpx2.HTTPError:
            return False
        if self._strikes("drop_callbacks") or answer.status_code != 200:
            return False
        if answer.content not in (b"", b"success"):
            self._passive(answer.content)
        return True

    def _passive(self, content: bytes) -> None:  # noqa: B027 - most need nothing here
        """An answer that is a message in itself: not everything that calls takes one."""

    def _query(self, encrypted: str) -> dict[str, str]:
        timestamp, nonce = str(int(self._clock())), secrets.token_hex(5)
        return {
            "msg_signature": self.seal.signature(timestamp, nonce, encrypted),
            "timestamp": timestamp,
            "nonce": nonce,
        }

    # --- for tests, and for people who play a customer ---

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        return [
            Shown(user=each.user, text=each.text, type=each.msgtype, id=each.id)
            for each in self.seen
            if not (user or chat) or each.user == (chat or user)
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        await self.until_seen(count, patience_s=patience_s)

    async def disconnect(self) -> None:  # noqa: B027 - nothing is to be done
        """There is no connection to cut."""

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls

    def told(self, user: str) -> list[str]:
        """The texts that a customer saw, in order."""
        return [seen.text for seen in self.seen if seen.user == user]

    async def until_seen(self, count: int, *, patience_s: float) -> None:
        """Wait until customers saw that many messages."""
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    async def _control(self, request: Request) -> Response:
        """GET: what was seen. POST `{"faults", "say": {"user", "text"}, "expire_tokens"}`."""
        if request.method == "POST":
            order = await request.json()
            for fault in fields(self.faults):
                if fault.name in order.get("faults", {}):
                    setattr(self.faults, fault.name, order["faults"][fault.name])
            if order.get("expire_tokens"):
                self.expire_tokens()
            if "callback_url" in order:
                self.callback_url = order["callback_url"]
            if said := order.get("say"):
                return JSONResponse({"acknowledged": await self.say(said["user"], said["text"])})
        seen = [asdict(each) for each in self.seen]
        return JSONResponse({"seen": seen, "silenced": len(self.silenced), "calls": self.calls})

    @abstractmethod
    async def say(self, user: str, text: str, *, message_id: str = "") -> bool:
        """A customer writes; whether that is acknowledged."""


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _quoted(text: str) -> str:
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"


def _part(content_type: str, body: bytes) -> tuple[str, bytes]:
    """(file name, bytes) of the field `media`."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    for part in message_from_bytes(head + body, policy=HTTP).walk():
        if part.get_param("name", header="content-disposition") == "media":
            content = part.get_payload(decode=True)
            if part.get_filename() and isinstance(content, bytes):
                return part.get_filename() or "", content
    raise Refusal(41005, "media data missing")


def content_of(payload: dict[str, Any]) -> str:
    content = payload.get("content")
    if not isinstance(content, str) or not content.strip():
        raise Refusal(44004, "text content is empty")
    return content
