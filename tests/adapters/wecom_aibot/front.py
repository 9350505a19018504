"""The way in for callbacks as the control plane keeps it: pass on, or verify and keep."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.base import NotAccepted
from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected
from adapters.simulators.serving import serving
from adapters.wecom_aibot.adapter import Adapter
from adapters.wecom_aibot.callback import verify
from adapters.wecom_aibot.settings import Settings


class Front:
    """`adapter` None: the agent is away."""

    def __init__(self, settings: Settings, adapter: Adapter | None) -> None:
        self.settings = settings
        self.adapter = adapter
        self.kept: list[RawCallback] = []

    async def take(self, request: RawCallback) -> CallbackAnswer:
        if self.adapter is not None and not self.kept:
            try:
                return await self.adapter.callback(request, verified=False)
            except NotAccepted:
                pass
        found = verify(request, self.settings, now=time.time())
        if isinstance(found, Rejected):
            return CallbackAnswer(status=403)
        if not isinstance(found, Challenge):
            self.kept.append(request)
        return found.answer

    async def pass_on(self) -> None:
        """What was kept, in order; raises NotAccepted."""
        while self.kept:
            await self.adapter.callback(self.kept[0], verified=True)
            del self.kept[0]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        async def handle(request: Request) -> Response:
            raw = RawCallback(
                method=request.method,
                path="/",
                query=request.url.query,
                headers=dict(request.headers.items()),
                body=await request.body(),
                received_at=time.time(),
            )
            answer = await self.take(raw)
            return Response(answer.body, answer.status, media_type=answer.content_type)

        app = Starlette(routes=[Route("/im", handle, methods=["GET", "POST"])])
        async with serving(app) as url:
            yield f"{url}/im"
