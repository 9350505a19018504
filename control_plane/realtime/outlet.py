"""What waits for one reader, bounded; who takes it too slowly is closed, so that others go on.

While the wire takes bytes nothing waits here. What gathered meanwhile goes out in one write.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from prometheus_client import Counter

# Frames and bytes that may wait for one reader: a burst, and no more memory than a megabyte.
MAX_FRAMES = 2_000
MAX_BYTES = 1024 * 1024
# Seconds that a replay waits for its reader between two pages.
TAKE_WITHIN_S = 20.0

# Close codes. Below 4400 are those of the protocol itself: 1012 restarting, 1013 try again later.
RESTARTING = 1012
TRY_LATER = 1013
MALFORMED = 4400
UNAUTHORIZED = 4401
FORBIDDEN = 4403
SLOW = 4408
TOO_MANY = 4429

CLOSED = Counter("botyard_realtime_closed_total", "Connections that we closed.", ["reason"])


class Wire(Protocol):
    """One connection's way out."""

    on_writable: Callable[[], None]

    def write(self, data: bytes) -> bool:
        """Whether it took them; if not, `on_writable` is called when it would."""
        ...

    def close(self, code: int, reason: str) -> None: ...


class Outlet:
    """The way out to one reader."""

    __slots__ = ("_bytes", "_frames", "_taken", "_waiting", "_wire", "closed")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting: list[bytes] = []
        self._frames = 0
        self._bytes = 0
        self._taken: asyncio.Event | None = None
        self.closed: str | None = None
        wire.on_writable = self._flush

    @property
    def idle(self) -> bool:
        return not self._waiting

    def push(self, data: bytes, frames: int = 1) -> None:
        """Send, or let it wait its turn; too much that waits closes the reader as slow."""
        if self.closed is not None:
            return
        if not self._frames and self._wire.write(data):
            return
        self._waiting.append(data)
        self._frames += frames
        self._bytes += len(data)
        if self._frames > MAX_FRAMES or self._bytes > MAX_BYTES:
            self.close(SLOW, "slow")

    def close(self, code: int, reason: str) -> None:
        """Say why, and end; the first reason counts."""
        if self.closed is not None:
            return
        self.closed = reason
        self._forget()
        self._wire.close(code, reason)
        CLOSED.labels(reason).inc()

    async def taken(self) -> None:
        """Until nothing waits any more; a reader who takes too long is closed."""
        if self._waiting:
            self._taken = asyncio.Event()
            try:
                async with asyncio.timeout(TAKE_WITHIN_S):
                    await self._taken.wait()
            except TimeoutError:
                self.close(SLOW, "slow")

    def _flush(self) -> None:
        if not self._waiting or self._wire.write(b"".join(self._waiting)):
            self._forget()

    def _forget(self) -> None:
        self._waiting.clear()
        self._frames = self._bytes = 0
        if self._taken is not None:
            self._taken.set()
