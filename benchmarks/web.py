"""What the dashboard costs those who look at it: downloads, frames, a message's way to the screen.

A real `botyard up`, Debian's Chromium, and 199 more sockets of members. Beside the way to the
screen stands a server that tells as many sockets without keeping anything, and a page that shows
what it is told, in the same browser.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.ground import PATIENCE_S, ROOT, figure, free_port
from control_plane.serve import listen

NAMES = ("web_inbox_gzip", "web_widget_gzip", "web_scroll_p95", "web_commit_to_rendered")
# With the browser's own there are 200.
SOCKETS = 199
# A frame that takes longer is seen as a jerk: two of a screen with sixty a second.
FRAME_MS = 32.0
# The whole walk of the browser, on a busy machine.
WALK_WITHIN_S = 600.0

_WEB = ROOT / "web-admin"
_HAS_PAGES = (_WEB / "dist/app/index.html").exists()
_HAS_BROWSER = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists()
_SIZE = re.compile(r"(\w+): (\d+) of (\d+) bytes")
_PAGE = """<!doctype html><meta charset="utf-8"><title>bare</title><main></main><script>
const socket = new WebSocket(location.href.replace('http', 'ws') + 'ws')
socket.onopen = () => { document.body.dataset.ready = '' }
socket.onmessage = ({ data }) => {
  const line = document.createElement('p')
  line.textContent = data
  document.querySelector('main').append(line)
}
</script>"""


async def figures() -> dict[str, dict[str, object]]:
    """Sizes beside their budgets; frames beside 32 ms; the way to the screen beside a bare one."""
    if not _HAS_PAGES:
        print("The pages are not built (make web), so nothing of them is measured.")
        return {}
    sizes = await _sizes()
    if not _HAS_BROWSER:
        print("No browser (apt-get install -y chromium), so only sizes are measured.")
        return sizes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * SOCKETS)), hard))
    return sizes | await _seen()


async def _sizes() -> dict[str, dict[str, object]]:
    said = await _output("node", "scripts/budget.mjs")
    found = {what: (int(size), int(most)) for what, size, most in _SIZE.findall(said)}
    return {
        f"web_{what}_gzip": figure(
            [found[what][0] / 1_000],
            [found[what][1] / 1_000],
            unit="kB",
            peer="its budget",
            goal="<=1",
        )
        for what in ("inbox", "widget")
    }


async def _seen() -> dict[str, dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="botyard-bench-") as made:
        data = Path(made) / "data"
        async with _up(data) as first_run, _bare() as bare:
            url = first_run["url"]
            async with _members(first_run), _listeners(bare, _hears):
                said = await _output(
                    "node", "scripts/figures.mjs", url, str(data / "first-run.json"), bare
                )
    found = json.loads(said.splitlines()[-1])
    rendered, scroll = found["rendered"], found["scroll"]
    peer = "a page told by a bare broadcast to as many"
    return {
        "web_scroll_p95": figure(
            scroll, [FRAME_MS] * len(scroll), unit="ms", peer="two frames", goal="<=1"
        ),
        "web_commit_to_rendered": figure(
            rendered["ours"], rendered["bare"], unit="ms", peer=peer, goal="<=8"
        ),
    }


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=_WEB, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(WALK_WITHIN_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return said.decode()


@contextlib.asynccontextmanager
async def _up(data: Path) -> AsyncIterator[dict[str, Any]]:
    """A first start, and who may sign in."""
    program = str(Path(sys.executable).with_name("botyard"))
    settings = {"BOTYARD_SOCKETS__PER_MEMBER": str(2 * SOCKETS)}
    process = await asyncio.create_subprocess_exec(
        *(program, "up", "--port", str(free_port()), "--data-dir", str(data)),
        env={"PATH": os.environ["PATH"], "HOME": str(data.parent)} | settings,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stdout:
                if b"Ctrl-C stops everything." in line:
                    break
        yield json.loads((data / "first-run.json").read_text())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.communicate()


# --- whoever else listens ---


@contextlib.asynccontextmanager
async def _members(first_run: dict[str, Any]) -> AsyncIterator[None]:
    """Sockets of the demo's admin, each told all that happens."""
    person = {key: first_run["demo"][key] for key in ("email", "password")}
    async with httpx2.AsyncClient(base_url=first_run["url"], trust_env=False) as http:
        answer = await http.post("/api/v1/auth/login", json=person)
    token = answer.raise_for_status().json()["access_token"]

    async def hears(socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "auth", "token": token, "resume": None}))
        await _hears(socket)

    async with _listeners(f"{first_run['url']}/api/v1/", hears):
        yield


async def _hears(socket: ClientConnection) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for _ in socket:
            pass


@contextlib.asynccontextmanager
async def _listeners(
    url: str, hear: Callable[[ClientConnection], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """All of them connected to `ws` below an address, for the length of the block."""
    address = url.replace("http", "ws", 1) + "ws"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SOCKETS):
            socket = await stack.enter_async_context(connect(address, proxy=None))
            hearing = asyncio.create_task(hear(socket))
            stack.callback(hearing.cancel)
        yield


# --- the bare server ---


@contextlib.asynccontextmanager
async def _bare() -> AsyncIterator[str]:
    """Its address: `ws` to listen, `tell` to tell everybody and hear when that began."""
    sockets: set[WebSocket] = set()

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE)

    async def tell(request: Request) -> Response:
        text = (await request.body()).decode()
        began = time.time() * 1_000
        for socket in list(sockets):
            await socket.send_text(text)
        return PlainTextResponse(str(began))

    async def hear(socket: WebSocket) -> None:
        await socket.accept()
        sockets.add(socket)
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        sockets.discard(socket)

    routes = [Route("/", page), Route("/tell", tell, methods=["POST"]), WebSocketRoute("/ws", hear)]
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        Starlette(routes=routes), log_config=None, access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        server.force_exit = True
        await serving
        listener.close()
