"""A QQ bot's way in over the gateway: connections in a row that go on one session.

What a connection brings is made safe in order, behind the reader, and only then named to the
platform as heard. So whatever ends a connection, the next one resumes where all is safe.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, NoReturn

import msgspec
import structlog

from adapters.base import ChannelRefused, Host, NotAccepted
from adapters.model import Inbound
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.qq import callback, gateway, plain
from adapters.qq.callback import Call
from adapters.qq.client import Client
from adapters.qq.gateway import Action, Conversation, Session
from adapters.qq.settings import Settings
from adapters.sockets import Closed, HandshakeRefused, Socket

# Between two heartbeats, whatever the platform asks for: one that is not answered by the next
# ends the connection, so a silent one is found within 40 s.
BEAT_EVERY_S = 20.0
# From the connection to the first word of a session.
HELLO_WITHIN_S = 15.0
# Frames that wait behind the one that is being made safe; beyond it the platform is slowed down.
MAX_WAITING = 200
# Made safe together: each may bring several media.
MAX_TOGETHER = 20
# What has arrived when a connection ends gets this long to become safe.
DRAIN_S = 5.0
# Before a connection that did not last is followed by the next.
PAUSE_S = 1.0
# The platform finds us too fast.
TOO_FAST_S = 60.0
# A connection that lasted so long was good.
STEADY_S = 60.0
# Tries to go on a session, before it is given up: one that timed out is tried once more, one whose
# token was refused once with a new one, one that the network lost some times.
MAX_RESUMES = 3
_RESUMES = {4009: 1, 4004: 2}
# Connections that did not last, before we say so.
MAX_TRIES = 5

log = structlog.get_logger()

Hear = Callable[[Sequence[Call], str], Awaitable[list[Inbound]]]


class End(NamedTuple):
    """How a connection ended, and what to do next."""

    next: Action
    reason: str
    code: int = 0
    good: bool = False


class Link:
    """Keeps one bot connected."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        client: Client,
        hear: Hear,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hear` makes messages of dispatches; it gets the bot's own id, too."""
        self._settings = settings
        self._host = host
        self._client = client
        self._hear = hear
        self._clock = clock

    async def run(self) -> NoReturn:
        """Connect again and again; raises ChannelRefused for what a person has to look at."""
        tries = resumes = 0
        forget = False
        while True:
            place = gateway.read_position(self._host.resume(), self._settings.app_id)
            place = None if forget else place
            began = self._clock()
            end = await self._connect(place)
            if end.next == "stop":
                raise plain.closed(end.code)
            steady = end.good and self._clock() - began >= STEADY_S
            tries = 0 if steady else tries + 1
            resumes = 0 if place is None or end.good else resumes + 1
            if tries >= MAX_TRIES:
                raise ChannelRefused("", end.reason)
            forget = end.next == "identify" or resumes >= _RESUMES.get(end.code, MAX_RESUMES)
            log.info("gateway connection ended", reason=end.reason, next=end.next)
            if end.next == "backoff_then_resume":
                await asyncio.sleep(TOO_FAST_S)
            elif not steady:
                await asyncio.sleep(PAUSE_S * tries)

    async def _connect(self, place: Session | None) -> End:
        try:
            way = await self._client.gateway()
            if place is None and way.logins_left <= 0:
                raise plain.no_logins(way.more_after_s)
            token = await self._client.ready()
            talk = Conversation(token=token, intents=self._settings.intents, session=place)
            # It has heartbeats of its own.
            async with self._host.dial(way.url, ping_every_s=None) as socket:
                end = await self._talk(socket, talk)
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except PlatformError as error:
            raise plain.ended(error) from None
        except HandshakeRefused as refused:
            return End("resume", f"QQ refused the connection with {refused.status}")
        except (Unreachable, Cut):
            return End("resume", plain.AWAY)
        if end.next == "refresh_then_resume":
            self._client.drop(token)
        return end

    async def _talk(self, socket: Socket, talk: Conversation) -> End:
        waiting: asyncio.Queue[Call | None] = asyncio.Queue(MAX_WAITING)
        started = asyncio.Event()
        reading = asyncio.create_task(
            self._read(socket, talk, waiting, started), name="gateway-read"
        )
        beating = asyncio.create_task(self._beat(socket, talk, started), name="gateway-heartbeat")
        telling = asyncio.create_task(self._tell(talk, waiting), name="gateway-tell")
        tasks = {reading, beating, telling}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            first = next(each for each in (telling, reading, beating) if each.done())
            if first is not telling:
                # Nothing more comes in; what has arrived becomes safe.
                reading.cancel()
                await _drain(waiting, telling)
            return first.result()._replace(good=started.is_set())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(
        self,
        socket: Socket,
        talk: Conversation,
        waiting: asyncio.Queue[Call | None],
        started: asyncio.Event,
    ) -> End:
        try:
            while True:
                frame = await socket.receive()
                call = callback.read(frame if isinstance(frame, bytes) else frame.encode())
                if call is None:
                    log.warning("a frame of the gateway cannot be read")
                    continue
                step = talk.take(call)
                if step.send is not None:
                    await socket.send(msgspec.json.encode(step.send).decode())
                if step.ends is not None:
                    return End(step.ends, "QQ asked to connect again")
                if step.heard is not None:
                    started.set()
                    await waiting.put(step.heard)
                if talk.state == "ready" and not talk.unanswered:
                    self._host.connected()
        except Closed as closed:
            return _closed(closed)

    async def _beat(self, socket: Socket, talk: Conversation, started: asyncio.Event) -> End:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                await started.wait()
        except TimeoutError:
            return End("resume", f"QQ did not begin a session within {HELLO_WITHIN_S:.0f} s")
        try:
            while True:
                talk.unanswered = True
                await socket.send(msgspec.json.encode(talk.beat()).decode())
                await asyncio.sleep(min(talk.interval_s, BEAT_EVERY_S))
                if talk.unanswered:
                    return End("resume", "QQ does not answer heartbeats any more")
        except Closed as closed:
            return _closed(closed)

    async def _tell(self, talk: Conversation, waiting: asyncio.Queue[Call | None]) -> End:
        """Make safe what was heard, in order, and let the session move on behind it."""
        while True:
            calls = [await waiting.get()]
            while calls[-1] is not None and len(calls) < MAX_TOGETHER and not waiting.empty():
                calls.append(waiting.get_nowait())
            heard = [call for call in calls if call is not None]
            numbers = [call.s for call in heard if call.s is not None]
            session = talk.session
            try:
                messages = await self._hear(heard, talk.self_id)
                if numbers and session is not None:
                    talk_at = Session(session.id, max(session.seq, *numbers))
                    place = gateway.position(self._settings.app_id, talk_at)
                    await self._host.report(messages, position=place)
                    talk.settle(talk_at.seq)
                elif messages:
                    await self._host.report(messages)
            except NotAccepted:
                return End("resume", "messages could not be stored; QQ is asked for them again")
            if calls[-1] is None:
                return End("resume", "QQ closed the connection")


def _closed(closed: Closed) -> End:
    reason = f"QQ closed the connection with {closed.code}"
    if closed.code == 4009:
        reason += ", the session is over; is the bot running somewhere else too?"
    return End(gateway.after_close(closed.code), reason, closed.code)


async def _drain(waiting: asyncio.Queue[Call | None], telling: asyncio.Task[End]) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await waiting.put(None)
            await asyncio.wait({telling})
    except TimeoutError:
        # What is not safe by now comes again.
        return
