"""A QQ account as a channel: its client opens a socket to us, or calls us and is called by HTTP."""

import asyncio
import base64
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from adapters import platform
from adapters.arrivals import CALLBACK_WAIT_S, GIVE_UP_S, Arrivals
from adapters.base import (
    Attempt,
    ChannelRefused,
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
    File,
    Forward,
    Image,
    Inbound,
    RawCallback,
    Ref,
    Rejected,
    Reply,
    Segment,
    Sticker,
    Video,
    Voice,
)
from adapters.onebot import codec, outgoing
from adapters.onebot.callback import RECEIVED, verify
from adapters.onebot.calls import REPLACED, STATUS, Calls, Http, Line, Nobody
from adapters.onebot.codec import Decoded, Meta
from adapters.onebot.inbox import Inbox
from adapters.onebot.outgoing import Call
from adapters.onebot.settings import Settings
from adapters.outbound import Refused
from adapters.platform import MEDIA_TIMEOUT_S, Cut, PlatformError, Unreachable
from adapters.sockets import Socket

# How long a client may stay away before the channel says so; clients come back in 5 to 30 s.
WAIT_S = 60.0
# HTTP: between looks at the account, and how many may fail in a row.
PROOF_EVERY_S = 20.0
MAX_MISSES = 2
# In a row; one may come from a moment in which QQ connects anew.
MAX_OFFLINE = 2
# Sockets that replaced another within a minute: two clients that drive each other out.
MAX_REPLACED = 5
_MINUTE_S = 60.0
# How long a message waits for its turn here rather than at the control plane.
MAX_TURN_S = 5.0
# What is asked of the client besides, for one message: what it quotes, and forwarded talks.
LOOK_UP_S = 5.0
MAX_LOOK_UPS = 4
# Media sent at a time: each is in memory, and once more as text.
MAX_MEDIA_SENDS = 2
# For a place among these, and for the bytes; with the call, less than a send may take.
ROOM_S = 4.0
READ_S = 8.0
# Bytes of one medium that comes in.
MAX_ARRIVING_BYTES = 20 * 1024 * 1024

NOBODY = (
    "no QQ client is connected: enter this channel's address and token in the client "
    "(反向 WebSocket) and look whether it runs"
)
OFFLINE = "the QQ account is offline: log in again in the client (NapCat)"
TAKING_TURNS = "two QQ clients drive each other out: switch one of them off"
_AWAY = "the QQ client cannot be reached"
# Hosts of QQ, whose pictures come by either scheme.
_QQ = (".qq.com", ".qpic.cn", ".qq.com.cn")

log = structlog.get_logger()


class Adapter:
    """One account (see `adapters.base.TakesSockets`)."""

    # The client comes to us, and we say to whom: nobody else can have the account meanwhile.
    exclusive: ClassVar[bool] = False

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._by_http = settings.transport == "http"
        self._http = Http(
            host.http, url=settings.api_url, token=settings.access_token.get_secret_value()
        )
        # A callback may come again; what a socket said never does.
        wait_s = CALLBACK_WAIT_S if self._by_http else GIVE_UP_S + LOOK_UP_S
        self._arrivals = Arrivals(self._download, host.media, wait_s=wait_s)
        self._inbox = Inbox(self._filled, self._report, bare=_bare)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)
        self._line: Line | None = None
        self._running = False
        self._trouble: str | None = None
        self._offline = 0
        self._replaced: deque[float] = deque(maxlen=MAX_REPLACED)
        self._news = asyncio.Event()
        self._free_at = 0.0

    async def probe(self) -> None:
        """By HTTP: whether the client can be called, and is this account's.

        A socket comes only once the channel, and so its address, exists.
        """
        if not self._by_http:
            return
        try:
            await self._look()
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        """Wait for the client's socket and its end; or look at the account again and again."""
        self._running = True
        try:
            await (self._look_on() if self._by_http else self._stand_by())
        finally:
            self._running = False
            await self._inbox.close()
            await self._arrivals.close()

    async def socket(self, connection: Socket) -> None:
        """One connection of the client; a newer one takes its place."""
        if not self._running or self._by_http:
            raise NotAccepted("the channel takes no sockets now")
        line = Line(connection, clock=self._clock)
        former, self._line = self._line, line
        self._news.set()
        try:
            if former is not None:
                self._note_replaced()
                await former.close(REPLACED)
            await line.serve(self._heard)
        finally:
            if self._line is line:
                self._line = None
                self._news.set()
                self._host.disconnected()

    async def callback(self, request: RawCallback, *, verified: bool) -> CallbackAnswer:
        """Report what was said; `verified` changes nothing, since a client signs no time."""
        found = verify(request, self._settings, now=request.received_at)
        if isinstance(found, Rejected):
            return CallbackAnswer(status=found.status, content_type="text/plain", body=b"")
        fields = codec.read(request.body)
        event = fields if isinstance(fields, Rejected) else codec.decode(fields)
        match event:
            case Inbound() if self._is_ours(event):
                if self._host.admitted([event]):
                    await self._report(await self._filled(event))
            case Meta():
                self._note(event)
            case Rejected() | codec.Answer():
                log.warning("callback cannot be read")
                return CallbackAnswer(status=400, content_type="text/plain", body=b"")
        return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return outgoing.split(segments)

    async def prepare(self, part: Outgoing) -> Attempt:
        """Somebody to say it to, a client to say it, and its turn."""
        try:
            outgoing.send(part.conversation, part.reply_handle, [])
        except ValueError as error:
            raise SendFailed("recipient_invalid", str(error)) from None
        if isinstance(self._calls, Nobody):
            raise SendFailed("server_busy", NOBODY, retry_after_s=MAX_TURN_S)
        await self._turn()
        return partial(self._send, part)

    # --- the account ---

    @property
    def _calls(self) -> Calls:
        if self._by_http:
            return self._http
        return self._line or Nobody()

    async def _stand_by(self) -> None:
        while self._trouble is None:
            self._news.clear()
            try:
                async with asyncio.timeout(WAIT_S if self._line is None else None):
                    await self._news.wait()
            except TimeoutError:
                raise ChannelRefused("", NOBODY) from None
        raise ChannelRefused("", self._trouble)

    async def _look_on(self) -> None:
        misses = 0
        while True:
            try:
                await self._look()
                answer = await self._http.ask(STATUS)
            except (PlatformError, Unreachable, Cut) as error:
                misses += 1
                log.info("client not reached", reason=type(error).__name__)
                if misses >= MAX_MISSES:
                    raise ChannelRefused("/api_url", _AWAY) from None
            else:
                misses = 0
                self._note(Meta(event="heartbeat", online=codec.online(answer.data)))
            if self._trouble is not None:
                raise ChannelRefused("", self._trouble)
            await asyncio.sleep(PROOF_EVERY_S)

    async def _look(self) -> None:
        """Raises ChannelRefused for what is wrong with the settings."""
        try:
            answer = await self._http.ask(Call("get_login_info", {}))
        except Refused as refused:
            raise ChannelRefused("/api_url", str(refused)) from None
        except PlatformError as error:
            if error.error_class != "secret_invalid":
                raise
            raise ChannelRefused(
                "/access_token", "the client does not take this token: enter the same in both"
            ) from None
        login = answer.data if isinstance(answer.data, dict) else {}
        if str(login.get("user_id", self._settings.self_id)) != self._settings.self_id:
            raise ChannelRefused("/self_id", "the client runs another QQ account")

    def _note(self, meta: Meta) -> None:
        """What the client says of itself and the account."""
        if meta.online is None:
            return
        self._offline = 0 if meta.online else self._offline + 1
        if meta.online:
            self._host.connected()
        elif self._offline >= MAX_OFFLINE:
            self._trouble = OFFLINE
            self._news.set()

    def _note_replaced(self) -> None:
        now = self._clock()
        log.warning("a newer socket takes this one's place")
        self._replaced.append(now)
        if len(self._replaced) == MAX_REPLACED and now - self._replaced[0] < _MINUTE_S:
            self._trouble = TAKING_TURNS
            self._news.set()

    # --- in ---

    async def _heard(self, event: Decoded | Rejected) -> None:
        match event:
            case Inbound() if self._is_ours(event):
                self._host.connected()
                if self._host.admitted([event]):
                    await self._inbox.put(event)
            case Meta():
                self._note(event)
            case Rejected():
                log.warning("frame cannot be read", reason=event.reason)

    def _is_ours(self, message: Inbound) -> bool:
        return message.dedupe_key.startswith(f"{self._settings.self_id}:")

    async def _report(self, message: Inbound) -> None:
        await self._host.report([message])

    async def _filled(self, message: Inbound) -> Inbound:
        """With what it quotes and forwards, and its media; raises NotAccepted."""
        found: list[Segment] = []
        to_bot = message.mentions_bot
        for number, each in enumerate(message.segments):
            match each:
                case Reply(message_id=str(quoted_id)) if number < MAX_LOOK_UPS:
                    reply, was_ours = await self._quoted(each, quoted_id)
                    to_bot = to_bot or was_ours
                    found.append(reply)
                case Forward() if number < MAX_LOOK_UPS:
                    data = await self._look_up("get_forward_msg", {"id": each.ref.id})
                    card = codec.forwarded(data, self_id=self._settings.self_id)
                    found.append(card or each)
                case _:
                    found.append(await self._arrivals.stored(_asked(each, message)))
        return replace(message, segments=found, mentions_bot=to_bot)

    async def _quoted(self, reply: Reply, quoted_id: str) -> tuple[Reply, bool]:
        data = await self._look_up("get_msg", {"message_id": _as_id(quoted_id)})
        found = codec.quoted(data, self_id=self._settings.self_id)
        if found is None:
            return reply, False
        segments, was_ours = found
        return replace(reply, quoted=segments), was_ours

    async def _look_up(self, action: str, params: dict[str, Any]) -> Any:
        """None where the client does not say it in time: the message goes on without."""
        patience = CALLBACK_WAIT_S if self._by_http else LOOK_UP_S
        try:
            answer = await self._calls.ask(Call(action, params), timeout_s=patience)
        except (PlatformError, Unreachable, Cut, Refused):
            return None
        return answer.data

    async def _download(self, ref: Ref) -> AsyncGenerator[bytes]:
        url = ref.more.get("url", "")
        if not url:
            params = {"file_id": ref.id, "file": ref.id}
            if ref.more.get("group_id"):
                params["group_id"] = ref.more["group_id"]
            answer = await self._calls.ask(Call(ref.more["ask"], params))
            url = codec.url_in(answer.data)
        if not url:
            raise PlatformError("url", "media_failed", "the client has no address for it")
        async with platform.called(
            self._host.http, "GET", _by_https(url), timeout_s=MEDIA_TIMEOUT_S
        ) as response:
            if response.status_code >= 500:
                raise Cut
            if response.status_code != 200:
                status = response.status_code
                raise PlatformError(status, "media_failed", f"its address answered {status}")
            async with aclosing(platform.chunks(response, max_bytes=MAX_ARRIVING_BYTES)) as chunks:
                async for chunk in chunks:
                    yield chunk

    # --- out ---

    async def _turn(self) -> None:
        now = self._clock()
        wait_s = max(0.0, self._free_at - now)
        if wait_s > MAX_TURN_S:
            raise SendFailed("rate_limited", "QQ accounts must not write faster", wait_s)
        self._free_at = now + wait_s + self._settings.spacing_s
        await asyncio.sleep(wait_s)

    async def _send(self, part: Outgoing) -> Sent:
        brought = outgoing.medium(part.segments)
        if brought is None:
            return await self._say(part)
        async with self._place():
            media = await self._inline(brought[1])
            try:
                return await self._say(part, media)
            except SendFailed as failed:
                if not media or failed.error_class != "media_failed":
                    raise
        # QQ did not take the medium, so nothing was sent; its name says at least what it was.
        return await self._say(part)

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(ROOM_S):
                await self._room.acquire()
        except TimeoutError:
            raise SendFailed("server_busy", "other pictures are being sent", 1.0) from None
        try:
            yield
        finally:
            self._room.release()

    async def _inline(self, ref: Ref) -> str:
        """The bytes as a client takes them inside a call; empty where words have to do."""
        if ref.via != "media":
            return ""
        try:
            async with asyncio.timeout(READ_S):
                content = await self._host.media.read(ref)
        except MediaRefused:
            return ""
        except (NotAccepted, TimeoutError):
            raise SendFailed("server_busy", "the media store cannot be reached") from None
        if len(content.body) > outgoing.MAX_MEDIUM_BYTES:
            return ""
        return "base64://" + (await asyncio.to_thread(base64.b64encode, content.body)).decode()

    async def _say(self, part: Outgoing, media: str = "") -> Sent:
        in_group = part.conversation.type == "group"
        message = outgoing.message(part.segments, in_group=in_group, media=media)
        call = outgoing.send(part.conversation, part.reply_handle, message)
        try:
            answer = await self._calls.ask(call)
        except PlatformError as error:
            raise SendFailed(error.error_class, str(error), error.retry_after_s) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except Unreachable:
            raise SendFailed("server_busy", _AWAY) from None
        except Cut:
            raise SendUnknown("the client did not say whether it was sent") from None
        return Sent(platform_message_id=codec.message_id(answer.data) or "")


def _asked(segment: Segment, message: Inbound) -> Segment:
    """With how to ask for its address, where the client did not say it."""
    match segment:
        case File():
            in_group = message.conversation.type == "group"
            action = "get_group_file_url" if in_group else "get_private_file_url"
        case Image() | Sticker():
            action = "get_image"
        case Voice() | Video():
            action = "get_file"
        case _:
            return segment
    if segment.ref is None or segment.ref.more.get("url"):
        return segment
    # Without an address only the message tells two files of one name apart.
    more = {"ask": action, "in": message.dedupe_key}
    if message.conversation.type == "group":
        more["group_id"] = message.conversation.id
    return replace(segment, ref=replace(segment.ref, more=more))


def _bare(message: Inbound) -> Inbound:
    return replace(message, segments=[codec.bare(each) for each in message.segments])


def _as_id(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdigit() and text.isascii() else text


def _by_https(url: str) -> str:
    """QQ's own hosts answer by either scheme, and clients name the plain one."""
    parts = urlsplit(url)
    if parts.scheme == "http" and (parts.hostname or "").endswith(_QQ):
        return "https" + url.removeprefix("http")
    return url
