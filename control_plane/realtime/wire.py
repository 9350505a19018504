"""The ends of both wires: our server's socket, which takes shared bytes, and an event stream.

uvicorn would build a frame anew for each socket; here the same bytes go to every transport.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

from starlette.types import Scope
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from control_plane.kit import frames

# Where a socket's scope holds its wire.
EXTENSION = "botyard.wire"
# Seconds that a closed socket may take to read why; then it is cut, whatever its buffer holds.
_LEAVE_WITHIN_S = 10.0
# Seconds of silence on an event stream, so that proxies do not take it for dead.
_HEARTBEAT_S = 15.0
_HEARTBEAT = b": still here\n\n"


def _nobody() -> None:
    """Until an outlet listens."""


class SocketWire:
    """Writes whole frames beside what uvicorn itself sends."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol
        self._is_writable = protocol.writable.is_set
        self.on_writable: Callable[[], None] = _nobody

    @property
    def writable(self) -> bool:
        return self._is_writable()

    def write(self, data: bytes) -> None:
        if not self._protocol.close_sent and not self._protocol.transport.is_closing():
            self._protocol.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Close without waiting for the reader, unlike ASGI's close."""
        protocol = self._protocol
        if protocol.close_sent or protocol.transport.is_closing():
            return
        protocol.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        protocol.conn.send_close(code, reason)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()
        protocol.close_timer = protocol.loop.call_later(_LEAVE_WITHIN_S, protocol.transport.abort)


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol that hands its wire to the application."""

    _wire: SocketWire | None = None

    async def run_asgi(self) -> None:
        self._wire = SocketWire(self)
        extensions = cast(Scope, self.scope)["extensions"]
        extensions[EXTENSION] = self._wire
        extensions[frames.EXTENSION] = self._take_up_to
        await super().run_asgi()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A refusal in words is an end in order too; uvicorn would write an error.
            self.handshake_complete = True

    def _take_up_to(self, size: int) -> None:
        self.conn.max_message_size = size

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._wire is not None:
            self._wire.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._wire is not None:
            # Whoever waits until everything is taken need not wait any more.
            self._wire.on_writable()
            self._wire.on_writable = _nobody

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # A dead peer never takes what its buffer holds, and a plain close would wait for it.
        self.transport.abort()


class StreamWire:
    """An event stream: holds what its response takes next."""

    def __init__(self) -> None:
        self.on_writable: Callable[[], None] = _nobody
        self._next = b""
        self._ended = False
        self._news = asyncio.Event()

    @property
    def writable(self) -> bool:
        return not self._next

    def write(self, data: bytes) -> None:
        self._next = data
        self._news.set()

    def close(self, code: int, reason: str) -> None:
        self._next += b'data: {"type":"closed","code":%d,"reason":"%s"}\n\n' % (
            code,
            reason.encode(),
        )
        self._ended = True
        self._news.set()

    async def body(self) -> AsyncIterator[bytes]:
        """What the response sends, until the stream is closed."""
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._news.wait()
            except TimeoutError:
                yield _HEARTBEAT
                continue
            self._news.clear()
            data, self._next = self._next, b""
            self.on_writable()
            yield data
            if self._ended:
                return
