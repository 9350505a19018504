"""An AI bot over callbacks: the platform asks for an answer until it has it whole.

What is to be said waits in memory until the platform asks, and counts as sent once it has asked.
Where it does not ask, the answer goes to the address that came with the question: once, and for
about an hour. There is no way to speak first.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from adapters.arrivals import Arrivals
from adapters.base import (
    Attempt,
    Host,
    MediaRefused,
    NotAccepted,
    Outgoing,
    SendFailed,
    SendUnknown,
    Sent,
)
from adapters.model import (
    CallbackAnswer,
    Image,
    Inbound,
    RawCallback,
    Rejected,
    Segment,
    Text,
    in_words,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.wecom_aibot import codec, media_in, messages
from adapters.wecom_aibot.callback import RECEIVED, Opened, unseal, waiting
from adapters.wecom_aibot.client import Client
from adapters.wecom_aibot.messages import Notice, Poll
from adapters.wecom_aibot.settings import Settings
from adapters.wecom_aibot.streams import BELOW, LIFE_S, Stream, Streams

# The platform asks every second or so while a stream is open; who is silent for so long has ended.
ASKED_WITHIN_S = 8.0
# There is no connection to look at: this only says that we listen.
LISTENING_EVERY_S = 20.0
# Pictures made ready at a time: each is whole in memory, with its base64.
MAX_MEDIA_SENDS = 2

_BUSY = "WeCom cannot be reached"
_NO_WAY = "WeCom lets this bot speak only in answer to a message"
_SPENT = "WeCom takes one late answer to a message, and has it"

log = structlog.get_logger()


class Passive:
    """One bot (see `adapters.base.Adapter`)."""

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._began = clock()
        self._client = Client(host.http, settings)
        self._arrivals = Arrivals(self._client.download, host.media)
        self._streams = Streams(clock=clock)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)

    async def probe(self) -> None:
        """Token and key are checked by the platform's own call, and by nothing else."""

    async def run(self) -> None:
        """Nothing keeps us connected; what comes, comes as a call."""
        try:
            while True:
                self._host.connected()
                self._streams.late()
                await asyncio.sleep(LISTENING_EVERY_S)
        finally:
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the answer is the stream as it stands."""
        now = None if verified else request.received_at
        opened = unseal(request, self._settings, now=now)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if request.method == "GET":
            return CallbackAnswer(content_type="text/plain", body=opened.message)
        decoded = messages.decode(
            opened.message, at=request.received_at, bot_id=self._settings.bot_id
        )
        match decoded:
            case Rejected():
                log.warning("callback cannot be read", reason=decoded.reason)
                status = 401 if decoded.reason == messages.FOREIGN else 400
                return CallbackAnswer(status=status, content_type="text/plain", body=b"")
            case Poll():
                stream = self._streams.asked_for(decoded.stream_id, decoded.conversation)
                return opened.answer(self._state(stream))
            case Inbound() if not self._host.admitted([decoded]):
                if verified:
                    self._close(decoded)
                return RECEIVED
            case Inbound():
                return await self._hear(decoded, opened)
            case Notice(event=messages.ENTERED, sender_id=who) if (
                self._settings.greeting and not verified and self._host.hears(who)
            ):
                return opened.answer(messages.text(self._settings.greeting))
            case _:
                # Nobody said anything: there is nothing to keep.
                return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split_answer(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The pictures' bytes."""
        words = "\n".join(each.text for each in part.segments if isinstance(each, Text))
        images: list[codec.Body] = []
        room = codec.MAX_IMAGES_BYTES
        for segment in part.segments:
            if isinstance(segment, Image):
                image = await self._picture(segment, room)
                if image is None:
                    words = f"{words}\n{in_words(segment)}" if words else in_words(segment)
                else:
                    images.append(image)
                    room -= len(image["image"]["base64"]) * 3 // 4
        pictures = [each for each in part.segments if isinstance(each, Image)]
        return partial(self._say, part, codec.clipped(words), images, pictures)

    # --- in ---

    async def _hear(self, message: Inbound, opened: Opened) -> CallbackAnswer:
        # Before the report: the answer may be there before this callback's own.
        stream = self._streams.begin(message.reply_handle["stream"], message.conversation)
        await self._host.report([await media_in.stored(message, self._arrivals, self._client)])
        if stream.quiet or not self._settings.waiting_text:
            return RECEIVED
        return opened.answer(self._state(stream))

    def _close(self, message: Inbound) -> None:
        """While we were away somebody who is not heard was kept waiting: no longer."""
        stream = self._streams.begin(message.reply_handle["stream"], message.conversation)
        stream.end(self._settings.waiting_text)

    def _state(self, stream: Stream) -> dict[str, Any]:
        """What the platform gets when it asks for this stream."""
        if stream.content or stream.images:
            stream.asked.set()
            if not stream.ended:
                stream.ended = True
                self._end_older(stream)
            return messages.stream(stream.id, stream.content, finish=True, images=stream.images)
        if stream.ended:
            return messages.stream(stream.id, BELOW, finish=True)
        if not self._streams.is_open(stream):
            stream.end(self._settings.waiting_text or BELOW)
            return messages.stream(stream.id, stream.content, finish=True)
        return waiting(stream.id, self._settings)

    def _end_older(self, stream: Stream) -> None:
        """Questions that this answer speaks to as well."""
        for older in self._streams.older(stream):
            older.end(BELOW)

    # --- out ---

    async def _say(
        self,
        part: Outgoing,
        text: str,
        images: Sequence[codec.Body],
        pictures: Sequence[Segment],
    ) -> Sent:
        handle = part.reply_handle
        if "stream" not in handle:
            raise SendFailed("window_expired", _NO_WAY)
        stream = self._streams.get(handle["stream"])
        if stream is None:
            stream = self._streams.begin(handle["stream"], part.conversation)
            # Opened before this agent began, perhaps: the platform's asking will show.
            stream.quiet = self._clock() - self._began >= LIFE_S
        if await self._taken(stream, text, images):
            return Sent(platform_message_id=stream.id)
        # The last way takes words only.
        words = "\n".join(filter(None, [text, *(in_words(each) for each in pictures if images)]))
        return await self._late(part, stream, codec.clipped(words))

    async def _taken(self, stream: Stream, text: str, images: Sequence[codec.Body]) -> bool:
        """Put an answer where the platform asks for it; False where it does not ask."""
        async with stream.lock:
            hidden = stream.quiet or not self._settings.waiting_text
            if hidden or not self._streams.is_open(stream):
                return False
            stream.content, stream.images = text, list(images)
            try:
                async with asyncio.timeout(ASKED_WITHIN_S):
                    await stream.asked.wait()
            except TimeoutError:
                pass
            finally:
                if not stream.asked.is_set():
                    stream.images = []
                    stream.end(BELOW)
            return stream.asked.is_set()

    async def _late(self, part: Outgoing, stream: Stream, text: str) -> Sent:
        """At the address that came with the question: once."""
        url = part.reply_handle.get("response_url", "")
        if not url:
            raise SendFailed("window_expired", _NO_WAY)
        if stream.spent:
            raise SendFailed("window_count_exceeded", _SPENT)
        try:
            await self._client.answer(url, codec.markdown(text))
        except PlatformError as error:
            raise SendFailed(error.error_class, str(error)) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", _BUSY) from None
        except Cut:
            stream.spent = True
            raise SendUnknown("the connection was cut") from None
        stream.spent = True
        return Sent(platform_message_id=f"{stream.id}-late")

    async def _picture(self, segment: Image, room: int) -> codec.Body | None:
        """None where it could not be shown."""
        if segment.ref.via != "media":
            return None
        async with self._room:
            try:
                content = await self._host.media.read(segment.ref)
            except MediaRefused:
                return None
            except NotAccepted:
                raise SendFailed("server_busy", "the media store cannot be reached") from None
            return codec.picture(content, room=room)
