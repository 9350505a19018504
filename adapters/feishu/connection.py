"""Feishu's long connection: frames in, each acknowledged after what it says is safe."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from adapters.base import ChannelDown, NotAccepted
from adapters.feishu import codec, frames
from adapters.feishu.codec import Decoded, Pressed, Said
from adapters.feishu.endpoint import ClientConfig, client_config
from adapters.feishu.frames import CONTROL, Assembly, Frame, FrameError
from adapters.model import Rejected
from adapters.sockets import Closed, Socket

# Pings go more often than the platform asks for, so that silence is noticed: one that is not
# answered ends the connection, 35 seconds after the last sign of life at the latest.
PING_EVERY_S = 20.0
PONG_WITHIN_S = 15.0
# The platform never asks for less.
_MIN_PING_S = 1.0
# Events at work: media being fetched, reports on their way. Beyond it the platform repeats.
MAX_IN_HAND = 256

_TAKEN = {"code": 200}
_NOT_TAKEN = msgspec.json.encode({"code": 500})
# A card is answered with nothing, which changes nothing.
_CARD_ANSWER = {"data": base64.b64encode(b"{}").decode()}

log = structlog.get_logger()


class Connection:
    """One open connection, until it ends; every way to end is an exception."""

    def __init__(
        self,
        socket: Socket,
        *,
        service_id: int,
        config: ClientConfig,
        decode: Callable[[bytes], Decoded | Rejected],
        take: Callable[[Said], Awaitable[None]],
        alive: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`take` returns when a message is safe, or raises NotAccepted."""
        self._socket = socket
        self._ping = frames.encode(frames.ping(service_id))
        self._config = config
        self._decode = decode
        self._take = take
        self._alive = alive
        self._clock = clock
        self._assembly = Assembly(clock)
        self._heard = asyncio.Event()
        self._in_hand: set[asyncio.Task[None]] = set()
        # The newest event of each conversation: what is said there stays in order.
        self._newest: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        loops = [
            asyncio.create_task(self._beat(), name="feishu-heartbeat"),
            asyncio.create_task(self._read(), name="feishu-frames"),
        ]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        except Closed as closed:
            raise ChannelDown(f"Feishu ended the connection ({closed.code})") from None
        finally:
            # What is not acknowledged comes again.
            ending = [*loops, *self._in_hand]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _beat(self) -> None:
        """Ask again and again whether somebody is there."""
        while True:
            self._heard.clear()
            await self._socket.send(self._ping)
            try:
                async with asyncio.timeout(PONG_WITHIN_S):
                    await self._heard.wait()
            except TimeoutError:
                raise ChannelDown("Feishu went silent: a ping was not answered") from None
            self._alive()
            asked = max(self._config.ping_interval, _MIN_PING_S)
            await asyncio.sleep(min(asked, PING_EVERY_S))

    async def _read(self) -> None:
        while True:
            received = await self._socket.receive()
            self._heard.set()
            if isinstance(received, str):
                log.warning("frame cannot be read", reason="it is a text")
                continue
            try:
                frame = frames.decode(received)
                if frame.method == CONTROL:
                    self._control(frame)
                elif (payload := self._assembly.add(frame)) is not None:
                    await self._event(frame, payload)
            except FrameError as error:
                log.warning("frame cannot be read", reason=str(error))

    def _control(self, frame: Frame) -> None:
        if frame.header("type") == "pong" and frame.payload:
            self._config = client_config(frame.payload) or self._config

    async def _event(self, frame: Frame, payload: bytes) -> None:
        began = self._clock()
        if len(self._in_hand) >= MAX_IN_HAND:
            log.warning("event not taken", reason="too many are at work")
            await self._answer(frame, _NOT_TAKEN, began)
            return
        decoded = self._decode(payload)
        key = decoded.message.conversation.id if isinstance(decoded, Said) else ""
        task = asyncio.create_task(
            self._work(self._newest.get(key), frame, decoded, began), name="feishu-event"
        )
        self._in_hand.add(task)
        if key:
            self._newest[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        self._in_hand.discard(task)
        if self._newest.get(key) is task:
            del self._newest[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            # The connection ended beneath it; that is told where frames are read.
            log.warning("event not answered", reason=type(error).__name__)

    async def _work(
        self,
        before: asyncio.Task[None] | None,
        frame: Frame,
        decoded: Decoded | Rejected,
        began: float,
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        await self._answer(frame, await self._outcome(decoded), began)

    async def _outcome(self, decoded: Decoded | Rejected) -> bytes:
        match decoded:
            case Said():
                try:
                    await self._take(decoded)
                except NotAccepted:
                    return _NOT_TAKEN
            case Rejected():
                # It would be the same the next time.
                log.warning("event cannot be read", reason=decoded.reason)
            case Pressed():
                return msgspec.json.encode(_TAKEN | _CARD_ANSWER)
        return msgspec.json.encode(_TAKEN)

    async def _answer(self, frame: Frame, payload: bytes, began: float) -> None:
        took = self._clock() - began
        if took > codec.DEADLINE_S:
            log.info("event answered late", took_s=round(took, 1))
        answer = frames.answer(frame, payload, took_ms=int(took * 1000))
        await self._socket.send(frames.encode(answer))
