"""DingTalk's stream: one connection, replaced when the platform asks, and what was missed without.

The platform keeps nothing while no connection is there, so the times without one are told.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from math import ceil

import structlog

from adapters.base import ChannelDown, ChannelRefused, Host, NotAccepted
from adapters.dingtalk import codec, frames
from adapters.dingtalk.client import Client
from adapters.dingtalk.codec import Said
from adapters.dingtalk.frames import Frame
from adapters.dingtalk.inflow import CLOSE_S, Inflow
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.sockets import Closed, Dialled, HandshakeRefused

# Between two proofs that the platform is there; each is noted on the disk.
PROOF_EVERY_S = 15.0
# A healthy platform answers a ping in a tenth of a second.
PONG_WITHIN_S = 15.0
# After the platform's goodbye it closes in ten seconds; it may still say something until then.
LINGER_S = 15.0
# A connection that is said goodbye to before this is no good, and another would be no better.
MIN_LIFE_S = 5.0
# The last proof is so old at most when a bot ends well, or its channel changes without a pause.
BLUR_S = PROOF_EVERY_S + 5.0
# Messages in hand; beyond it the connection is read no further.
MAX_IN_HAND = 1000
# How long a channel shows what it may have missed.
NOTE_S = 86_400.0

AWAY = "DingTalk cannot be reached; it is tried again"
LOST = "the connection to DingTalk was lost; it is opened again"
SILENT = "DingTalk has gone silent; the connection is opened again"

log = structlog.get_logger()


class Stream:
    """The way in of one robot, for one run of its channel."""

    def __init__(
        self, client: Client, host: Host, inflow: Inflow, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock`: Unix seconds."""
        self._client = client
        self._host = host
        self._inflow = inflow
        self._clock = clock
        self._note: str | None = None
        self._note_until = 0.0
        self._is_first = True
        self._reading: set[asyncio.Task[None]] = set()
        self._taking: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_IN_HAND)

    async def keep(self) -> None:
        """Until it is lost; raises ChannelDown, or ChannelRefused for wrong settings."""
        try:
            while True:
                leaving = asyncio.Event()
                begun = time.monotonic()
                await self._one(leaving)
                if time.monotonic() - begun < MIN_LIFE_S:
                    raise ChannelDown("DingTalk takes no connection now; it is tried again")
        except ChannelDown:
            if any(not reading.done() for reading in self._reading):
                # Its predecessor was still read.
                await self._keep_place(exact=True)
            raise
        finally:
            await self._end()

    async def _one(self, leaving: asyncio.Event) -> None:
        """Return when another connection must take over; this one is read meanwhile."""
        reading = asyncio.create_task(self._connection(leaving), name="dingtalk-stream")
        self._reading.add(reading)
        asked = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({reading, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if not leaving.is_set():
            await reading
        reading.add_done_callback(self._left)

    def _left(self, reading: asyncio.Task[None]) -> None:
        self._reading.discard(reading)
        if not reading.cancelled():
            reading.exception()

    async def _connection(self, leaving: asyncio.Event) -> None:
        try:
            async with self._host.dial(
                await self._client.open_stream(), ping_every_s=None
            ) as socket:
                await self._proof()
                await self._read(socket, leaving)
        except PlatformError as error:
            raise _lost(error) from None
        except Refused as refused:
            raise ChannelRefused("/api_url", str(refused)) from None
        except (Unreachable, Cut, HandshakeRefused):
            raise ChannelDown(AWAY) from None

    async def _read(self, socket: Dialled, leaving: asyncio.Event) -> None:
        silent = asyncio.Event()
        heartbeat = asyncio.create_task(
            self._heartbeat(socket, leaving, silent), name="dingtalk-pings"
        )
        try:
            while True:
                await self._frame(await socket.receive(), socket, leaving)
        except Closed:
            if leaving.is_set():
                return
            if silent.is_set():
                raise ChannelDown(SILENT) from None
            # It was there until now.
            self._host.disconnected()
            await self._keep_place(exact=True)
            raise ChannelDown(LOST) from None
        finally:
            heartbeat.cancel()

    async def _heartbeat(
        self, socket: Dialled, leaving: asyncio.Event, silent: asyncio.Event
    ) -> None:
        """Prove again and again that the platform is there; ends the connection otherwise."""
        with suppress(Closed):
            while not leaving.is_set():
                try:
                    async with asyncio.timeout(PROOF_EVERY_S):
                        await leaving.wait()
                except TimeoutError:
                    pass
                else:
                    break
                try:
                    async with asyncio.timeout(PONG_WITHIN_S):
                        await socket.ping()
                except TimeoutError:
                    silent.set()
                    await socket.close()
                    return
                await self._proof()
            await asyncio.sleep(LINGER_S)
            await socket.close()

    async def _frame(self, raw: str | bytes, socket: Dialled, leaving: asyncio.Event) -> None:
        frame = frames.read(raw)
        if frame is None:
            log.warning("frame cannot be read")
            return
        if frame.is_goodbye:
            leaving.set()
            return
        if frame.is_message:
            await self._room.acquire()
            taking = asyncio.create_task(self._message(frame, socket), name="dingtalk-message")
            self._taking.add(taking)
            taking.add_done_callback(self._taken)
            return
        await _answer(frame, socket)

    def _taken(self, taking: asyncio.Task[None]) -> None:
        self._taking.discard(taking)
        self._room.release()

    async def _message(self, frame: Frame, socket: Dialled) -> None:
        said = codec.decode(frame.data)
        if not isinstance(said, Said):
            if not isinstance(said, codec.Own):
                log.warning("message cannot be read", reason=said.reason)
            await _answer(frame, socket)
            return
        safe = await self._inflow.take(said.message)
        await _answer(frame, socket, safe=safe)

    # --- what may have been missed ---

    async def _proof(self) -> None:
        """The platform is there: say so, and with it what was missed before."""
        now = self._clock()
        if self._is_first:
            self._is_first = False
            self._look_back(now)
        self._host.connected(self._note if now < self._note_until else None)
        await self._keep_place()

    def _look_back(self, now: float) -> None:
        before = self._host.resume()
        missed = _missed(before, now)
        if missed is None:
            return
        log.warning(
            "messages may have been missed", since=_moment(missed), until=_moment(ceil(now))
        )
        self._note = (
            f"messages written from {_moment(missed)} to {_moment(ceil(now))} may be missing: "
            "DingTalk keeps none while there is no connection"
        )
        self._note_until = now + NOTE_S

    async def _keep_place(self, *, exact: bool = False) -> None:
        mark = "!" if exact else ""
        try:
            await self._host.report([], position=f"{int(self._clock())}{mark}")
        except NotAccepted:
            # The next proof is noted again.
            self._host.resume()

    # --- the end ---

    async def _end(self) -> None:
        """Leave; what is in hand is tried once more as it is. Bounded."""
        for reading in self._reading:
            reading.cancel()
        self._inflow.end()
        if not (ending := {*self._reading, *self._taking}):
            return
        done, late = await asyncio.wait(ending, timeout=CLOSE_S)
        for each in late:
            each.cancel()
        for each in done:
            # What one of them still has to say interests nobody now.
            if not each.cancelled():
                each.exception()
        if lost := len(late & self._taking) + self._inflow.lost:
            log.error("messages lost at the end of the channel", count=lost)


async def _answer(frame: Frame, socket: Dialled, *, safe: bool = True) -> None:
    answer = frames.answer(frame, safe=safe)
    if answer is not None:
        # Whoever has gone needs no answer; it is for diagnosis only.
        with suppress(Closed):
            await socket.send(answer)


def _lost(error: PlatformError) -> Exception:
    """Which setting to look at, or that it may pass."""
    if error.error_class == "secret_invalid":
        return ChannelRefused("/client_secret", str(error))
    if error.error_class in ("no_permission", "ip_not_allowed"):
        return ChannelRefused("", permission(error))
    return ChannelDown(f"{AWAY} ({error})")


def permission(error: PlatformError) -> str:
    """A sentence for what the console must allow first."""
    if error.error_class == "ip_not_allowed":
        return (
            "enter the address of this server in DingTalk's console under 安全设置 (服务器出口 IP)"
        )
    return (
        "the application has no permission for this: look at 权限管理, and at 机器人 whether the "
        f"robot is published with this mode ({error})"
    )


def _missed(before: str | None, now: float) -> float | None:
    """Since when nothing was heard; None when nothing can have been missed."""
    if before is None:
        return None
    exact, digits = before.endswith("!"), before.rstrip("!")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        return None
    since = float(digits)
    return since if now - since > (0 if exact else BLUR_S) else None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
