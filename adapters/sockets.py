"""WebSockets to platforms, through the guarded door.

The name is resolved and checked here and the connection goes to that address, so that a second
look at the name cannot lead elsewhere; the certificate must still be the name's.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from adapters.outbound import Door, Refused
from adapters.outbound import Unreachable as NoWay
from adapters.platform import Cut, Unreachable

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

# A handshake takes one round trip.
OPEN_TIMEOUT_S = 10.0
# How long a close waits for the other side's.
CLOSE_TIMEOUT_S = 2.0
# One frame of a platform; events are kilobytes, media come by other ways.
MAX_FRAME_BYTES = 1024 * 1024
# Frames read ahead of the adapter; beyond them the platform is slowed down.
MAX_AHEAD = 64

# The library logs what goes over the line, which may be secret.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)


class Closed(Exception):
    """The connection has ended; `code` is the platform's close code, 1006 where there was none."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the connection was closed with {code}")
        self.code = code


class HandshakeRefused(Exception):
    """The platform answered the handshake with an HTTP status other than 101."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the connection was refused with {status}")
        self.status = status
        self.headers = headers


class Socket(Protocol):
    """One connection; every method raises Closed when it has ended."""

    async def send(self, frame: str | bytes) -> None: ...

    async def receive(self) -> str | bytes:
        """The next whole message."""

    async def close(self, code: int = 1000) -> None: ...


class Dialled(Socket, Protocol):
    """One that we opened."""

    async def ping(self) -> None:
        """Return when the other side has answered a protocol ping."""


@asynccontextmanager
async def dial(
    door: Door,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    max_bytes: int = MAX_FRAME_BYTES,
    ping_every_s: float | None = 20.0,
    may_talk: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Dialled]:
    """A connection to `ws://` or `wss://`; leaving closes it.

    `may_talk`: asked before each frame; where it says no, the connection has ended for who sends.
    `ping_every_s`: protocol pings, whose missing answer ends the connection; None for platforms
    that have heartbeats of their own. Raises `outbound.Refused`, Unreachable, Cut or
    HandshakeRefused on entering.
    """
    # Here, because an agent without long connections never needs the library.
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.typing import Subprotocol

    target = door.check(_as_http(url))
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        address = await door.resolve(target.scheme, target.host, port)
    except NoWay:
        raise Unreachable from None
    opening = connect(
        url,
        host=str(address),
        port=port,
        additional_headers=dict(headers or {}),
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        user_agent_header=None,
        compression=None,
        proxy=None,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=ping_every_s,
        ping_timeout=ping_every_s,
        max_size=max_bytes,
        max_queue=MAX_AHEAD,
        logger=_SILENT,
    )
    try:
        connection = await opening
    except InvalidStatus as error:
        raise HandshakeRefused(error.response.status_code, error.response.headers) from None
    except ValueError:
        raise Refused("The address leads elsewhere.") from None
    except (WebSocketException, EOFError):
        raise Cut from None
    except (OSError, TimeoutError):
        raise Unreachable from None
    try:
        yield _Socket(connection, may_talk)
    finally:
        await connection.close()


class _Socket:
    def __init__(self, connection: "ClientConnection", may_talk: Callable[[], bool]) -> None:
        self._connection = connection
        self._may_talk = may_talk

    async def send(self, frame: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        if not self._may_talk():
            raise Closed(_code(None))
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise Closed(_code(closed.rcvd)) from None

    async def receive(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise Closed(_code(closed.rcvd)) from None

    async def ping(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await (await self._connection.ping())
        except ConnectionClosed as closed:
            raise Closed(_code(closed.rcvd)) from None

    async def close(self, code: int = 1000) -> None:
        await self._connection.close(code)


def _code(received: object) -> int:
    return int(getattr(received, "code", 1006))


def _as_http(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"ws", "wss"}:
        raise Refused("The address must begin with wss://.")
    return ("https" if scheme == "wss" else "http") + separator + rest
