"""A Feishu bot as a channel: events by callback or by long connection, one call per part out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, TypeVar

import structlog
from msgspec.structs import replace

from adapters.arrivals import CALLBACK_WAIT_S, GIVE_UP_S, Arrivals
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
from adapters.feishu import codec, errors, outgoing
from adapters.feishu.callback import RECEIVED, challenge_answer, unseal
from adapters.feishu.client import Client
from adapters.feishu.codec import Decoded, Said
from adapters.feishu.connection import Connection
from adapters.feishu.endpoint import Endpoint
from adapters.feishu.outgoing import Message
from adapters.feishu.settings import Settings
from adapters.model import (
    CallbackAnswer,
    File,
    Forward,
    Image,
    RawCallback,
    Ref,
    Rejected,
    Reply,
    Segment,
    Text,
    Video,
    Voice,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.sockets import HandshakeRefused
from adapters.uploads import Uploads

# Between two looks, while there is no connection that proves that all is well.
PROOF_EVERY_S = 25.0
# Looks that may fail in a row: one is a bad moment, three are an outage.
MAX_MISSES = 3
# Nobody says how long the platform keeps an upload; a day saves most of them.
MEDIA_KEPT_S = 86_400
# Media sent at a time: each is whole in memory, up to 30 MB and as much again on the way out.
MAX_MEDIA_SENDS = 2
# A merged forward is one call away; without it the message says that there is one.
FORWARD_WAIT_S = 1.5

_NO_BOT = frozenset({11205, 230006})
_BUSY = "Feishu cannot be reached"
_FALL_BACK = frozenset({"bad_markup", "too_long", "media_failed"})

T = TypeVar("T")

log = structlog.get_logger()


class Adapter:
    """One application (see `adapters.base.Adapter`)."""

    # Up to 50 connections share the events, each of which goes to one of them.
    exclusive: ClassVar[bool] = False

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._client = Client(
            host.http,
            base_url=settings.base_url,
            app_id=settings.app_id,
            app_secret=settings.app_secret.get_secret_value(),
            clock=clock,
        )
        # On a connection a message may wait for its media: the platform hears of it later.
        wait_s = CALLBACK_WAIT_S if self._by_callback else GIVE_UP_S + 1
        self._arrivals = Arrivals(self._client.download, host.media, wait_s=wait_s)
        self._uploads = Uploads(self._client.upload, kept_s=MEDIA_KEPT_S, clock=clock)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)
        self._bot_open_id = ""
        self._asking = asyncio.Lock()

    @property
    def _by_callback(self) -> bool:
        return self._settings.transport == "callback"

    async def probe(self) -> None:
        """Application, secret and bot, and whether it gets a long connection if it wants one."""
        try:
            await self._who_we_are()
            if not self._by_callback:
                await self._endpoint()
        except PlatformError as error:
            if wrong := _wrong(error):
                raise wrong from None
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        try:
            await (self._look_on() if self._by_callback else self._stay_connected())
        except Refused as refused:
            raise ChannelRefused("/base_url", str(refused)) from None
        except PlatformError as error:
            raise _wrong(error) or ChannelDown(str(error)) from None
        except (Unreachable, Cut):
            raise ChannelDown(_BUSY) from None
        finally:
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the platform hears 200 once it is kept."""
        opened = unseal(request, self._settings, now=None if verified else request.received_at)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if opened.challenge is not None:
            return challenge_answer(opened.challenge)
        try:
            await self._who_we_are()
        except (PlatformError, Refused, Unreachable, Cut):
            raise NotAccepted("the bot does not know its own id yet") from None
        decoded = self._decode(opened.message)
        if isinstance(decoded, Rejected):
            log.warning("callback cannot be read", reason=decoded.reason)
            return CallbackAnswer(status=400, content_type="text/plain", body=b"")
        if isinstance(decoded, Said):
            await self._take(decoded)
        # Nobody said anything else: there is nothing to keep.
        return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return outgoing.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The token, and the upload of a medium: nobody sees these."""
        said = [each for each in part.segments if not isinstance(each, Reply)]
        outgoing.call(outgoing.words(said), part.conversation)
        match said:
            case [Image() | Voice() | Video() | File() as segment] if segment.ref is not None:
                message = await self._media_message(segment)
            case _:
                message = outgoing.message(said) or outgoing.words(said)
        await self._unseen(self._client.ready())
        return partial(self._send, part, said, message)

    # --- hearing ---

    async def _look_on(self) -> None:
        """There is no connection to keep: ask for the token again and again."""
        misses = 0
        while True:
            try:
                await self._client.look()
                await self._who_we_are()
            except (PlatformError, Unreachable, Cut) as error:
                misses += 1
                _judge(error, misses)
            else:
                misses = 0
                self._host.connected()
            await asyncio.sleep(PROOF_EVERY_S)

    async def _stay_connected(self) -> None:
        await self._who_we_are()
        endpoint = await self._endpoint()
        if self._settings.base_url.startswith("https:") and not endpoint.url.startswith("wss:"):
            raise ChannelRefused("/base_url", "Feishu named a connection that is not encrypted")
        try:
            # Its own pings find out whether it is there.
            async with self._host.dial(endpoint.url, ping_every_s=None) as socket:
                await Connection(
                    socket,
                    service_id=endpoint.service_id,
                    config=endpoint.config,
                    decode=self._decode,
                    take=self._take,
                    alive=self._host.connected,
                    clock=self._clock,
                ).run()
        except HandshakeRefused as refused:
            if (code := _stop_code(refused)) is not None:
                raise ChannelRefused("/app_id", errors.endpoint_words(code)) from None
            raise ChannelDown(errors.endpoint_words(refused.status)) from None

    async def _endpoint(self) -> Endpoint:
        try:
            return await self._client.endpoint()
        except PlatformError as error:
            code = int(error.code)
            if errors.endpoint_action(code) == "retry":
                raise Unreachable from None
            path = "/app_secret" if code == errors.AUTH_FAILED else "/app_id"
            raise ChannelRefused(path, errors.endpoint_words(code)) from None

    async def _who_we_are(self) -> None:
        """Our own id, asked for once: groups bring everybody's words, and ours."""
        async with self._asking:
            if not self._bot_open_id:
                self._bot_open_id = await self._client.bot_open_id()

    def _decode(self, payload: bytes) -> Decoded | Rejected:
        return codec.decode(payload, app_id=self._settings.app_id, bot_open_id=self._bot_open_id)

    async def _take(self, said: Said) -> None:
        """Report it with its media in our store; raises NotAccepted."""
        message = said.message
        if not self._host.admitted([message]):
            return
        arrived = await asyncio.gather(*map(self._arrived, message.segments))
        segments = [each for found in arrived for each in found]
        await self._host.report([replace(message, segments=segments)])

    async def _arrived(self, segment: Segment) -> list[Segment]:
        if isinstance(segment, Forward):
            return [segment, *await self._forwarded(segment)]
        return [await self._arrivals.stored(segment)]

    async def _forwarded(self, segment: Forward) -> list[Segment]:
        """What the forwarded messages say; nothing where that cannot be had."""
        try:
            async with asyncio.timeout(FORWARD_WAIT_S):
                payload = await self._client.messages(segment.ref.id)
            words = codec.forwarded(payload, segment.ref.id)
        except (PlatformError, Refused, Unreachable, Cut, TimeoutError, ValueError) as error:
            log.warning("forwarded messages not fetched", reason=type(error).__name__)
            return []
        return [Text(text=words)] if words.strip() else []

    # --- sending ---

    async def _send(self, part: Outgoing, said: Sequence[Segment], message: Message) -> Sent:
        """As it should be; without its quote where that is gone; in words in the end.

        All tries have one key: after one that was refused nothing is there to be repeated.
        """
        handle, plain, uploaded = outgoing.handle(part), outgoing.words(said), True
        while True:
            try:
                return await self._post(part, message, handle)
            except SendFailed as failed:
                why = failed.error_class
                if why == "message_gone" and handle:
                    handle = {}
                elif why == "media_failed" and uploaded and (keys := outgoing.keys(message)):
                    # The platform has forgotten the medium before its time.
                    uploaded = False
                    for key in keys:
                        self._uploads.forget(key)
                    message = await self._media_message(said[0])
                elif why in _FALL_BACK and message != plain:
                    message = plain
                else:
                    raise

    async def _media_message(self, segment: Segment) -> Message:
        """What goes out for a medium: its upload, or words where the platform takes none."""
        # Each is whole in memory.
        async with self._room:
            content = await self._content(getattr(segment, "ref", None))
            kind = None if content is None else outgoing.upload_kind(segment, content)
            if content is None or kind is None:
                return outgoing.words([segment])
            try:
                key = await self._unseen(self._uploads.media_id(kind, content))
            except SendFailed as failed:
                if failed.error_class != "media_failed":
                    raise
                return outgoing.words([segment])
        return outgoing.media_message(kind, key, segment)

    async def _content(self, ref: Ref | None) -> Content | None:
        if ref is None or ref.via != "media":
            return None
        try:
            return await self._host.media.read(ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None

    async def _unseen(self, call: Awaitable[T]) -> T:
        """A call that nobody sees: once more does no harm."""
        try:
            return await call
        except PlatformError as error:
            raise _refusal(error) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except (Unreachable, Cut):
            raise SendFailed("server_busy", _BUSY) from None

    async def _post(self, part: Outgoing, message: Message, handle: Mapping[str, str]) -> Sent:
        call = outgoing.call(message, part.conversation, key=part.idempotency_key, handle=handle)
        try:
            return Sent(platform_message_id=await self._client.send(call))
        except PlatformError as error:
            if error.error_class == "duplicate_in_flight":
                raise SendUnknown("the same message is on its way already") from None
            raise _refusal(error) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", _BUSY) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None


def _stop_code(refused: HandshakeRefused) -> int | None:
    """Why the platform gives no connection, where that stays so; others may refuse, too."""
    for name in ("handshake-autherrcode", "handshake-status"):
        value = refused.headers.get(name, "")
        if value.isdecimal() and errors.endpoint_action(int(value)) == "stop":
            return int(value)
    return None


def _refusal(error: PlatformError) -> SendFailed:
    return SendFailed(error.error_class, _plain(error) or str(error), error.retry_after_s)


def _judge(error: Exception, misses: int) -> None:
    """End the channel for what is wrong, and for what stays away."""
    wrong = _wrong(error) if isinstance(error, PlatformError) else None
    if wrong is not None:
        raise wrong from None
    if misses >= MAX_MISSES:
        said_no = isinstance(error, PlatformError)
        raise ChannelRefused("/base_url", str(error) if said_no else _BUSY) from None


def _wrong(error: PlatformError) -> ChannelRefused | None:
    """Which setting to look at, in plain words; None when none is to blame."""
    words = _plain(error)
    if words is None:
        return None
    path = {"secret_invalid": "/app_secret", "no_permission": "/app_id"}
    return ChannelRefused(path.get(error.error_class, ""), words)


def _plain(error: PlatformError) -> str | None:
    if error.error_class == "secret_invalid":
        return "Feishu does not know this App ID with this App Secret"
    if error.code in _NO_BOT:
        return "this application has no bot: add 机器人 under 添加应用能力, then publish a version"
    if error.error_class == "ip_not_allowed":
        return "enter the address of this server in the application's IP 白名单"
    if error.error_class == "no_permission":
        return "the application lacks a permission: add it under 权限管理, then publish a version"
    return None
