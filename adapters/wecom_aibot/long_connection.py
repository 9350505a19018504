"""An AI bot over the long connection: one WebSocket, in which questions come and answers grow."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from adapters.arrivals import GIVE_UP_S, Arrivals
from adapters.base import (
    Attempt,
    ChannelDown,
    ChannelRefused,
    Content,
    Host,
    MediaRefused,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
    Sent,
)
from adapters.model import File, Image, Inbound, Ref, Rejected, Segment, Video, Voice, in_words
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.sockets import Closed, HandshakeRefused, Socket
from adapters.uploads import Uploads
from adapters.wecom_aibot import codec, media_in, messages, upload
from adapters.wecom_aibot.client import Client
from adapters.wecom_aibot.codec import Frame
from adapters.wecom_aibot.connection import Connection
from adapters.wecom_aibot.lines import Lines
from adapters.wecom_aibot.messages import Notice
from adapters.wecom_aibot.settings import Settings
from adapters.wecom_aibot.streams import BELOW, Stream, Streams

# The platform's own kit pings as often. A missed answer is found within 50 s.
PING_EVERY_S = 30.0
PONG_WITHIN_S = 20.0
# A connection that was good for so long may be made anew at once, and streams live on.
STEADY_S = 60.0
# Our end of a message that nobody repeats: tried again while the agent's disk does not take it.
RETRY_S = 1.0
# What is on its way in when the channel stops.
DRAIN_S = 2.0
# One frame of the platform; media come by other ways.
MAX_FRAME_BYTES = 2 * messages.MAX_BYTES
# The platform keeps an upload for three days; the last hour is for sends under way.
MEDIA_KEPT_S = 3 * 86_400 - 3_600
UPLOADS_PER_MINUTE = 30
# Media sent at a time: each is whole in memory, up to 20 MB and as much again on the way out.
MAX_MEDIA_SENDS = 2

KICKED = (
    "another program has connected with this bot, and WeCom allows one connection only: "
    "end that program, or make a bot of its own for it"
)
_BUSY = "WeCom cannot be reached"
_SILENT = "WeCom has stopped answering on the long connection"
_NOT_CONNECTED = "the long connection is down"
_WRONG_SECRET = "WeCom does not accept this Bot ID with this Secret"
_TOO_LATE = "this group lets no bot speak first, and WeCom takes no more answers to the message"
_NO_SOCKET = "this address answers, but is not WeCom's long connection"

log = structlog.get_logger()


class LongConnection:
    """One bot (see `adapters.base.Adapter`)."""

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._client = Client(host.http, settings)
        # Nobody is kept waiting for an acknowledgement, so a message waits for its media.
        self._arrivals = Arrivals(self._client.download, host.media, wait_s=GIVE_UP_S + 5)
        self._uploads = Uploads(
            self._upload, kept_s=MEDIA_KEPT_S, clock=clock, per_minute=UPLOADS_PER_MINUTE
        )
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)
        self._streams = Streams(clock=clock)
        self._lines = Lines(self._hear)
        self._frames: set[asyncio.Task[None]] = set()
        self._connection: Connection | None = None

    async def probe(self) -> None:
        """Whether the address leads anywhere; to subscribe would throw out whoever is connected."""
        try:
            async with self._dialled():
                return
        except (Unreachable, Cut):
            return
        except Refused as refused:
            raise ChannelRefused("/websocket_url", str(refused)) from None
        except HandshakeRefused:
            raise ChannelRefused("/websocket_url", _NO_SOCKET) from None

    async def run(self) -> None:
        """Be connected; a connection that was good for a while is made anew once, at once."""
        try:
            while True:
                began = self._clock()
                try:
                    await self._connected()
                except Closed:
                    self._host.disconnected()
                    if self._clock() - began < STEADY_S:
                        raise ChannelDown(_BUSY) from None
        except Refused as refused:
            raise ChannelRefused("/websocket_url", str(refused)) from None
        except HandshakeRefused as refused:
            raise ChannelDown(f"WeCom answered {refused.status} instead of connecting") from None
        except (Unreachable, Cut):
            raise ChannelDown(_BUSY) from None
        finally:
            if lost := await self._lines.close(DRAIN_S):
                log.error("messages not kept", count=lost)
            for task in self._frames:
                task.cancel()
            await asyncio.gather(*self._frames, return_exceptions=True)
            await self._arrivals.close()

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The upload of a medium: nobody sees it."""
        if part.conversation.type == "channel":
            raise SendFailed("recipient_invalid", "neither a person nor a group")
        if self._connection is None:
            raise SendFailed("server_busy", _NOT_CONNECTED, RETRY_S)
        [segment] = part.segments
        match segment:
            case Image() | Voice() | Video() | File() if segment.ref is not None:
                body = await self._media_body(segment, segment.ref)
            case _:
                body = codec.card(segment)
        if body is None:
            return partial(self._say, part, codec.clipped(in_words(segment)))
        return partial(self._show, part, body)

    # --- the connection ---

    def _dialled(self) -> contextlib.AbstractAsyncContextManager[Socket]:
        url = self._settings.websocket_url
        # The platform has a heartbeat of its own.
        return self._host.dial(url, max_bytes=MAX_FRAME_BYTES, ping_every_s=None)

    async def _connected(self) -> None:
        """One connection, until it ends; raises why."""
        async with self._dialled() as socket:
            connection = Connection(socket)
            tasks = [asyncio.create_task(connection.read(self._take), name="aibot-read")]
            try:
                await self._subscribe(connection, tasks[0])
                self._connection = connection
                self._host.connected()
                tasks.append(asyncio.create_task(self._beat(connection), name="aibot-beat"))
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            finally:
                self._connection = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, connection: Connection, reading: asyncio.Task[None]) -> None:
        secret = self._settings.secret
        body = codec.subscribe(
            self._settings.bot_id, "" if secret is None else secret.get_secret_value()
        )
        try:
            await connection.ask("aibot_subscribe", body)
        except PlatformError as error:
            if error.error_class in {"rate_limited", "server_busy"}:
                raise ChannelDown(f"{_BUSY} for now ({error.code})") from None
            # Which code means what is not documented.
            raise ChannelRefused("/secret", f"{_WRONG_SECRET} ({error.code})") from None
        except Cut:
            if reading.done():
                await reading
            raise

    async def _beat(self, connection: Connection) -> None:
        """Each answered ping is proof of life; streams that are late end in good order."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for stream in self._streams.late():
                self._spawn(self._end(stream, self._settings.waiting_text or BELOW))
            try:
                await connection.ask("ping", within_s=PONG_WITHIN_S)
            except PlatformError:
                log.info("ping refused")
            except Unreachable:
                # The reading ends with it, and says why.
                await asyncio.Event().wait()
            except Cut:
                raise ChannelDown(_SILENT) from None
            self._host.connected()

    # --- in ---

    async def _take(self, frame: Frame) -> None:
        self._host.connected()
        if frame.cmd not in {"aibot_msg_callback", "aibot_event_callback"}:
            log.info("call of an unknown kind", cmd=frame.cmd[:64])
            return
        decoded = messages.decode(
            bytes(frame.body), at=time.time(), bot_id=self._settings.bot_id, req_id=frame.req_id
        )
        match decoded:
            case Rejected():
                log.warning("message cannot be read", reason=decoded.reason)
            case Inbound():
                if self._host.admitted([decoded]):
                    await self._lines.put(decoded)
            case Notice(event=messages.KICKED_OUT):
                raise ChannelDown(KICKED)
            case Notice(event=messages.ENTERED, sender_id=who) if self._settings.greeting:
                if self._host.hears(who):
                    self._spawn(self._greet(frame.req_id))
            case _:
                pass

    async def _hear(self, message: Inbound) -> None:
        """Make one message safe, then show that it was heard."""
        handle = message.reply_handle
        # Before the report: the answer may be quicker than what follows it.
        stream = self._streams.begin(
            handle["stream"], message.conversation, req_id=handle.get("req_id", "")
        )
        while True:
            try:
                known = await media_in.stored(message, self._arrivals, self._client)
                await self._host.report([known])
                break
            except NotAccepted:
                await asyncio.sleep(RETRY_S)
        if self._settings.waiting_text and not stream.quiet:
            self._spawn(self._open(stream))

    async def _open(self, stream: Stream) -> None:
        async with stream.lock:
            if self._streams.is_open(stream):
                waiting = self._settings.waiting_text
                stream.shown = await self._frame(stream, waiting, finish=False)

    async def _greet(self, req_id: str) -> None:
        if self._connection is not None:
            body = messages.text(self._settings.greeting)
            with contextlib.suppress(Unreachable):
                await self._connection.tell("aibot_respond_welcome_msg", body, req_id=req_id)

    # --- out ---

    async def _say(self, part: Outgoing, text: str) -> Sent:
        """Words: into the question's stream while that is open, by themselves otherwise."""
        stream = self._streams.get(part.reply_handle.get("stream", ""))
        if stream is not None and stream.req_id:
            async with stream.lock:
                if self._streams.is_open(stream) and await self._fill(stream, text):
                    return Sent(platform_message_id=stream.id)
        try:
            return await self._push(part, codec.markdown(text))
        except SendFailed as failed:
            if failed.error_class != "recipient_refuses" or "req_id" not in part.reply_handle:
                raise
        return await self._reply(part, text)

    async def _reply(self, part: Outgoing, text: str) -> Sent:
        """In a group that lets no bot push: one more answer to the question, in a new stream."""
        stream = Stream(
            id=messages.stream_id(part.idempotency_key),
            conversation=part.conversation,
            opened_at=self._clock(),
            req_id=part.reply_handle["req_id"],
        )
        if not await self._fill(stream, text):
            raise SendFailed("window_expired", _TOO_LATE)
        return Sent(platform_message_id=stream.id)

    async def _fill(self, stream: Stream, text: str) -> bool:
        """The whole answer; False where the platform takes it no more."""
        try:
            await self._respond(stream, text, finish=True)
        except PlatformError as error:
            if error.error_class in codec.PUSH_INSTEAD:
                stream.end()
                return False
            raise _refusal(error) from None
        except Unreachable:
            raise SendFailed("server_busy", _NOT_CONNECTED, RETRY_S) from None
        except Cut:
            # A late answer would be taken for that to the next frame.
            stream.end()
            raise SendUnknown("the connection was cut") from None
        stream.end()
        self._end_older(stream)
        return True

    async def _show(self, part: Outgoing, body: codec.Body) -> Sent:
        """What stands by itself: below the stream, which ends so that nothing grows above."""
        stream = self._streams.get(part.reply_handle.get("stream", ""))
        if stream is not None:
            await self._end(stream, BELOW)
            self._end_older(stream)
        try:
            return await self._push(part, body)
        except SendFailed as failed:
            if failed.error_class != "media_failed":
                raise
        # The platform has forgotten the medium before its time; nothing was sent.
        return await self._push(part, await self._renewed(part.segments[0], body))

    async def _renewed(self, segment: Segment, body: codec.Body) -> codec.Body:
        """The medium uploaded again, or its words."""
        ref = getattr(segment, "ref", None)
        self._uploads.forget(body.get(body["msgtype"], {}).get("media_id", ""))
        again = None if ref is None else await self._media_body(segment, ref)
        return again or codec.markdown(codec.clipped(in_words(segment)))

    async def _push(self, part: Outgoing, body: codec.Body) -> Sent:
        if self._connection is None:
            raise SendFailed("server_busy", _NOT_CONNECTED, RETRY_S)
        try:
            answer = await self._connection.ask(
                "aibot_send_msg", codec.push(part.conversation, body)
            )
        except PlatformError as error:
            raise _refusal(error) from None
        except Unreachable:
            raise SendFailed("server_busy", _NOT_CONNECTED, RETRY_S) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None
        # The platform gives a push no id.
        return Sent(platform_message_id=answer.req_id)

    def _end_older(self, stream: Stream) -> None:
        """Questions that this answer speaks to as well."""
        for older in self._streams.older(stream):
            self._spawn(self._end(older, BELOW))

    async def _end(self, stream: Stream, text: str) -> None:
        async with stream.lock:
            if not stream.ended:
                stream.end()
                if stream.shown:
                    await self._frame(stream, text, finish=True)

    async def _frame(self, stream: Stream, text: str, *, finish: bool) -> bool:
        """A frame that may fail: the answer itself does not depend on it."""
        try:
            await self._respond(stream, text, finish=finish)
            return True
        except (PlatformError, Unreachable) as error:
            log.info("stream not updated", reason=type(error).__name__)
        except Cut:
            # Its answer may come late, and be taken for that to the next frame.
            stream.end()
        return False

    async def _respond(self, stream: Stream, text: str, *, finish: bool) -> None:
        if self._connection is None:
            raise Unreachable
        body = messages.stream(stream.id, text, finish=finish)
        await self._connection.ask("aibot_respond_msg", body, req_id=stream.req_id)

    def _spawn(self, frame: Any) -> None:
        task = asyncio.create_task(frame, name="aibot-frame")
        self._frames.add(task)
        task.add_done_callback(self._frames.discard)

    # --- media out ---

    async def _media_body(self, segment: Segment, ref: Ref) -> codec.Body | None:
        """What goes out for a medium: its upload; None where the platform takes none."""
        async with self._room:
            content = await self._content(ref)
            kind = None if content is None else codec.upload_kind(segment, content)
            if content is None or kind is None:
                return None
            try:
                return codec.media_body(kind, await self._uploads.media_id(kind, content))
            except PlatformError as error:
                failed = _refusal(error)
                # Its words are better than nothing; what passes is tried again.
                if failed.error_class in {"rate_limited", "server_busy"}:
                    raise failed from None
                return None
            except (Unreachable, Cut):
                raise SendFailed("server_busy", _BUSY) from None

    async def _content(self, ref: Ref) -> Content | None:
        if ref.via != "media":
            return None
        try:
            return await self._host.media.read(ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None

    async def _upload(self, kind: str, content: Content) -> str:
        if self._connection is None:
            raise Unreachable
        return await upload.upload(self._connection, kind, content)


def _refusal(error: PlatformError) -> SendFailed:
    return SendFailed(error.error_class, str(error))
