"""The process around an agent: its folder, its socket, its signals and its exit code."""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

import httpx2
import structlog
import uvicorn

from adapters.outbound import Door
from instance_agent import session
from instance_agent.agent import Agent
from instance_agent.app import create_app
from instance_agent.client import new_client, platform_client
from instance_agent.document import SCHEMA_VERSION
from instance_agent.platform_socket import MAX_FRAME_BYTES
from instance_agent.protocol import PROTOCOL_VERSION, Bootstrap, BootstrapRequest
from instance_agent.settings import Settings
from instance_agent.store import Store

if TYPE_CHECKING:
    from instance_agent.tls import Identity

EXIT_STOPPED = 0
EXIT_FAILED = 1
EXIT_DATA_DIR_IN_USE = 3
EXIT_IDENTITY_REFUSED = 4

# Answers under way when the server closes; the agent's own draining came before.
CLOSE_S = 2
# A connection that nobody uses; callers drop theirs after 5 s, so that none ends under a call.
KEEP_ALIVE_S = 15

log = structlog.get_logger()


class DataDirInUse(Exception):
    """Another agent lives in this folder."""


def main(settings: Settings) -> int:
    """Run an agent until it is told to stop; returns the exit code."""
    os.umask(0o077)  # the folder holds secrets and customers' words
    try:
        with locked(settings.data_dir):
            token = _take_token(settings.bootstrap_file)
            return asyncio.run(run(settings, token))
    except DataDirInUse:
        log.error("data directory in use by another agent", data_dir=str(settings.data_dir))
        return EXIT_DATA_DIR_IN_USE
    except session.IdentityRefused as refused:
        log.error("identity refused", reason=str(refused))
        return EXIT_IDENTITY_REFUSED
    except OSError as error:
        log.error("could not start", reason=str(error))
        return EXIT_FAILED


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder private and ours; raises DataDirInUse."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # The lock ends with the process, however it ends.
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirInUse from None
        yield


async def run(settings: Settings, token: str) -> int:
    """Serve, get an identity, run, drain."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = listen(settings.listen_host, settings.listen_port)
    tls = _tls(settings)
    random: Random = SystemRandom()
    store = Store(settings.data_dir / "agent.db")
    door = Door(settings.outbound_allow)
    try:
        async with new_client() as http, platform_client(door) as platforms:
            agent = Agent(
                instance_id=settings.instance_id,
                control_url=settings.control_url,
                data_dir=settings.data_dir,
                store=store,
                http=http,
                platforms=platforms,
                clock=time.time,
                random=random,
                door=door,
                window_s=settings.health_window_s,
            )
            async with _served(agent, listener, tls, most=settings.max_connections):
                life = _live(agent, settings, token, listener, tls, http, random)
                code = await _until(stop, life)
                log.info("draining")
                await agent.drain()
    finally:
        door.close()
        await store.close()
    log.info("stopped", code=code)
    return code


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything else: who is told our address can already reach it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, each
    # answer in two writes would wait 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)
    return listener


async def _live(
    agent: Agent,
    settings: Settings,
    token: str,
    listener: socket.socket,
    tls: "Identity | None",
    http: httpx2.AsyncClient,
    random: Random,
) -> None:
    identity = await _identity(agent, settings, token, listener, tls, http, random)
    if tls is not None and identity.certificate:
        tls.take(identity.certificate)
    log.info("identity taken", session_id=str(identity.session_id))
    await agent.run(identity)


async def _identity(
    agent: Agent,
    settings: Settings,
    token: str,
    listener: socket.socket,
    tls: "Identity | None",
    http: httpx2.AsyncClient,
    random: Random,
) -> Bootstrap:
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    request = BootstrapRequest(
        protocol=PROTOCOL_VERSION,
        schema_version=SCHEMA_VERSION,
        version=agent.version,
        endpoint=f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}",
        journal_id=agent.journal.id,
        generation=settings.generation,
        public_key="" if tls is None else tls.public_key,
    )
    url = f"{settings.control_url}/api/v1/instances/{settings.instance_id}/bootstrap"
    return await session.bootstrap(http, url, token, request, random=random)


async def _until(stop: asyncio.Event, life: Awaitable[None]) -> int:
    """Await `life`, but only until told to stop; a loop that fails ends the agent in order."""
    living = asyncio.ensure_future(life)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not living.done():
        living.cancel()
        await asyncio.wait({living})
    error = None if living.cancelled() else living.exception()
    if error is None:
        return EXIT_STOPPED
    if isinstance(error, session.IdentityRefused):
        raise error
    log.critical("the agent failed", exc_info=error)
    return EXIT_FAILED


@contextlib.asynccontextmanager
async def _served(
    agent: Agent, listener: socket.socket, tls: "Identity | None", *, most: int
) -> AsyncIterator[None]:
    config = uvicorn.Config(
        create_app(agent),
        http="httptools",
        ws=_socket_protocol,  # type: ignore[arg-type]
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=most,
        timeout_graceful_shutdown=CLOSE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    if tls is not None:
        config.load()
        config.ssl = tls.context
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _socket_protocol(**given: Any) -> asyncio.Protocol:
    """Loaded with the first socket: an agent whose platforms open none does without."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the agent's: it drains first, then ends the server."""
        yield


def _tls(settings: Settings) -> "Identity | None":
    """None on loopback, where nobody listens in, unless it is asked for."""
    if ipaddress.ip_address(settings.listen_host).is_loopback and not settings.always_tls:
        return None
    # A few megabytes that agents on loopback do without.
    from instance_agent.tls import Identity

    return Identity(settings.data_dir)


def _take_token(file: Path) -> str:
    token = file.read_text().strip()
    try:
        file.unlink()
    except OSError as error:
        # A node's own volume: it renews the token and takes it back by itself.
        if error.errno != errno.EROFS:
            raise
    return token
