"""The page on which one plays the customers of a stand-in: on loopback, for one's own browser."""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adapters.simulators.platform import Line, Platform

# A picture in base64, and some words.
MAX_BODY_BYTES = 16 * 1024 * 1024
# A browser hears that the line is open this often, and notices when it is not.
QUIET_S = 15.0
_HERE = Path(__file__).parent
_HEADERS = {
    # Whatever is said is shown as text; nothing from elsewhere runs or loads here.
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src data:; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


class Stage:
    """One platform and those who watch it."""

    def __init__(self, platform: Platform, *, kind: str, secret: str) -> None:
        """`secret` is in the page's address: only who was shown it may play."""
        self._platform = platform
        self._kind = kind
        self.secret = secret

    def app(self) -> Starlette:
        at = f"/{self.secret}"
        return Starlette(
            routes=[
                Route(f"{at}/", _file("stage.html")),
                Route(f"{at}/stage.js", _file("stage.js")),
                Route(f"{at}/stage.css", _file("stage.css")),
                Route(f"{at}/events", self._events),
                Route(f"{at}/say", self._say, methods=["POST"]),
                Route(f"{at}/do", self._do, methods=["POST"]),
            ]
        )

    async def _say(self, request: Request) -> Response:
        order = await _order(request)
        if order is None:
            return JSONResponse({"error": "this cannot be read"}, 400)
        try:
            picture = base64.b64decode(str(order.get("picture", "")), validate=True)
        except (binascii.Error, ValueError):
            return JSONResponse({"error": "the picture cannot be read"}, 400)
        line = Line(
            user=str(order.get("user") or "zhangsan"),
            text=str(order.get("text", "")),
            chat=str(order.get("chat", "")),
            mentions=bool(order.get("mentions", True)),
            quotes=str(order.get("quotes", "")),
            picture=picture,
        )
        done = await self._platform.bring(line)
        return JSONResponse({"acknowledged": done})

    async def _do(self, request: Request) -> Response:
        match await _order(request):
            case {"what": "disconnect"}:
                await self._platform.disconnect()
            case {"what": "expire_tokens"}:
                self._platform.expire_tokens()
            case {"what": "limit"}:
                self._platform.limit(3)
            case _:
                return JSONResponse({"error": "nobody knows how to do that"}, 400)
        return JSONResponse({"done": True})

    async def _events(self, _: Request) -> Response:
        media_type = "text/event-stream"
        return StreamingResponse(self._frames(), media_type=media_type, headers=_HEADERS)

    async def _frames(self) -> AsyncIterator[str]:
        """Everything that was shown so far, then each new message as it is shown."""
        count = 0
        head = {"kind": self._kind, "unacknowledged": self._platform.unacknowledged}
        yield f"event: stage\ndata: {json.dumps(head)}\n\n"
        while True:
            for each in self._platform.shown()[count:]:
                count += 1
                yield f"event: shown\ndata: {json.dumps(asdict(each))}\n\n"
            try:
                await self._platform.until_shown(count + 1, patience_s=QUIET_S)
            except TimeoutError:
                yield ": still here\n\n"


def _file(name: str) -> Any:
    async def send(_: Request) -> Response:
        return FileResponse(_HERE / name, headers=_HEADERS)

    return send


async def _order(request: Request) -> dict[str, Any] | None:
    """The body; JSON alone, which no other site's page can send here unasked."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return order if isinstance(order, dict) else None
