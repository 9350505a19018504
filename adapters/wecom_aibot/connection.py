"""One long connection: frames out, each with its answer, and the platform's calls in."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from adapters.model import Rejected
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.sockets import Closed, Socket
from adapters.wecom_aibot import codec
from adapters.wecom_aibot.codec import Frame

# The platform answers a frame at once; its own kit waits five seconds.
ANSWER_S = 10.0
# Frames whose answers are waited for at a time.
MAX_WAITING = 1000

Taken = Callable[[Frame], Awaitable[None]]

log = structlog.get_logger()


def refused(errcode: int) -> PlatformError:
    """The platform's no; of its words nothing is kept."""
    return PlatformError(errcode, codec.error_class(errcode), f"WeCom answered {errcode}")


class Connection:
    """Frames are told apart by `req_id` only; an id that is waited for is not used again."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._ended = False

    async def ask(
        self,
        cmd: str,
        body: Mapping[str, Any] | None = None,
        *,
        req_id: str = "",
        within_s: float = ANSWER_S,
    ) -> Frame:
        """Send a frame and wait for its answer.

        Raises Unreachable (it did not set out), Cut (nobody knows) or PlatformError.
        """
        req_id = req_id or f"{cmd}_{secrets.token_hex(8)}"
        if self._ended or req_id in self._waiting or len(self._waiting) >= MAX_WAITING:
            raise Unreachable
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[req_id] = answer
        try:
            await self._send(codec.call(cmd, req_id, body))
            async with asyncio.timeout(within_s):
                found = await answer
        except TimeoutError:
            raise Cut from None
        finally:
            del self._waiting[req_id]
        if found.errcode != 0:
            raise refused(found.errcode)
        return found

    async def tell(self, cmd: str, body: Mapping[str, Any], *, req_id: str) -> None:
        """Send a frame whose answer changes nothing; raises Unreachable."""
        await self._send(codec.call(cmd, req_id, body))

    async def read(self, take: Taken) -> None:
        """Take frames until the connection ends: raises Closed, or whatever `take` raises."""
        try:
            while True:
                frame = codec.frame(await self._socket.receive())
                if isinstance(frame, Rejected):
                    log.warning("frame cannot be read")
                elif frame.cmd:
                    await take(frame)
                else:
                    self._settle(frame)
        finally:
            self._ended = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Cut())

    async def _send(self, frame: Mapping[str, Any]) -> None:
        try:
            await self._socket.send(msgspec.json.encode(frame).decode())
        except Closed:
            raise Unreachable from None

    def _settle(self, frame: Frame) -> None:
        answer = self._waiting.get(frame.req_id)
        if answer is not None and not answer.done():
            answer.set_result(frame)
