"""Serves HTTP and runs background parts in one process until it is told to stop."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Iterator, Sequence

import structlog
import uvicorn

from control_plane.kit.gathered import GatheringProtocol
from control_plane.parts import Stoppable, run_until
from control_plane.realtime.wire import SocketProtocol
from control_plane.webchat.frames import MAX_FRAME_BYTES
from control_plane.webchat.sockets import Sockets

# How long open requests may still take once the process stops.
_CLOSE_WITHIN_S = 5
# A connection that nobody uses; agents drop theirs after 5 s, so that none ends under a call.
_KEEP_ALIVE_S = 15
# Connections that wait in the kernel while the loop is busy.
_BACKLOG = 1024
# New objects between looks for cycles; Python's own 700 suits programs that hold little.
_GC_YOUNG = 20_000


log = structlog.get_logger()


class PortTaken(Exception):
    """Somebody else listens there."""


class _Server(uvicorn.Server):
    """Leaves the signals to us: we stop more than HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """An HTTP server as a part; stops taking requests first, so that others may finish."""

    name = "http"

    def __init__(
        self,
        app: object,
        listener: socket.socket,
        sockets: Sockets | None = None,
        *,
        trusted_proxies: str = "",
    ) -> None:
        self._listener = listener
        self._sockets = sockets
        self._server = _Server(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                lifespan="off",
                http=GatheringProtocol,
                ws=SocketProtocol,
                ws_max_size=MAX_FRAME_BYTES,
                # Small frames: compression would cost 30 KiB a socket and save little.
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=_CLOSE_WITHIN_S,
                timeout_keep_alive=_KEEP_ALIVE_S,
                server_header=False,
                forwarded_allow_ips=trusted_proxies,
            )
        )

    @property
    def started(self) -> bool:
        return self._server.started

    async def run(self) -> None:
        _collect_seldom()
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        if self._sockets is not None:
            self._sockets.stop()
        self._server.should_exit = True


def _collect_seldom() -> None:
    """What was imported stays: looking through it again and again is a sixth of the work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_YOUNG)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on and small answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(f"{host}:{port} cannot be listened on: {error.strerror}") from None
    listener.listen(_BACKLOG)
    return listener


def stop_on_signals(*asked: asyncio.Event) -> None:
    """Ctrl-C and a supervisor's SIGTERM ask for a clean end: then all of these are set."""

    def ask() -> None:
        for event in asked:
            event.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ask)


async def run(
    groups: Sequence[Sequence[Stoppable]], draining: asyncio.Event, *, notice_s: float = 0.0
) -> None:
    """Run parts until a signal comes; stop `notice_s` after having said that we are not ready.

    In that time whoever spreads requests over several processes finds another one.
    """
    stopping = asyncio.Event()
    stop_on_signals(draining)
    notice = asyncio.create_task(_give_notice(draining, stopping, notice_s), name="notice")
    try:
        await run_until(groups, stopping)
    finally:
        notice.cancel()
        await asyncio.gather(notice, return_exceptions=True)


async def _give_notice(draining: asyncio.Event, stopping: asyncio.Event, notice_s: float) -> None:
    await draining.wait()
    log.info("stopping", notice_s=notice_s)
    await asyncio.sleep(notice_s)
    stopping.set()
