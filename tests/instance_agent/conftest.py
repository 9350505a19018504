"""A stand-in control plane on a real socket, and real agent processes that talk to it."""

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters import standard_webhooks
from instance_agent.document import DocumentError, digest
from instance_agent.protocol import (
    CALLBACK_HEADER,
    BlacklistPage,
    Bootstrap,
    BootstrapRequest,
    CallbackMeta,
    ConfigUpdate,
    Event,
    EventBatch,
    EventResult,
    EventResults,
    Revision,
    SendRequest,
)

ROOT = Path(__file__).parents[2]
# How long a test waits for something that must happen; reaching it is a failure.
PATIENCE_S = 15.0
API_TOKEN = "api-token-of-the-instance"
WEBHOOK_SECRET = standard_webhooks.make_secret(b"w" * 32)
CHANNEL_SECRET = "a-channel-secret-of-at-least-32-characters"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


class ControlPlane:
    """Checks what a real one checks, and can be told to misbehave."""

    def __init__(self) -> None:
        self.port = 0
        self.tokens: set[str] = set()
        self.newest: Revision | None = None
        self.last_good: Revision | None = None
        self.webhook_secrets = [WEBHOOK_SECRET]
        self.refused: list[DocumentError] = []
        self.heartbeat_s = 60.0
        self.bootstraps: list[BootstrapRequest] = []
        self.bootstrap_answers: list[Response] = []
        self.events: list[Event] = []
        self.batches: list[list[Event]] = []
        self.blacklist = BlacklistPage(version=0, entries=[])
        self.blacklist_away = False
        self.event_status = 202
        self.refused_posts = 0
        self.rejects: Callable[[Event], bool] = lambda _: False
        # Platform: what visitors see, by idempotency key, and how often each key was posted.
        self.secrets = {CHANNEL_SECRET}
        self.account_calls: list[str] = []
        self.messages: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.answer_messages = asyncio.Event()
        self.answer_messages.set()
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        app = Starlette(
            routes=[
                Route("/api/v1/instances/{id}/bootstrap", self._bootstrap, methods=["POST"]),
                Route("/api/v1/instances/{id}/events", self._events, methods=["POST"]),
                Route("/api/v1/instances/{id}/blacklist", self._blacklist, methods=["POST"]),
                Route("/webchat-platform/account", self._account),
                Route("/webchat-platform/messages", self._messages, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        self.answer_messages.set()
        self._server.should_exit = True
        await self._serving
        # One that was accepted while the others were closed would go on being served.
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(true)

    def of_type(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.type == kind]

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _bootstrap(self, request: Request) -> Response:
        if self.bootstrap_answers:
            return self.bootstrap_answers.pop(0)
        token = request.headers["authorization"].removeprefix("Bearer ")
        if token not in self.tokens:
            return JSONResponse({"code": "unauthorized"}, 401)
        self.tokens.remove(token)
        self.bootstraps.append(msgspec.json.decode(await request.body(), type=BootstrapRequest))
        await self._note()
        answer = Bootstrap(
            session_id=uuid4(),
            session_token="session",
            api_token=API_TOKEN,
            webhook_secrets=[WEBHOOK_SECRET],
            heartbeat_s=self.heartbeat_s,
            newest=self.newest,
            last_good=self.last_good,
            refused=self.refused,
        )
        return Response(msgspec.json.encode(answer))

    async def _events(self, request: Request) -> Response:
        body = await request.body()
        try:
            standard_webhooks.verify(self.webhook_secrets, request.headers, body, now=time.time())
        except standard_webhooks.SignatureError:
            return JSONResponse({"code": "unauthorized"}, 401)
        if self.event_status != 202:
            self.refused_posts += 1
            await self._note()
            return JSONResponse({}, self.event_status)
        batch = msgspec.json.decode(body, type=EventBatch)
        self.batches.append(batch.events)
        results = [self._take(event) for event in batch.events]
        await self._note()
        return Response(msgspec.json.encode(EventResults(results=results)), 202)

    def _take(self, event: Event) -> EventResult:
        if self.rejects(event):
            return EventResult(id=event.id, status="rejected", code="unwanted")
        if any(known.id == event.id for known in self.events):
            return EventResult(id=event.id, status="duplicate")
        self.events.append(event)
        return EventResult(id=event.id, status="stored")

    async def _blacklist(self, request: Request) -> Response:
        body = await request.body()
        standard_webhooks.verify(self.webhook_secrets, request.headers, body, now=time.time())
        return Response(msgspec.json.encode(self.blacklist), 503 if self.blacklist_away else 200)

    async def _account(self, request: Request) -> Response:
        secret = request.headers["authorization"].removeprefix("Bearer ")
        self.account_calls.append(secret)
        await self._note()
        return JSONResponse({}, 200 if secret in self.secrets else 401)

    async def _messages(self, request: Request) -> Response:
        if request.headers["authorization"].removeprefix("Bearer ") not in self.secrets:
            return JSONResponse({}, 401)
        message = await request.json()
        self.posts.append(message["key"])
        self.messages.setdefault(message["key"], message)
        await self._note()
        await self.answer_messages.wait()
        return JSONResponse({"id": f"p-{message['key']}"})


@dataclass
class AgentProcess:
    """A real `python -m instance_agent`."""

    control_plane: ControlPlane
    data_dir: Path
    instance_id: UUID
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: bytes = b""

    @property
    def url(self) -> str:
        return self.control_plane.bootstraps[-1].endpoint

    @property
    def journal_id(self) -> UUID:
        return self.control_plane.bootstraps[-1].journal_id

    async def call(self, method: str, path: str, **how: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {API_TOKEN}", **how.pop("headers", {})}
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
            return await http.request(method, self.url + path, headers=headers, **how)

    async def update(self, update: Revision) -> dict[str, Any]:
        body = ConfigUpdate(revision=update.number, sha256=update.sha256, document=update.document)
        answer = await self.call(
            "POST", "/astrbot-api/v1/config/update", content=msgspec.json.encode(body)
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, channel_id: UUID, text: str = "您好", **changes: Any) -> httpx2.Response:
        request: dict[str, Any] = {
            "message_id": uuid4(),
            "channel_id": channel_id,
            "epoch": 1,
            "journal_id": self.journal_id,
            "conversation": {"type": "direct", "id": "visitor-1"},
            "reply_handle": {},
            "segments": [{"type": "text", "text": text}],
        }
        body = msgspec.json.encode(
            msgspec.convert({**request, **changes}, SendRequest, strict=False)
        )
        return await self.call("POST", "/astrbot-api/v1/message/send", content=body)

    async def callback(
        self, channel_id: UUID, body: bytes, *, verified: bool = True, **headers: str
    ) -> httpx2.Response:
        meta = CallbackMeta(
            method="POST",
            path="/",
            query="",
            headers=headers,
            received_at=time.time(),
            verified=verified,
        )
        encoded = base64.urlsafe_b64encode(msgspec.json.encode(meta)).decode()
        return await self.call(
            "POST", f"/im/{channel_id}", content=body, headers={CALLBACK_HEADER: encoded}
        )

    async def health(self) -> dict[str, Any]:
        return (await self.call("GET", "/astrbot-api/v1/health")).json()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            output, errors = await self.process.communicate()
        self.lines += [msgspec.json.decode(line) for line in output.splitlines()]
        self.errors += errors
        return self.process.returncode


class Agents:
    """Starts agents of one instance on one data directory after another."""

    def __init__(self, control_plane: ControlPlane, tmp_path: Path) -> None:
        self.control_plane = control_plane
        self.data_dir = tmp_path / "agent"
        self.bootstrap_file = tmp_path / "bootstrap"
        self.instance_id = uuid4()
        self.health_window_s = 0.2
        self._started: list[AgentProcess] = []

    async def spawn(
        self, *, token: str | None = None, program: tuple[str, ...] = ("-m", "instance_agent")
    ) -> AgentProcess:
        """Start a process without waiting for anything."""
        if token is None:
            token = f"token-{uuid4()}"
            self.control_plane.tokens.add(token)
        self.bootstrap_file.write_text(token)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program),
            *("--instance-id", str(self.instance_id), "--generation", "7"),
            *("--control-url", self.control_plane.url),
            *("--data-dir", str(self.data_dir)),
            *("--bootstrap-file", str(self.bootstrap_file)),
            *("--health-window", str(self.health_window_s)),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        agent = AgentProcess(self.control_plane, self.data_dir, self.instance_id, process)
        self._started.append(agent)
        return agent

    async def start(self, **how: Any) -> AgentProcess:
        """Start a process and wait until the control plane knows what it runs."""
        known = len(self.control_plane.bootstraps)
        configured = len(self._configured())
        agent = await self.spawn(**how)
        await self.control_plane.until(lambda: len(self.control_plane.bootstraps) > known)
        if self.control_plane.newest is not None:
            await self.control_plane.until(lambda: len(self._configured()) > configured)
        return agent

    async def close(self) -> None:
        for agent in self._started:
            if agent.process.returncode is None:
                agent.kill()
                await agent.wait()

    def _configured(self) -> list[Event]:
        return [event for event in self.control_plane.events if event.type.startswith("config.")]


@pytest.fixture
async def control_plane():
    stand_in = ControlPlane()
    await stand_in.start()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def agents(control_plane, tmp_path):
    fleet = Agents(control_plane, tmp_path)
    yield fleet
    await fleet.close()


@pytest.fixture
def revision() -> Callable[..., Revision]:
    """Make a revision: `revision(3, {channel_id: settings}, limits={...})`."""

    def make(number: int, web: dict[UUID, dict[str, Any]] | None = None, **sections: Any):
        channels = [
            {"id": str(key), "kind": "webchat", "name": "web", "settings": settings}
            for key, settings in (web or {}).items()
        ]
        document = {"channels": channels, **sections}
        return Revision(number=number, sha256=digest(document), document=document)

    return make


@pytest.fixture
def web() -> dict[str, Any]:
    """Settings of a web-chat channel that the stand-in platform knows."""
    return {"secret": CHANNEL_SECRET}
