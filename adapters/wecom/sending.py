"""What leaves through one secret of a company: media uploaded before, and every no in plain words.

A medium goes out as its upload, and as words where WeCom takes none of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from adapters.base import (
    ChannelRefused,
    Content,
    Media,
    MediaRefused,
    NotAccepted,
    SendFailed,
    SendUnknown,
    Sent,
)
from adapters.model import Ref, Segment
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.uploads import Uploads
from adapters.wecom import codec
from adapters.wecom.client import Client

# The platform keeps an upload for three days; the last hour is for sends under way.
MEDIA_KEPT_S = 3 * 86_400 - 3_600
# Media sent at a time: each is whole in memory, up to 20 MB and as much again on the way out.
MAX_MEDIA_SENDS = 2
BUSY = "WeCom cannot be reached"

_WRONG_COMPANY = frozenset({40013})
_WORDS = {
    40013: "WeCom does not know this company id",
    95000: "WeCom does not know this customer service account",
    95001: "the customer has had five messages since their last one, and WeCom takes no more",
    95002: "the customer's last message is more than 48 hours old",
    95013: "the session has ended; it opens again when the customer writes",
    95018: "WeCom lets the API send nothing in this state of the session",
}


class Blame(NamedTuple):
    """A setting to look at, as a JSON pointer, and what to say of it."""

    path: str
    words: str = ""


# By what WeCom answered.
Blames = Mapping[int | str, Blame]
T = TypeVar("T")
# Post a message; its id at the platform.
Post = Callable[[codec.Body], Awaitable[str]]
# What goes out for an upload: its kind, its id, and the segment.
MediaBody = Callable[[str, str, Segment], codec.Body]


class Sending:
    """Sends of one client; the uploads behind them are remembered."""

    def __init__(
        self,
        client: Client,
        media: Media,
        *,
        clock: Callable[[], float],
        media_body: MediaBody = codec.media_body,
    ) -> None:
        self._client = client
        self._media = media
        self._media_body = media_body
        self._uploads = Uploads(client.upload, kept_s=MEDIA_KEPT_S, clock=clock)
        self._room = asyncio.Semaphore(MAX_MEDIA_SENDS)

    async def ready(self) -> None:
        """Have a token; raises SendFailed."""
        await self._unseen(self._client.ready())

    async def uploaded(self, segment: Segment, ref: Ref) -> codec.Body:
        """What goes out for a medium; raises SendFailed while that cannot be said."""
        # Each is whole in memory.
        async with self._room:
            content = await self._content(ref)
            kind = None if content is None else codec.upload_kind(segment, content)
            if content is None or kind is None:
                return codec.words(segment)
            try:
                media_id = await self._unseen(self._uploads.media_id(kind, content))
            except SendFailed as failed:
                if failed.error_class != "media_failed":
                    raise
                return codec.words(segment)
        return self._media_body(kind, media_id, segment)

    async def send(self, segment: Segment, body: codec.Body, post: Post) -> Sent:
        """The attempt; raises SendFailed or SendUnknown."""
        try:
            return await _posted(post, body)
        except SendFailed as failed:
            if failed.error_class != "media_failed":
                raise
        # The platform has forgotten the medium before its time; nothing was sent.
        ref = getattr(segment, "ref", None)
        if ref is not None:
            self._uploads.forget(body.get(body["msgtype"], {}).get("media_id", ""))
            body = await self.uploaded(segment, ref)
            try:
                return await _posted(post, body)
            except SendFailed as failed:
                if failed.error_class != "media_failed":
                    raise
        return await _posted(post, codec.words(segment))

    async def _content(self, ref: Ref) -> Content | None:
        if ref.via != "media":
            return None
        try:
            return await self._media.read(ref)
        except MediaRefused:
            return None
        except NotAccepted:
            raise SendFailed("server_busy", "the media store cannot be reached") from None

    async def _unseen(self, call: Awaitable[T]) -> T:
        """A call that nobody sees: once more does no harm."""
        try:
            return await call
        except PlatformError as error:
            raise refusal(error) from None
        except Refused as refused:
            raise SendFailed("no_permission", str(refused)) from None
        except (Unreachable, Cut):
            raise SendFailed("server_busy", BUSY) from None


async def _posted(post: Post, body: codec.Body) -> Sent:
    try:
        return Sent(platform_message_id=await post(body))
    except PlatformError as error:
        raise refusal(error) from None
    except Refused as refused:
        raise SendFailed("no_permission", str(refused)) from None
    except Unreachable:
        raise SendFailed("server_busy", BUSY) from None
    except Cut:
        raise SendUnknown("the connection was cut") from None


def refusal(error: PlatformError) -> SendFailed:
    """WeCom's no to a send, in plain words where there are some."""
    return SendFailed(error.error_class, plain(error))


def plain(error: PlatformError) -> str:
    """What is wrong and what to do, as far as that is known."""
    if error.error_class == "ip_not_allowed":
        where = f" {error.address}" if error.address else ""
        return f"enter the address of this server{where} in WeCom's console under 企业可信IP"
    if isinstance(error.code, int) and error.code in _WORDS:
        return _WORDS[error.code]
    if error.error_class == "secret_invalid":
        return "WeCom does not know this secret"
    return str(error)


def wrong(error: PlatformError, blames: Blames) -> ChannelRefused | None:
    """Which setting to look at; None when none is to blame."""
    if error.code in _WRONG_COMPANY:
        blame = Blame("/corp_id")
    elif error.code in blames:
        blame = blames[error.code]
    elif error.error_class == "ip_not_allowed":
        blame = Blame("")
    elif error.error_class == "secret_invalid":
        blame = Blame("/secret")
    else:
        return None
    return ChannelRefused(blame.path, blame.words or plain(error), error_class=error.error_class)


def judge(error: Exception, blames: Blames, *, outage: bool) -> None:
    """End the channel for what is wrong, and for what stays away."""
    said_no = isinstance(error, PlatformError)
    found = wrong(error, blames) if isinstance(error, PlatformError) else None
    if found is not None:
        raise found from None
    if outage:
        said = str(error) if said_no else BUSY
        raise ChannelRefused("/base_url", said, error_class="server_busy") from None
