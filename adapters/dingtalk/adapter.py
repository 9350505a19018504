"""A DingTalk robot as a channel: the stream or callbacks in, one call per part out."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar, NamedTuple, TypeVar

import structlog
from msgspec.structs import replace

from adapters.arrivals import CALLBACK_WAIT_S, Arrivals
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
from adapters.dingtalk import codec, outgoing
from adapters.dingtalk.callback import unseal
from adapters.dingtalk.client import Client
from adapters.dingtalk.codec import EXPIRES_AT, STAFF_ID, WEBHOOK, Said
from adapters.dingtalk.inflow import FETCH_WAIT_S, Inflow
from adapters.dingtalk.outgoing import Message
from adapters.dingtalk.settings import Settings
from adapters.dingtalk.stream import AWAY, Stream, permission
from adapters.model import (
    CallbackAnswer,
    File,
    Image,
    RawCallback,
    Ref,
    Rejected,
    Segment,
    Video,
    Voice,
)
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.uploads import Uploads

# Between two looks with callbacks, which prove that the credentials are still good.
PROOF_EVERY_S = 30.0
# Looks that may fail in a row: one is a bad moment, three are an outage.
MAX_MISSES = 3
# The platform does not say how long it keeps an upload; nobody has seen less than a day.
MEDIA_KEPT_S = 86_400.0
# Media sent at a time: each is whole in memory, up to 20 MB and as much again on the way out.
MAX_MEDIA_SENDS = 2
# An address for replies is left alone this long before its end.
EXPIRY_MARGIN_S = 60.0

_GONE = frozenset({"reply_handle_invalid", "window_expired"})

T = TypeVar("T")

log = structlog.get_logger()


class Target(NamedTuple):
    """The ways to a conversation: the address for replies, and the robot's API; each may lack."""

    webhook: str
    group: str
    staff_id: str

    @property
    def has_api(self) -> bool:
        return bool(self.group or self.staff_id)


class Adapter:
    """One robot (see `adapters.base.Adapter`)."""

    # Several connections share a robot's messages, so another one takes nothing of its own.
    exclusive: ClassVar[bool] = False

    def __init__(
        self,
        settings: Settings,
        host: Host,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._host = host
        self._now = now
        self._client = Client(
            host.http,
            api_url=settings.api_url,
            oapi_url=settings.oapi_url,
            client_id=settings.client_id,
            client_secret=settings.client_secret.get_secret_value(),
            clock=clock,
        )
        streams = settings.transport == "stream"
        self._arrivals = Arrivals(
            self._download, host.media, wait_s=FETCH_WAIT_S if streams else CALLBACK_WAIT_S
        )
        self._uploads = Uploads(self._client.upload, kept_s=MEDIA_KEPT_S, clock=clock)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)

    async def probe(self) -> None:
        """The credentials; with the stream also whether the robot may open one."""
        try:
            await self._client.look()
            if self._settings.transport == "stream":
                # A ticket that nobody uses ends by itself.
                await self._client.open_stream()
        except PlatformError as error:
            if wrong := _wrong(error):
                raise wrong from None
        except Refused as refused:
            raise ChannelRefused("/api_url", str(refused)) from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        try:
            if self._settings.transport == "stream":
                inflow = Inflow(self._host, self._arrivals)
                await Stream(self._client, self._host, inflow, clock=self._now).keep()
            else:
                await self._look_again_and_again()
        finally:
            await self._arrivals.close()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; the platform hears 200 once it is safe."""
        now = None if verified else request.received_at
        opened = unseal(request, self._settings, now=now)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if opened.is_event:
            return opened.answer
        said = codec.decode(opened.message)
        if isinstance(said, Rejected):
            log.warning("callback cannot be read", reason=said.reason)
            return CallbackAnswer(status=400, content_type="text/plain", body=b"")
        if isinstance(said, Said) and self._host.admitted([said.message]):
            segments = [await self._arrivals.stored(each) for each in said.message.segments]
            await self._host.report([replace(said.message, segments=segments)])
        return opened.answer

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return outgoing.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """The token, and the upload of a medium: nobody sees these."""
        to = self._target(part)
        first = part.segments[0]
        match first:
            case Image() | Voice() | Video() | File() if first.ref is not None:
                what = await self._medium(to, first, first.ref)
            case _:
                what = outgoing.message(part.segments)
        if what.webhook is None and not to.has_api:
            # Only the address for replies leads there, and it takes words alone.
            what = outgoing.words(part.segments)
        if to.has_api:
            await self._unseen(self._client.ready())
        return partial(self._send, to, part.segments, what)

    # --- running without a stream ---

    async def _look_again_and_again(self) -> None:
        misses = 0
        while True:
            try:
                await self._client.look()
            except Refused as refused:
                raise ChannelRefused("/api_url", str(refused)) from None
            except (PlatformError, Unreachable, Cut) as error:
                misses += 1
                wrong = _wrong(error) if isinstance(error, PlatformError) else None
                if wrong is not None:
                    raise wrong from None
                if misses >= MAX_MISSES:
                    raise ChannelDown(AWAY) from None
            else:
                misses = 0
                self._host.connected()
            await asyncio.sleep(PROOF_EVERY_S)

    def _download(self, ref: Ref) -> AsyncGenerator[bytes]:
        return self._client.download(ref.id, ref.more.get("robot_code") or self._settings.robot)

    # --- sending ---

    def _target(self, part: Outgoing) -> Target:
        handle, to = part.reply_handle, part.conversation
        if to.type not in ("direct", "group"):
            raise SendFailed("recipient_invalid", "neither a person nor a group")
        target = Target(
            webhook=self._open_webhook(handle),
            group=to.id if to.type == "group" else "",
            staff_id=handle.get(STAFF_ID, "") if to.type == "direct" else "",
        )
        if not target.webhook and not target.has_api:
            raise SendFailed(
                "window_expired",
                "this person is no member of the company: DingTalk lets the robot answer only for "
                "a while after their message",
            )
        return target

    def _open_webhook(self, handle: dict[str, str]) -> str:
        """The address for replies; empty where it has ended, or leads to another host."""
        address = handle.get(WEBHOOK, "")
        if not address or not self._client.takes_replies_at(address):
            return ""
        try:
            ends_at = float(handle.get(EXPIRES_AT, "0"))
        except ValueError:
            return ""
        return address if self._now() < ends_at - EXPIRY_MARGIN_S else ""

    async def _send(self, to: Target, segments: Sequence[Segment], what: Message) -> Sent:
        try:
            return await self._post(to, what)
        except SendFailed as failed:
            if not _is_medium(segments[0]) or failed.error_class not in (
                "media_failed",
                "content_invalid",
            ):
                raise
            log.warning("medium not taken, said in words", reason=failed.detail)
        # The platform took nothing, so words may go in its place.
        return await self._post(to, outgoing.words(segments))

    async def _post(self, to: Target, what: Message) -> Sent:
        if to.webhook and what.webhook is not None:
            try:
                await self._seen(self._client.reply(to.webhook, what.webhook))
            except SendFailed as failed:
                if failed.error_class not in _GONE or not to.has_api:
                    raise _without_window(failed) from None
                # It ended before its time, and nobody saw anything: the API goes on.
            else:
                # An answer by this way has no id.
                return Sent(platform_message_id="")
        robot = self._settings.robot
        if to.group:
            path, body = outgoing.GROUP_PATH, outgoing.group(robot, to.group, what)
        else:
            path, body = outgoing.DIRECT_PATH, outgoing.direct(robot, to.staff_id, what)
        return Sent(platform_message_id=await self._seen(self._client.send(path, body)))

    async def _medium(self, to: Target, segment: Segment, ref: Ref) -> Message:
        """Its upload, or words where the platform takes none."""
        in_words = outgoing.words([segment])
        if not to.has_api and not isinstance(segment, Image):
            return in_words
        # Each is whole in memory.
        async with self._room:
            content = await self._content(ref)
            kind = None if content is None else outgoing.upload_kind(segment, content)
            if content is None or kind is None:
                return in_words
            try:
                media_id = await self._unseen(self._uploads.media_id(kind, content))
                cover = await self._cover(segment) if kind == "video" else ""
            except SendFailed as failed:
                if failed.error_class not in ("media_failed", "content_invalid"):
                    raise
                return in_words
        if kind == "image":
            return outgoing.picture(media_id)
        if kind == "video" and not cover:
            return in_words
        return outgoing.media(kind, media_id, segment, content, cover)

    async def _cover(self, segment: Segment) -> str:
        thumb = getattr(segment, "thumb", None)
        content = None if thumb is None else await self._content(thumb)
        if content is None:
            return ""
        return await self._unseen(self._uploads.media_id("image", content))

    async def _content(self, ref: Ref) -> Content | None:
        if ref.via != "media":
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
            return await self._seen(call)
        except SendUnknown:
            raise SendFailed("server_busy", AWAY) from None

    async def _seen(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except PlatformError as error:
            raise _refusal(error) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", AWAY) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None


def _is_medium(segment: Segment) -> bool:
    return isinstance(segment, Image | Voice | Video | File)


def _refusal(error: PlatformError) -> SendFailed:
    wrong = _wrong(error)
    return SendFailed(error.error_class, wrong.detail if wrong else str(error), error.retry_after_s)


def _without_window(failed: SendFailed) -> SendFailed:
    """The address for replies was the only way."""
    if failed.error_class not in _GONE:
        return failed
    return SendFailed("window_expired", "the address for replies to this person has ended")


def _wrong(error: PlatformError) -> ChannelRefused | None:
    """Which setting to look at, in plain words; None when none is to blame."""
    if error.error_class == "secret_invalid":
        return ChannelRefused("/client_secret", str(error))
    if str(error.code).lower().startswith("invalidparameter.robotcode"):
        return ChannelRefused("/robot_code", "DingTalk does not know this RobotCode")
    if error.error_class in ("no_permission", "ip_not_allowed"):
        return ChannelRefused("", permission(error))
    return None
