"""A stand-in of a tenant's own system: it posts what its people say, and takes what the bot says.

It signs and checks by Standard Webhooks, says again what was not taken, and knows a message that
comes twice by its id.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.simulators.platform import Line, Shown
from adapters.simulators.serving import serving

TOLERANCE_S = 300
# How long it remembers what it has taken.
KEPT_S = 86_400
TRIES = 3


@dataclass(kw_only=True)
class Faults:
    """What goes wrong next; a count goes down with each call that it hits."""

    rate_limit: int = 0
    busy: int = 0
    answer_500: int = 0
    drop_reply: int = 0
    """Messages that are shown and then answered by a cut connection."""
    gone: bool = False
    retry_after: str = "1"
    redirect: int = 0


class System:
    """One system, and the people who use it."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        deadline_s: float = 5.0,
        callback_url: str = "",
    ) -> None:
        self.key = secrets.token_bytes(32)
        self.former_key = b""
        """Still used to check what comes, until the other side has changed too."""
        self.callback_url = callback_url
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.seen: list[Shown] = []
        self.bodies: list[dict[str, Any]] = []
        self.repeats = 0
        self.refused: list[tuple[str, dict[str, Any]]] = []
        """What was not taken in the end: (id, body)."""
        self.reasons: list[str] = []
        self.url = ""
        self._clock = clock
        self._deadline_s = deadline_s
        self._taken: dict[str, tuple[float, str]] = {}
        # Conversations that have another id now.
        self.moved: dict[str, str] = {}
        self._files: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Condition()

    @property
    def secret(self) -> str:
        return "whsec_" + base64.b64encode(self.key).decode()

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": f"{self.url}/bot", "secret": self.secret}

    async def __aenter__(self) -> "System":
        # Certificates are read for https alone: reading them takes longer than most tests.
        plain = httpx2.AsyncHTTPTransport(verify=self.callback_url.startswith("https://"))
        self._http = httpx2.AsyncClient(transport=plain)
        self._serving = serving(self.app())
        self.url = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()
        await self._serving.__aexit__(None, None, None)

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/bot", self._bot, methods=["POST"]), Route("/files/{name}", self._file)]
        )

    def _strikes(self, name: str) -> bool:
        left = getattr(self.faults, name)
        setattr(self.faults, name, max(left - 1, 0))
        return bool(left)

    # --- what the bot says ---

    async def _bot(self, request: Request) -> Response:
        body = await request.body()
        if not self._is_signed(request, body):
            return Response("", 401)
        found = json.loads(body)
        self.calls[found["type"]] += 1
        if (refusal := self._refusal()) is not None:
            return refusal
        if found["type"] == "ping":
            return Response("", 204)
        if (place := self.moved.get(found["conversation"]["id"])) is not None:
            return JSONResponse({"moved_to": place}, 409)
        message_id = request.headers["webhook-id"]
        known = self._taken.get(message_id)
        if known is not None and self._clock() < known[0] + KEPT_S:
            self.repeats += 1
            return JSONResponse({"id": known[1]})
        shown = self._show(found)
        self._taken[message_id] = (self._clock(), shown)
        async with self._news:
            self._news.notify_all()
        if self._strikes("drop_reply"):
            return _CutResponse()
        return JSONResponse({"id": shown})

    def _refusal(self) -> Response | None:
        if self.faults.gone:
            return Response("", 410)
        if self._strikes("redirect"):
            return Response("", 308, {"location": "http://169.254.169.254/"})
        if self._strikes("answer_500"):
            return Response("", 500)
        if self._strikes("rate_limit"):
            return Response("", 429, {"retry-after": self.faults.retry_after})
        if self._strikes("busy"):
            return Response("", 503, {"retry-after": self.faults.retry_after})
        return None

    def _is_signed(self, request: Request, body: bytes) -> bool:
        message_id = request.headers.get("webhook-id", "")
        stamp = request.headers.get("webhook-timestamp", "")
        if "." in message_id or not stamp.isdigit():
            return False
        if abs(self._clock() - int(stamp)) > TOLERANCE_S:
            return False
        given = request.headers.get("webhook-signature", "").split(" ")
        return any(
            hmac.compare_digest(each, f"v1,{_signature(key, message_id, stamp, body)}")
            for key in (self.key, self.former_key)
            if key
            for each in given
        )

    def _show(self, found: dict[str, Any]) -> str:
        conversation = found["conversation"]
        in_group = conversation["type"] == "group"
        number = f"shown-{len(self.seen) + 1}"
        self.seen.append(
            Shown(
                user="" if in_group else conversation["id"],
                chat=conversation["id"] if in_group else "",
                text=found["text"],
                type=found["segments"][0]["type"],
                id=number,
                quotes=found["in_reply_to"] or "",
            )
        )
        self.bodies.append(found)
        return number

    # --- what people say ---

    async def bring(self, line: Line) -> bool:
        """Say it, up to three times until it is taken."""
        return await self.post(self.message(line))

    def message(self, line: Line) -> dict[str, Any]:
        segments: list[dict[str, Any]] = []
        if line.quotes:
            segments.append({"type": "reply", "message_id": line.quotes})
        for kind, body in (("image", line.picture), ("voice", line.voice), ("file", line.file)):
            if body:
                more = {"name": line.name} if line.name else {}
                segments.append({"type": kind, "url": self.keep(body), **more})
        group = {"type": "group", "id": line.chat}
        return {
            "type": "message.received",
            "id": line.id or f"said-{next(self._numbers)}",
            "conversation": group if line.chat else {"type": "direct", "id": line.user},
            "sender": {"id": line.user, "name": line.user},
            "at": self._clock(),
            "mentions_bot": line.mentions,
            "text": line.text,
            "segments": segments,
        }

    def keep(self, body: bytes) -> str:
        """The address of something that a person sent."""
        name = secrets.token_urlsafe(16)
        self._files[name] = body
        return f"{self.url}/files/{name}"

    async def _file(self, request: Request) -> Response:
        self.calls["media"] += 1
        body = self._files.get(request.path_params["name"])
        return Response("", 404) if body is None else Response(body)

    async def post(self, message: dict[str, Any]) -> bool:
        body = json.dumps(message).encode()
        for _ in range(TRIES):
            try:
                answer = await self._http.post(
                    self.callback_url,
                    content=body,
                    headers=self.headers(str(message.get("id", "ping")), body),
                    timeout=self._deadline_s,
                )
            except httpx2.HTTPError:
                continue
            if answer.is_success:
                return True
            self.reasons.append(answer.text)
        self.refused.append((str(message.get("id")), message))
        return False

    async def check_address(self) -> bool:
        """A ping: whether address and secret are right."""
        return await self.post({"type": "ping"})

    def headers(self, message_id: str, body: bytes) -> dict[str, str]:
        """What proves a body, made now."""
        stamp = str(int(self._clock()))
        return {
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{_signature(self.key, message_id, stamp, body)}",
            "content-type": "application/json",
        }

    async def say_again(self) -> None:
        """Post what was not taken, in its order."""
        waiting, self.refused = self.refused, []
        for _, message in waiting:
            await self.post(message)

    # --- for tests, and for people who play a customer ---

    @property
    def unacknowledged(self) -> int:
        return len(self.refused)

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        return [
            each
            for each in self.seen
            if not (user or chat) or (each.chat == chat if chat else each.user == user)
        ]

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    async def disconnect(self) -> None:
        """There is no connection to cut."""

    def expire_tokens(self) -> None:
        """There are none."""

    def limit(self, calls: int) -> None:
        self.faults.rate_limit = calls


def _signature(key: bytes, message_id: str, stamp: str, body: bytes) -> str:
    signed = f"{message_id}.{stamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class _CutResponse(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


PLATFORM = System
