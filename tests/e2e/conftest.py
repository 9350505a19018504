"""A real `botyard up` on a free port and an empty folder, and a visitor who never gives up.

Everything here speaks from outside: HTTP, sockets, signals and what lies in the data folder.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

# Longer than anything here takes on a machine with other work; waits end as soon as they can.
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.05


async def until(
    look: Callable[[], Awaitable[Any]], what: str, patience_s: float = PATIENCE_S
) -> Any:
    """The first true value of `look`."""
    deadline = time.monotonic() + patience_s
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"never saw: {what}")
        await asyncio.sleep(LOOK_EVERY_S)


def command_lines() -> dict[int, list[str]]:
    """What runs on this machine, zombies left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words != [b""]:
                found[int(folder.name)] = [word.decode(errors="replace") for word in words]
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Up:
    """One data folder, and the `botyard up` that runs on it now."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self._settings = settings
        # The same after a restart, as for anybody who types the command again.
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[httpx2.AsyncClient] = []

    async def start(self) -> None:
        """Start and wait until it can serve and the demo's bot runs."""
        command = [str(Path(sys.executable).with_name("botyard")), "up", "--port", str(self.port)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent)}
        environment |= self._settings
        if "BOTYARD_OTLP_URL" in os.environ:
            environment["BOTYARD_OTLP_URL"] = os.environ["BOTYARD_OTLP_URL"]
        output = (self.folder.parent / "output").open("wb")
        with output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [*command, "--data-dir", str(self.folder)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        await until(self._ready, "botyard up is ready")

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder.parent / "output").read_text()
        if "is up" not in self.output:
            return False
        async with httpx2.AsyncClient(trust_env=False) as http:
            try:
                answer = await http.get(f"{self.first_run['url']}/readyz")
            except httpx2.HTTPError:
                return False
        return answer.status_code == 200

    @property
    def output(self) -> str:
        return (self.folder.parent / "output").read_text()

    @property
    def first_run(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "first-run.json").read_text())
        return content

    def kill(self) -> None:
        """kill -9 of the control plane."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def agents(self) -> list[int]:
        """The agents that run on this folder's behalf."""
        return [
            pid
            for pid, words in command_lines().items()
            if "instance_agent" in words and any(str(self.folder) in word for word in words)
        ]

    def databases(self) -> list[int]:
        """The database servers on this folder: one, with its children left out."""
        pid_file = self.folder / "postgres" / "data" / "postmaster.pid"
        if not pid_file.exists():
            return []
        pid = int(pid_file.read_text().split()[0])
        return [pid] if pid in command_lines() else []

    def client(self) -> httpx2.AsyncClient:
        """Somebody with a browser; closed at the end of the test."""
        client = httpx2.AsyncClient(
            base_url=f"{self.first_run['url']}/api/v1", trust_env=False, timeout=20
        )
        self.clients.append(client)
        return client

    async def sign_in(self, who: str = "demo") -> httpx2.AsyncClient:
        """A client that is signed in as the demo's admin or the operator."""
        person = self.first_run[who]
        client = self.client()
        answer = await client.post(
            "/auth/login", json={"email": person["email"], "password": person["password"]}
        )
        answer.raise_for_status()
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    async def sign_in_again(self) -> httpx2.AsyncClient:
        """The same after the database was killed: the first who asks may hear 503, come again."""
        person = self.first_run["demo"]
        words = {"email": person["email"], "password": person["password"]}

        async def is_back() -> bool:
            async with self.client() as client:
                answer = await client.post("/auth/login", json=words)
            again = (answer.status_code, answer.json().get("code")) == (503, "database_unavailable")
            assert again or answer.status_code == 200, answer.text
            return not again

        await until(is_back, "somebody can sign in again")
        return await self.sign_in()


@dataclass
class Visitor:
    """Plays the page: keeps its secret and what it saw, repeats what was not acknowledged."""

    address: Callable[[], str]
    secret: str | None = None
    last_id: str | None = None
    shown: list[dict[str, Any]] = field(default_factory=list)
    unacknowledged: dict[str, str] = field(default_factory=dict)
    owner: str | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    socket: ClientConnection | None = None
    refused: list[dict[str, Any]] = field(default_factory=list)

    @property
    def answers(self) -> list[str]:
        """What the visitor was told, in order."""
        return [
            "".join(segment["text"] for segment in message["segments"])
            for message in self.shown
            if message["sender"]["kind"] != "visitor"
        ]

    async def say(self, client_id: str, text: str) -> None:
        self.unacknowledged[client_id] = text
        if self.socket is not None:
            with contextlib.suppress(websockets.ConnectionClosed):
                await self._write(self.socket, client_id, text)

    async def sees(self, what: Callable[["Visitor"], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait until the page shows it."""
        async with asyncio.timeout(patience_s):
            while not what(self):
                self.news.clear()
                await self.news.wait()

    async def lets_pass(self, moment_s: float) -> None:
        """Go on after a moment, or as soon as there is an answer to come between."""
        with contextlib.suppress(TimeoutError):
            await self.sees(lambda page: False, moment_s)

    async def live(self) -> None:
        """Connect, and connect again whenever the socket ends."""
        while True:
            try:
                async with connect(self.address(), open_timeout=5, proxy=None) as socket:
                    await self._talk(socket)
            except (OSError, websockets.WebSocketException, TimeoutError):
                await asyncio.sleep(LOOK_EVERY_S)
            finally:
                self.socket = None

    async def _talk(self, socket: ClientConnection) -> None:
        resume = {"type": "resume", "visitor": self.secret, "last_id": self.last_id}
        await socket.send(json.dumps(resume))
        async for raw in socket:
            frame = json.loads(raw)
            match frame["type"]:
                case "welcome":
                    self.secret = frame["visitor"]
                    for message in frame["messages"]:
                        self._show(message)
                    self.socket = socket
                    for client_id, text in list(self.unacknowledged.items()):
                        await self._write(socket, client_id, text)
                case "message":
                    self._show(frame)
                case "ack":
                    self.unacknowledged.pop(frame["id"], None)
                case "state":
                    self.owner = frame["owner"]
                case "error":
                    self.refused.append(frame)
            self.news.set()

    def _show(self, message: dict[str, Any]) -> None:
        # Kept as they come, repeats included: the promise is that there are none.
        self.shown.append(message)
        self.last_id = message["id"]

    @staticmethod
    async def _write(socket: ClientConnection, client_id: str, text: str) -> None:
        await socket.send(json.dumps({"type": "message", "id": client_id, "text": text}))


@pytest.fixture
def settings() -> dict[str, str]:
    """What the environment says to `botyard up` besides."""
    return {}


@pytest.fixture
async def up(tmp_path: Path, settings: dict[str, str]) -> AsyncIterator[Up]:
    async with started(tmp_path, settings) as running:
        yield running


@contextlib.asynccontextmanager
async def started(place: Path, settings: dict[str, str]) -> AsyncIterator[Up]:
    """A started `botyard up`; everything it leaves is ended."""
    running = Up(place / "data", settings)
    try:
        await running.start()
        yield running
    finally:
        for client in running.clients:
            await client.aclose()
        if running.process is not None and running.process.poll() is None:
            running.interrupt()
        for pid in [*running.agents(), *running.databases()]:
            os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def page_of(webchat_url: str | Callable[[], str]) -> AsyncIterator[Visitor]:
    """A visitor on a web chat's page, connected as long as the block runs."""

    def address() -> str:
        url = webchat_url if isinstance(webchat_url, str) else webchat_url()
        return url.replace("http", "ws", 1) + "/ws"

    page = Visitor(address)
    living = asyncio.create_task(page.live())
    try:
        yield page
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


@pytest.fixture
async def visitor(up: Up) -> AsyncIterator[Visitor]:
    """A visitor of the demo's web chat, connected as long as the test runs."""
    async with page_of(lambda: str(up.first_run["demo"]["webchat_url"])) as page:
        yield page


@pytest.fixture(name="until")
def _until() -> Any:
    return until


@pytest.fixture(name="page_of")
def _page_of() -> Any:
    return page_of


@pytest.fixture(name="free_port")
def _free_port() -> Any:
    return free_port
