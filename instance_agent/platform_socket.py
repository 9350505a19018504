"""The agent's end of a socket that a platform opened: the control plane carries it here."""

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from adapters.sockets import Closed

# The largest frame that comes in, as the control plane lets through: events, and no media.
MAX_FRAME_BYTES = 1024 * 1024
# Close codes: nobody takes it now, the platform should try again; the agent or the channel ends.
AWAY = 1013
RESTARTING = 1012


class PlatformSocket:
    """A `adapters.sockets.Socket` over the agent's own server.

    Its handshake ends with the first use: the platform must not take itself for connected before
    the adapter takes it.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._code = 1006
        self._opening = asyncio.Lock()

    async def send(self, frame: str | bytes) -> None:
        try:
            await self._open()
            if isinstance(frame, str):
                await self._websocket.send_text(frame)
            else:
                await self._websocket.send_bytes(frame)
        except (RuntimeError, WebSocketDisconnect):
            # Starlette's words for a socket that has ended.
            raise Closed(self._code) from None

    async def receive(self) -> str | bytes:
        await self._open()
        if self._websocket.client_state is not WebSocketState.CONNECTED:
            raise Closed(self._code)
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._code = message.get("code") or 1006
            raise Closed(self._code)
        found: str | bytes = message.get("text") or message.get("bytes") or ""
        return found

    async def close(self, code: int = 1000) -> None:
        """Once; whoever closes again closes nothing. Unused, it was never opened."""
        if self._websocket.application_state is not WebSocketState.DISCONNECTED:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code)

    async def _open(self) -> None:
        async with self._opening:
            if self._websocket.application_state is WebSocketState.CONNECTING:
                await self._websocket.accept()
