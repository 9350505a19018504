"""Stands in for an instance agent: its journal is real, its answers are what a test wants."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from adapters.model import Text
from control_plane.kit.ids import new_id
from control_plane.serve import listen
from instance_agent.protocol import ANSWER_HEADER, PartOutcome, Problem, SendRequest, SendResult

Behaviour = Callable[[SendRequest], Awaitable[Response]]


class Cut(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class StandIn:
    """One agent. `calls` is what it was asked, `platform` what really left."""

    def __init__(self) -> None:
        self.journal_id = new_id()
        self.calls: list[SendRequest] = []
        self.platform: list[str] = []
        self.callbacks: list[bytes] = []
        self.callback_status = 200
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.url = ""
        self._script: deque[Behaviour] = deque()
        self._journal: dict[UUID, tuple[int, SendResult]] = {}

    def then(self, *behaviours: Behaviour) -> None:
        """What to do with the next new attempts, before answering as usual again."""
        self._script.extend(behaviours)

    def forget(self) -> None:
        """Lose the disk: an empty journal under another id."""
        self.journal_id = new_id()
        self._journal.clear()

    async def answer(self, request: SendRequest) -> Response:
        """Send, and say so."""
        return self._record(request, PartOutcome(outcome="sent", platform_message_id="p"))

    async def cut_before(self, _request: SendRequest) -> Response:
        """The connection is cut before anything was sent."""
        return Cut()

    async def cut_after(self, request: SendRequest) -> Response:
        """The connection is cut after the message was sent."""
        await self.answer(request)
        return Cut()

    async def hang(self, request: SendRequest) -> Response:
        """Say nothing until released."""
        await self.released.wait()
        return await self.answer(request)

    def fail(self, error_class: str, retry_after_s: float | None = None) -> Behaviour:
        """The platform says no."""
        return self._settle("failed", error_class, retry_after_s)

    def lose(self) -> Behaviour:
        """Nobody knows whether the platform took it."""
        return self._settle("unknown", None, None)

    def refuse(self, status: int, code: str) -> Behaviour:
        """The agent itself says no; nothing was done."""

        async def refuse(_request: SendRequest) -> Response:
            return _refusal(status, code)

        return refuse

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port until the end of the block."""
        routes = [
            Route("/astrbot-api/v1/message/send", self._send, methods=["POST"]),
            Route("/im/{channel_id:uuid}", self._callback, methods=["POST"]),
        ]
        listener = listen("127.0.0.1", 0)
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, access_log=False, lifespan="off"
        )
        server = _Server(config)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            self.released.set()
            server.should_exit = True
            await task
            listener.close()

    async def _send(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body(), type=SendRequest)
        self.calls.append(asked)
        self.asked.set()
        if asked.journal_id != self.journal_id:
            return _refusal(409, "journal_mismatch")
        known = self._journal.get(asked.message_id)
        if known is not None and asked.attempt <= known[0]:
            return Response(msgspec.json.encode(known[1]))
        return await (self._script.popleft() if self._script else self.answer)(asked)

    async def _callback(self, request: Request) -> Response:
        self.callbacks.append(await request.body())
        return Response(b"{}", headers={ANSWER_HEADER: str(self.callback_status)})

    def _settle(self, outcome: str, error_class: str | None, wait_s: float | None) -> Behaviour:
        async def settle(request: SendRequest) -> Response:
            part = PartOutcome(outcome=outcome, error_class=error_class, retry_after_s=wait_s)  # type: ignore[arg-type]
            return self._record(request, part)

        return settle

    def _record(self, request: SendRequest, *parts: PartOutcome) -> Response:
        if parts[-1].outcome == "sent":
            self.platform += [s.text for s in request.segments if isinstance(s, Text)]
        result = SendResult(parts=list(parts))
        self._journal[request.message_id] = (request.attempt, result)
        return Response(msgspec.json.encode(result))


def _refusal(status: int, code: str) -> Response:
    problem = Problem(title="Refused", status=status, code=code)
    return Response(msgspec.json.encode(problem), status)
