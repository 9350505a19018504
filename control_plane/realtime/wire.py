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


def _nowhere(_data: bytes) -> None:
    """Where bytes go whose socket is gone."""


class SocketWire:
    """Writes whole frames beside what uvicorn itself sends.

    An entry goes to thousands of sockets one after the other, and what costs is to fetch each
    one's objects into the processor; so a write looks at as few of them as it can.
    """

    __slots__ = ("_protocol", "_write", "on_writable", "writable")

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol
        self._write: Callable[[bytes], None] = protocol.transport.write
        self.writable = True
        self.on_writable: Callable[[], None] = _nobody

    def write(self, data: bytes) -> bool:
        if not self.writable:
            return False
        if not self._protocol.close_sent:
            self._write(data)
        return True

    def resume(self) -> None:
        self.writable = True
        self.on_writable()

    def end(self) -> None:
        """The socket is gone; whoever waits until everything is taken need not wait any more."""
        self._write = _nowhere
        self.resume()
        self.on_writable = _nobody

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

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._wire is not None:
            self._wire.writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._wire is not None:
            self._wire.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._wire is not None:
            self._wire.end()

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

    def write(self, data: bytes) -> bool:
        if self._next:
            return False
        self._next = data
        self._news.set()
        return True

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
