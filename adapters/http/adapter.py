"""A tenant's own system as a channel: its signed calls in, ours out, and a ping between."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Annotated, ClassVar

import msgspec
import structlog
from msgspec.structs import replace

from adapters import platform, standard_webhooks
from adapters.arrivals import Arrivals
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
from adapters.http import codec
from adapters.http.callback import RECEIVED, verify
from adapters.http.settings import Settings
from adapters.model import CallbackAnswer, Challenge, RawCallback, Ref, Rejected, Segment
from adapters.outbound import Refused
from adapters.platform import MEDIA_TIMEOUT_S, Cut, PlatformError, Unreachable

# Between two pings, which prove that the system is there and takes our signature.
PROOF_EVERY_S = 30.0
# Pings that may fail in a row: one is a restart of the system, three are an outage.
MAX_MISSES = 3
# Bytes of one medium that we fetch.
MAX_MEDIA_BYTES = 20 * 1024 * 1024
# Messages with media that are made ready at a time: each is whole in memory, twice.
MAX_MEDIA_SENDS = 2
# A pause that a receiver asks for beyond this is a mistake.
MAX_RETRY_AFTER_S = 3600.0

AWAY = "your system cannot be reached"
GONE = (
    "your system answered 410 Gone, which asks us to stop; when it takes messages again, this "
    "channel goes on by itself"
)
_CLASSES = {
    401: "secret_invalid",
    403: "secret_invalid",
    404: "recipient_invalid",
    410: "no_permission",
    413: "too_long",
    429: "rate_limited",
    503: "server_busy",
}
_UNSIGNED = "your system does not take our signature: compare the secret"

log = structlog.get_logger()


class _Moved(msgspec.Struct):
    moved_to: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern="^[^\\x00]+$")]


class _Taken(msgspec.Struct):
    id: str = ""


class Adapter:
    """One system (see `adapters.base.Adapter`)."""

    exclusive: ClassVar[bool] = False

    def __init__(
        self, settings: Settings, host: Host, *, now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._host = host
        self._now = now
        self._keys = [standard_webhooks.Key(secret) for secret in settings.secrets]
        self._arrivals = Arrivals(self._download, host.media)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)
        self._pings = 0

    async def probe(self) -> None:
        """A ping; a system that is away is not the settings' fault."""
        try:
            await self._ping()
        except PlatformError as error:
            if wrong := _wrong(error):
                raise wrong from None
        except Refused as refused:
            raise ChannelRefused("/url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        """There is no connection to keep: ping again and again."""
        misses = 0
        try:
            while True:
                try:
                    await self._ping()
                except Refused as refused:
                    raise ChannelRefused("/url", str(refused)) from None
                except (PlatformError, Unreachable, Cut) as error:
                    misses += 1
                    _judge(error, misses)
                else:
                    misses = 0
                    self._host.connected()
                await asyncio.sleep(PROOF_EVERY_S)
        finally:
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the system hears 200 once it is kept."""
        found = verify(request, self._settings, now=None if verified else request.received_at)
        if isinstance(found, Rejected):
            return _refusal(401, found.reason)
        if isinstance(found, Challenge):
            return found.answer
        message = codec.decode(request.body, received_at=request.received_at)
        if isinstance(message, Rejected):
            return _refusal(400, message.reason)
        if not self._host.admitted([message]):
            return RECEIVED
        segments = [await self._arrivals.stored(each) for each in message.segments]
        await self._host.report([replace(message, segments=segments)])
        return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The bytes of media, which nobody sees before they go out."""
        wanted = codec.refs(part.segments)
        if not wanted:
            return partial(self._send, part.idempotency_key, codec.encode(part, {}))
        # Each is whole in memory, and encoded beside the loop.
        async with self._room:
            contents = await self._contents(wanted)
            body = await asyncio.to_thread(codec.encode, part, contents)
            headers = await asyncio.to_thread(self._signed, part.idempotency_key, body)
        return partial(self._send, part.idempotency_key, body, headers)

    # --- the calls ---

    async def _ping(self) -> None:
        self._pings += 1
        await self._post(f"ping_{int(self._now())}_{self._pings}", codec.ping())

    async def _send(
        self, message_id: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Sent:
        try:
            return Sent(platform_message_id=await self._post(message_id, body, headers))
        except PlatformError as error:
            wrong = _wrong(error)
            detail = wrong.detail if wrong else str(error)
            raise SendFailed(
                error.error_class, detail, error.retry_after_s, moved_to=error.moved_to
            ) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", AWAY) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None

    async def _post(
        self, message_id: str, body: bytes, headers: dict[str, str] | None = None
    ) -> str:
        """One signed call; the id that the system gave the message, if it did."""
        async with platform.called(
            self._host.http,
            "POST",
            self._settings.url,
            body=body,
            headers=headers or self._signed(message_id, body),
        ) as response:
            status = response.status_code
            if status >= 500 and not (status == 503 and "retry-after" in response.headers):
                # Whatever stands before the system gave up; the system may have acted.
                raise Cut
            if not 200 <= status < 300:
                retry = retry_after(response.headers.get("retry-after", ""), now=self._now())
                found = _CLASSES.get(status, "content_invalid")
                said = f"your system answered {status}"
                if status == 409 and (place := _place(await platform.read(response))):
                    moved = PlatformError(status, "chat_moved", said)
                    moved.moved_to = place
                    raise moved
                raise PlatformError(status, found, said, retry_after_s=retry)
            content = await platform.read(response)
        try:
            return msgspec.json.decode(content, type=_Taken).id[:200].replace("\0", "")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return ""

    def _signed(self, message_id: str, body: bytes) -> dict[str, str]:
        """Signed by both secrets, so that the other side may change when it likes."""
        stamp = str(int(self._now()))
        signatures = [f"v1,{key.signature(message_id, stamp, body)}" for key in self._keys]
        return {
            standard_webhooks.ID: message_id,
            standard_webhooks.TIMESTAMP: stamp,
            standard_webhooks.SIGNATURE: " ".join(signatures),
            "content-type": "application/json",
        }

    # --- media ---

    async def _download(self, ref: Ref) -> AsyncGenerator[bytes]:
        try:
            async with platform.called(
                self._host.http, "GET", ref.more["url"], timeout_s=MEDIA_TIMEOUT_S
            ) as response:
                if response.status_code >= 500:
                    raise Cut
                if response.status_code != 200:
                    raise PlatformError(
                        response.status_code, "media_failed", "there are no bytes at this address"
                    )
                async with aclosing(platform.chunks(response, max_bytes=MAX_MEDIA_BYTES)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except Refused as refused:
            raise PlatformError("address", "media_failed", str(refused)) from None

    async def _contents(self, wanted: Sequence[Ref]) -> dict[str, Content]:
        """The bytes by their id, as far as a message may have them."""
        contents: dict[str, Content] = {}
        size = 0
        for ref in wanted:
            if size < codec.MAX_INLINE_BYTES and (content := await self._content(ref)):
                contents[ref.id] = content
                size += len(content.body)
        return contents

    async def _content(self, ref: Ref) -> Content | None:
        if ref.via != "media":
            return None
        try:
            return await self._host.media.read(ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None


def _place(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=_Moved).moved_to
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def retry_after(text: str, *, now: float) -> float | None:
    """Seconds of a Retry-After header, in either of its forms; None where there is none."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(at - now, 0.0), MAX_RETRY_AFTER_S)


def _judge(error: Exception, misses: int) -> None:
    """End the channel for what is wrong, and for what stays away."""
    wrong = _wrong(error) if isinstance(error, PlatformError) else None
    if wrong is not None:
        raise wrong from None
    if misses >= MAX_MISSES:
        raise ChannelDown(str(error) if isinstance(error, PlatformError) else AWAY) from None


def _wrong(error: PlatformError) -> ChannelRefused | None:
    """Which setting to look at, in plain words; None when none is to blame."""
    if error.code == 410:
        return ChannelRefused("/url", GONE)
    if error.error_class == "secret_invalid":
        return ChannelRefused("/secret", _UNSIGNED)
    if isinstance(error.code, int) and 300 <= error.code < 400:
        return ChannelRefused("/url", "this address leads elsewhere: enter the one it leads to")
    return None


def _refusal(status: int, reason: str) -> CallbackAnswer:
    """The tenant's own developers read this."""
    body = msgspec.json.encode({"error": reason})
    return CallbackAnswer(status=status, body=body)
