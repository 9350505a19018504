"""Media that customers sent, brought from a platform into our own store: its links die.

A platform that calls us waits five seconds for its answer, and a film takes longer. So a callback
that carries media is refused while they are being fetched: the control plane keeps it, answers the
platform and passes it on again, with all that follows it waiting behind. The fetch goes on
meanwhile, and the next pass finds the bytes stored. What cannot be had is reported with the
platform's own reference.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from msgspec.structs import replace

from adapters.base import Media, MediaRefused, NotAccepted
from adapters.model import File, Image, Ref, Segment, Sticker, Video, Voice
from adapters.platform import Cut, PlatformError, Unreachable

# Of one callback's time; the report to the control plane needs the rest.
CALLBACK_WAIT_S = 1.0
# How long one thing holds up its customer's channel before it is given up.
GIVE_UP_S = 60.0
# Between tries while the platform or our store is away.
RETRY_S = 1.0
# Fetches at a time: each holds a connection and a buffer, never a whole film.
MAX_RUNNING = 4
# Results kept for a callback that comes again.
MAX_KEPT = 200

_PASSING = frozenset({"server_busy", "rate_limited"})

_Key = tuple[object, ...]
# The bytes behind a platform's reference; raises PlatformError, Unreachable or Cut.
Download = Callable[[Ref], AsyncGenerator[bytes]]

log = structlog.get_logger()


class Arrivals:
    """Fetches by the platform's reference, each once."""

    def __init__(
        self, download: Download, media: Media, *, wait_s: float = CALLBACK_WAIT_S
    ) -> None:
        """`wait_s`: how long a message waits for its media before it is refused for now."""
        self._download = download
        self._media = media
        self._wait_s = wait_s
        self._fetches: OrderedDict[_Key, asyncio.Task[Ref]] = OrderedDict()
        self._room = asyncio.Semaphore(MAX_RUNNING)

    async def stored(self, segment: Segment) -> Segment:
        """The segment with its bytes in our store; raises NotAccepted while they are on the way."""
        match segment:
            case Image() | Voice() | Video() | File() | Sticker() if segment.ref is not None:
                return replace(segment, ref=await self._settled(segment.ref))
            case _:
                return segment

    async def close(self) -> None:
        """Cut what is on the way; whoever was refused brings it again."""
        fetches, self._fetches = self._fetches, OrderedDict()
        for fetch in fetches.values():
            fetch.cancel()
        await asyncio.gather(*fetches.values(), return_exceptions=True)

    async def _settled(self, ref: Ref) -> Ref:
        key = _key(ref)
        fetch = self._fetches.get(key)
        if fetch is None:
            self._make_room()
            fetch = asyncio.create_task(self._fetch(ref), name="media-fetch")
            self._fetches[key] = fetch
        done, _ = await asyncio.wait({fetch}, timeout=self._wait_s)
        if not done or fetch.cancelled():
            raise NotAccepted("the media are still being fetched")
        return fetch.result()

    def _make_room(self) -> None:
        if len(self._fetches) < MAX_KEPT:
            return
        oldest = next((key for key, fetch in self._fetches.items() if fetch.done()), None)
        if oldest is None:
            raise NotAccepted("too many media are being fetched")
        del self._fetches[oldest]

    async def _fetch(self, ref: Ref) -> Ref:
        """Our own reference, or the platform's when the bytes cannot be had."""
        try:
            async with asyncio.timeout(GIVE_UP_S), self._room:
                while True:
                    stored = await self._try(ref)
                    if stored is not None:
                        return stored
                    await asyncio.sleep(RETRY_S)
        except (MediaRefused, PlatformError) as error:
            reason = str(error)
        except Exception as error:
            # Only the type: the text of a library's error may quote an address with the token.
            reason = type(error).__name__
        log.warning("media not fetched", reason=reason)
        return _bare(ref)

    async def _try(self, ref: Ref) -> Ref | None:
        """None when it may work in a moment."""
        try:
            async with aclosing(self._download(ref)) as chunks:
                return await self._media.store(chunks)
        except (NotAccepted, Unreachable, Cut):
            return None
        except PlatformError as error:
            if error.error_class in _PASSING:
                return None
            raise


def _key(ref: Ref) -> _Key:
    """All of it: platforms may call two customers' files by one name."""
    return (ref.via, ref.id, *sorted(ref.more.items()))


def _bare(ref: Ref) -> Ref:
    """Without what only fetching needs."""
    return Ref(via=ref.via, id=ref.id)
