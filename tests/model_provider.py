"""Stands in for who runs models: OpenAI's and Dify's protocols over a real socket.

It answers as told (`then`), else well, keeps what it was asked, and knows Dify's conversations.
Voices come as multipart forms, which a parser reads that is none of ours: that of mail.
"""

import asyncio
import email
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from control_plane.serve import listen

KEY = "sk-the-key-that-nobody-is-to-see"
"""What the provider knows its customer by."""

Behaviour = Callable[["Asked"], Awaitable[Response]]


@dataclass
class Asked:
    """One question as it came."""

    kind: str
    body: dict[str, Any]
    headers: dict[str, str]
    file: tuple[str, bytes] = ("", b"")
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The caller has gone before the answer's end."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Cut(Response):
    """A stream that ends in the middle of the connection."""

    def __init__(self, *events: str) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in self._events:
            body = event.encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})


class ModelProvider:
    """`answer` is what models say; each word of it is an event."""

    def __init__(self) -> None:
        self.answer = "我们 九点 开门。"
        self.heard = "你们几点开门"
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()
        self.conversations: set[str] = set()
        self.active: dict[str, int] = {}
        self.most_at_once = 0
        self.port = 0
        self._script: deque[Behaviour] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *behaviours: Behaviour) -> None:
        """What to do with the next questions, before answering well again."""
        self._script.extend(behaviours)

    # --- behaviours ---

    def error(self, status: int, code: str = "", **headers: str) -> Behaviour:
        """No: in the form of the kind that was asked."""

        async def say_no(asked: Asked) -> Response:
            said = {"code": code, "message": f"{code} for key {KEY}"}
            body = said if asked.kind == "dify" else {"error": said}
            return JSONResponse(body, status, headers)

        return say_no

    async def hang(self, asked: Asked) -> Response:
        """Say nothing until released, then answer well."""
        await self.released.wait()
        return await self.well(asked)

    async def cut(self, asked: Asked) -> Response:
        """Begin, and break off."""
        return Cut(*_events(asked.kind, self.answer, "c")[:2])

    async def garbage(self, _asked: Asked) -> Response:
        """Something that is no protocol."""
        return StreamingResponse(iter(["data: {]\n\n"]), media_type="text/event-stream")

    async def silence(self, asked: Asked) -> Response:
        """The head and then nothing, for as long as the caller stays."""

        async def nothing() -> AsyncIterator[str]:
            try:
                await self.released.wait()
                yield ""
            finally:
                asked.left.set()

        return StreamingResponse(nothing(), media_type="text/event-stream")

    async def endless(self, asked: Asked) -> Response:
        """An answer that never stops."""

        async def words() -> AsyncIterator[str]:
            try:
                while True:
                    yield _events(asked.kind, "x" * 1000, "c")[1]
                    await asyncio.sleep(0)
            finally:
                asked.left.set()

        return StreamingResponse(words(), media_type="text/event-stream")

    async def stays_open(self, asked: Asked) -> Response:
        """A whole answer, behind which the connection is not closed."""

        async def events() -> AsyncIterator[str]:
            try:
                for event in self._good(asked):
                    yield event
                await self.released.wait()
            finally:
                asked.left.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def well(self, asked: Asked) -> Response:
        """The answer."""
        if asked.kind == "speech":
            return JSONResponse(self._heard(asked.body["response_format"]))
        return StreamingResponse(iter(self._good(asked)), media_type="text/event-stream")

    def _heard(self, form: str) -> dict[str, Any]:
        whole = {
            "task": "transcribe",
            "language": "chinese",
            "duration": 3.25,
            "text": self.heard,
            "segments": [{"id": 0, "text": self.heard, "avg_logprob": -0.1, "tokens": [1, 2]}],
        }
        return whole if form == "verbose_json" else {"text": self.heard}

    def _good(self, asked: Asked) -> list[str]:
        conversation = asked.body.get("conversation_id") or str(uuid4())
        self.conversations.add(conversation)
        return _events(asked.kind, self.answer, conversation)

    # --- the server ---

    async def _chat(self, request: Request) -> Response:
        kind = "openai" if request.url.path.endswith("/completions") else "dify"
        asked = Asked(kind, await request.json(), dict(request.headers))
        self.asked.append(asked)
        self.arrived.set()
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return await self.error(401, "invalid_api_key")(asked)
        known = asked.body.get("conversation_id", "")
        if known and known not in self.conversations:
            return await self.error(404, "not_found conversation not exists")(asked)
        user = str(asked.body.get("user"))
        self.active[user] = self.active.get(user, 0) + 1
        self.most_at_once = max(self.most_at_once, self.active[user])
        try:
            return await (self._script.popleft() if self._script else self.well)(asked)
        finally:
            self.active[user] -= 1

    async def _audio(self, request: Request) -> Response:
        form = await request.body()
        head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
        fields: dict[str, Any] = {}
        file = ("", b"")
        for part in email.message_from_bytes(head + form).get_payload():
            content = part.get_payload(decode=True)
            if part.get_filename() is None:
                fields[part.get_param("name", header="content-disposition")] = content.decode()
            else:
                file = (part.get_filename(), content)
        asked = Asked("speech", fields, dict(request.headers), file)
        self.asked.append(asked)
        self.arrived.set()
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return await self.error(401, "invalid_api_key")(asked)
        return await (self._script.popleft() if self._script else self.well)(asked)

    async def _about(self, request: Request) -> Response:
        good = request.headers.get("authorization") == f"Bearer {KEY}"
        return JSONResponse({"data": []}, 200 if good else 401)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port until the end of the block."""
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/chat-messages", self._chat, methods=["POST"]),
            Route("/v1/audio/transcriptions", self._audio, methods=["POST"]),
            Route("/v1/models", self._about),
            Route("/v1/parameters", self._about),
        ]
        listener = listen("127.0.0.1", 0)
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        self.port = listener.getsockname()[1]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            self.released.set()
            server.should_exit = True
            await task
            listener.close()


def _events(kind: str, answer: str, conversation: str) -> list[str]:
    """A whole answer as the protocol has it."""
    words = answer.split(" ")
    if kind == "openai":
        deltas: list[Any] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in words]
        chunks = [
            {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": d}]}
            for d in deltas
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 21, "completion_tokens": len(words), "total_tokens": 99}
        chunks.append({"choices": [], "usage": usage})
        return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
    common = {"conversation_id": conversation, "message_id": "m", "task_id": "t"}
    said: list[Any] = [{"event": "message", "answer": word} for word in words]
    usage = {"prompt_tokens": 33, "completion_tokens": len(words)}
    said.append({"event": "message_end", "metadata": {"usage": usage}})
    return ["event: ping\n\n"] + [f"data: {json.dumps(one | common)}\n\n" for one in said]


@asynccontextmanager
async def providing() -> AsyncIterator[ModelProvider]:
    """A provider that is there."""
    provider = ModelProvider()
    async with provider.running():
        yield provider
