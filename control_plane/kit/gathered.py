"""A transport that sends what is written in one turn of the loop together.

An HTTP answer is written as head and body. Each would be a call of the system, a packet, and a turn
of the client's loop of its own; for small answers that is a tenth of all their work.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Gathered:
    """Stands for a transport; all but writing and closing is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it before the loop waits again."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            whole = b"".join(self._held)
            self._held.clear()
            if not self._transport.is_closing():
                self._transport.write(whole)


class GatheringProtocol(HttpToolsProtocol):
    """HTTP whose answers go out in one piece."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        gathered = Gathered(transport, asyncio.get_running_loop())
        super().connection_made(cast(asyncio.Transport, gathered))
