"""A WeCom application as a channel: callbacks in, one call per part out, looks at it between."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import structlog
from msgspec.structs import replace

from adapters import wx_json, wx_xml
from adapters.base import (
    ChannelRefused,
    Content,
    Host,
    Media,
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
    Image,
    Inbound,
    RawCallback,
    Ref,
    Rejected,
    Segment,
    Video,
    Voice,
)
from adapters.wecom import codec
from adapters.wecom.arrivals import Arrivals
from adapters.wecom.callback import RECEIVED, Opened, unseal
from adapters.wecom.client import Client, Cut, PlatformError, Unreachable
from adapters.wecom.codec import Notice
from adapters.wecom.settings import Settings
from adapters.wx_aes import RANDOM_BYTES

# Between two looks, which prove that secret, address and application are still good.
PROOF_EVERY_S = 60.0
# Looks that may fail in a row: one is a bad moment, three are an outage.
MAX_MISSES = 3
# The platform keeps an upload for three days; the last hour is for sends under way.
UPLOAD_KEPT_S = 3 * 86_400 - 3_600
# Uploads remembered: a company's price lists and pictures, sent again and again.
MAX_UPLOADS = 500
# Media sent at a time: each is whole in memory, up to 20 MB and as much again on the way out.
MAX_MEDIA_SENDS = 2

_WRONG_COMPANY = frozenset({40013})
_WRONG_APPLICATION = frozenset({40056, 301002})
_BUSY = "WeCom cannot be reached"

log = structlog.get_logger()


class Adapter:
    """One application (see `adapters.base.Adapter`)."""

    # Callbacks come to an address, and any number of clients may share a token.
    exclusive: ClassVar[bool] = False

    def __init__(
        self, settings: Settings, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._host = host
        self._media: Media | None = getattr(host, "media", None)
        self._client = Client(
            host.http,
            base_url=settings.base_url,
            corp_id=settings.corp_id,
            secret=settings.secret.get_secret_value(),
            clock=clock,
        )
        self._arrivals = Arrivals(self._client, self._media)
        self._uploads = Uploads(self._client, clock)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)

    async def probe(self) -> None:
        """Company, secret and application; not the address of this server.

        The console takes trusted addresses only after it has checked the callback address, and
        there is one only once the channel exists. So the channel itself says what is missing, and
        recovers by itself.
        """
        try:
            await self._client.look(self._settings.agent_id)
        except PlatformError as error:
            if error.error_class != "ip_not_allowed" and (wrong := _wrong(error)):
                raise wrong from None
        except (Unreachable, Cut):
            return

    async def run(self) -> None:
        """There is no connection to keep: look at the application again and again."""
        misses = 0
        try:
            while True:
                try:
                    await self._client.look(self._settings.agent_id)
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
        """Report what was said; the platform hears 200 once it is kept."""
        now = None if verified else request.received_at
        opened = unseal(request, self._settings, now=now)
        if isinstance(opened, Rejected):
            return CallbackAnswer(status=401, content_type="text/plain", body=b"")
        if request.method == "GET":
            return CallbackAnswer(content_type="text/plain", body=opened.message)
        decoded = codec.decode(opened.message)
        match decoded:
            case Rejected():
                log.warning("callback cannot be read", reason=decoded.reason)
                return CallbackAnswer(status=400, content_type="text/plain", body=b"")
            case Inbound():
                segments = [await self._arrivals.stored(each) for each in decoded.segments]
                await self._host.report([replace(decoded, segments=segments)])
                return RECEIVED
            case Notice(event="subscribe") if self._settings.greeting:
                return self._greet(decoded.sender_id, request, opened)
            case _:
                # Nobody said anything: there is nothing to keep.
                return RECEIVED

    def split(self, segments: Sequence[Segment]) -> list[list[Segment]]:
        return codec.split(segments)

    async def send(self, part: Outgoing) -> Sent:
        to = part.conversation.id
        # `|` joins recipients and `@all` is the whole company: neither is one person.
        if part.conversation.type != "direct" or "|" in to or to.startswith("@"):
            raise SendFailed("recipient_invalid", "not a member of the company")
        [segment] = part.segments
        match segment:
            case Image() | Voice() | Video() | File() if segment.ref is not None:
                async with self._room:
                    return await self._send_media(to, segment, segment.ref)
            case _:
                return await self._post(to, codec.body(segment) or codec.words(segment))

    # --- sending ---

    async def _send_media(self, to: str, segment: Segment, ref: Ref) -> Sent:
        content = await self._content(ref)
        kind = None if content is None else codec.upload_kind(segment, content)
        if content is None or kind is None:
            return await self._post(to, codec.words(segment))
        try:
            media_id = await self._upload(kind, content)
            try:
                return await self._post(to, codec.media_body(kind, media_id, segment))
            except SendFailed as failed:
                if failed.error_class != "media_failed":
                    raise
                # The platform has forgotten it before its time.
                self._uploads.forget(kind, content)
            media_id = await self._upload(kind, content)
            return await self._post(to, codec.media_body(kind, media_id, segment))
        except SendFailed as failed:
            if failed.error_class != "media_failed":
                raise
        return await self._post(to, codec.words(segment))

    async def _content(self, ref: Ref) -> Content | None:
        if self._media is None or ref.via != "media":
            return None
        try:
            return await self._media.read(ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None

    async def _upload(self, kind: str, content: Content) -> str:
        try:
            return await self._uploads.media_id(kind, content)
        except PlatformError as error:
            raise _refusal(error) from None
        except (Unreachable, Cut):
            # Nobody sees an upload: once more does no harm.
            raise SendFailed("server_busy", _BUSY) from None

    async def _post(self, to: str, body: codec.Body) -> Sent:
        addressed: dict[str, Any] = {"touser": to, "agentid": self._settings.agent_id, **body}
        try:
            return Sent(platform_message_id=await self._client.send(addressed))
        except PlatformError as error:
            raise _refusal(error) from None
        except Unreachable:
            raise SendFailed("server_busy", _BUSY) from None
        except Cut:
            raise SendUnknown("the connection was cut") from None

    def _greet(self, to: str, request: RawCallback, opened: Opened) -> CallbackAnswer:
        """The passive reply: the answer to the callback is itself a message, closed as that was."""
        at = int(request.received_at)
        text = codec.passive_text(
            to=to,
            sender=self._settings.corp_id,
            at=at,
            text=self._settings.greeting,
            as_json=opened.is_json,
        )
        answer = opened.envelope.seal(
            text,
            timestamp=str(at),
            nonce=secrets.token_hex(8),
            random16=secrets.token_bytes(RANDOM_BYTES),
        )
        if opened.is_json:
            return CallbackAnswer(body=wx_json.sealed(answer))
        return CallbackAnswer(content_type="text/xml", body=wx_xml.sealed(answer))


class Uploads:
    """Media ids by content, for as long as the platform keeps them."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    async def media_id(self, kind: str, content: Content) -> str:
        """The id of these bytes at the platform, uploaded if it has none."""
        key = (kind, content.sha256)
        known = self._known.get(key)
        if known is not None and self._clock() < known[1]:
            self._known.move_to_end(key)
            return known[0]
        begun = self._clock()
        media_id = await self._client.upload(kind, content)
        self._known[key] = (media_id, begun + UPLOAD_KEPT_S)
        self._known.move_to_end(key)
        if len(self._known) > MAX_UPLOADS:
            self._known.popitem(last=False)
        return media_id

    def forget(self, kind: str, content: Content) -> None:
        self._known.pop((kind, content.sha256), None)


def _refusal(error: PlatformError) -> SendFailed:
    return SendFailed(error.error_class, _plain(error) or str(error))


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
    if error.errcode in _WRONG_COMPANY:
        path = "/corp_id"
    elif error.errcode in _WRONG_APPLICATION:
        path = "/agent_id"
    elif error.error_class == "ip_not_allowed":
        path = ""
    elif error.error_class == "secret_invalid":
        path = "/secret"
    else:
        return None
    return ChannelRefused(path, _plain(error) or str(error))


def _plain(error: PlatformError) -> str | None:
    if error.errcode in _WRONG_COMPANY:
        return "WeCom does not know this company id"
    if error.error_class == "ip_not_allowed":
        where = f" {error.address}" if error.address else ""
        return f"enter the address of this server{where} in WeCom's console under 企业可信IP"
    if error.error_class == "secret_invalid":
        return "WeCom does not know this secret"
    if error.errcode in _WRONG_APPLICATION:
        return "this secret does not belong to the application with this AgentId"
    return None
