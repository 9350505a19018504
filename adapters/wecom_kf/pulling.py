"""Messages fetched from where the last pull ended, page by page to the end.

What the platform gives is reported with where it goes on behind, in one; until that is safe, the
next pull begins where this one did.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from msgspec import Raw
from msgspec.structs import replace

from adapters.arrivals import Arrivals
from adapters.base import Host
from adapters.model import Inbound, Rejected
from adapters.outbound import Refused
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.wecom_kf import codec, positions
from adapters.wecom_kf.client import Client, Page
from adapters.wecom_kf.codec import Notice
from adapters.wecom_kf.positions import Position
from adapters.wecom_kf.sessions import Sessions
from adapters.wecom_kf.settings import Settings

# Between two pulls that nobody asked for; each is also the proof that the platform is there.
PULL_EVERY_S = 30.0
# Without the token of a call the platform answers rarely, and does not say how rarely: after a
# pull that was one too many, the next comes at growing distances, or when it calls.
TOO_OFTEN_S = 5.0
UNASKED_TOO_OFTEN_S = 60.0
MAX_TOO_OFTEN_S = 600.0
# A page waits for its media so long and then comes again: the platform must be heard meanwhile.
MEDIA_WAIT_S = 15.0
# A welcome code that is older is not even tried; what is over is for clocks that are off.
WELCOME_TRY_S = codec.WELCOME_WITHIN_S + 40

_BAD_TOKEN = 95007

log = structlog.get_logger()


class Pulling:
    """One account's messages; one pull at a time."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        host: Host,
        sessions: Sessions,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._open_kfid = settings.open_kfid
        self._greeting = settings.greeting
        self._client = client
        self._host = host
        self._sessions = sessions
        self._clock = clock
        self._now = now
        self._arrivals = Arrivals(
            lambda ref: client.download(ref.id), host.media, wait_s=MEDIA_WAIT_S
        )
        self._bell = asyncio.Event()
        # Of the newest call: good for ten minutes, and for any number of pulls.
        self._token = ""
        self._pause_s = 0.0
        self._not_before = 0.0

    def ring(self, token: str) -> None:
        """The platform says that there is something; a pull that runs is followed by another."""
        self._token = token
        self._not_before = 0.0
        self._bell.set()

    async def rung(self) -> None:
        """Return when it is time for a round."""
        wait = self._not_before - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(wait, PULL_EVERY_S) if wait > 0 else PULL_EVERY_S):
                await self._bell.wait()

    async def round(self) -> None:
        """Pull all there is, or prove at least that the platform is there."""
        self._bell.clear()
        try:
            if self._clock() < self._not_before:
                await self._client.accounts()
            else:
                await self._pull()
                self._pause_s = 0.0
        except PlatformError as error:
            if error.error_class != "rate_limited":
                raise
            self._throttle()
        # Whatever it answered, it is there.
        self._host.connected()

    async def close(self) -> None:
        await self._arrivals.close()

    async def _pull(self) -> None:
        place = await self._place()
        while True:
            page = await self._page(place.cursor)
            self._host.connected()
            ahead = replace(place, cursor=page.next_cursor or place.cursor)
            await self._take(page.msg_list, place, ahead)
            if not page.has_more:
                return
            if ahead == place:
                log.warning("the platform has more and does not go on", cursor=place.cursor)
                return
            place = ahead

    async def _place(self) -> Position:
        """Where to go on. The beginning is kept before anything is asked: it must not move."""
        kept = self._host.resume()
        place = positions.read(kept, self._open_kfid, now=self._now())
        if place.text != kept:
            await self._host.report([], position=place.text)
        return place

    async def _page(self, cursor: str) -> Page:
        token = self._token
        try:
            return await self._client.page(cursor, token)
        except PlatformError as error:
            if token and error.code == _BAD_TOKEN:
                # A call that was kept for us for long, or long ago.
                if self._token == token:
                    self._token = ""
                return await self._page(cursor)
            if not cursor or error.error_class != "content_invalid":
                raise
            # Which code says so is written nowhere. All of three days comes again, and what we
            # have is known by its id.
            log.warning("the platform does not know the cursor: from the start", reason=str(error))
        return await self._page("")

    def _throttle(self) -> None:
        least = TOO_OFTEN_S if self._token else UNASKED_TOO_OFTEN_S
        self._pause_s = min(max(self._pause_s * 2, least), MAX_TOO_OFTEN_S)
        self._not_before = self._clock() + self._pause_s
        log.info("pulled too often", pause_s=self._pause_s)

    # --- what came ---

    async def _take(self, rows: Sequence[Raw], place: Position, ahead: Position) -> None:
        messages, notices = [], []
        for row in rows:
            match codec.decode(bytes(row)):
                case Rejected(reason=reason):
                    log.warning("row not understood", reason=reason)
                case Inbound() as message if message.app["open_kfid"] == self._open_kfid:
                    messages.append(message)
                case Notice() as notice if notice.open_kfid == self._open_kfid:
                    notices.append(notice)
        await asyncio.gather(*map(self._note, notices))
        ours = [message for message in messages if message.occurred_at >= place.since]
        if len(ours) < len(messages):
            log.info("older than the channel", count=len(messages) - len(ours))
        heard = self._host.admitted(ours)
        stored = await asyncio.gather(*map(self._stored, heard), return_exceptions=True)
        refused = next((each for each in stored if isinstance(each, BaseException)), None)
        if refused is not None:
            raise refused
        if heard or ahead != place:
            safe = [each for each in stored if isinstance(each, Inbound)]
            await self._host.report(safe, position=ahead.text)

    async def _stored(self, message: Inbound) -> Inbound:
        segments = [await self._arrivals.stored(each) for each in message.segments]
        return replace(message, segments=segments)

    async def _note(self, notice: Notice) -> None:
        match notice.event:
            case "enter_session" if self._greeting and notice.welcome_code:
                if self._host.hears(notice.sender_id):
                    await self._greet(notice)
            case "session_status_change":
                self._sessions.forget(notice.sender_id)
            case "msg_send_fail":
                self._sessions.forget(notice.sender_id)
                if notice.fail_message_id:
                    await self._host.undelivered(codec.undelivered(notice))

    async def _greet(self, notice: Notice) -> None:
        """A greeting is tried once, and holds nothing up."""
        if self._now() - notice.occurred_at > WELCOME_TRY_S:
            return
        try:
            await self._client.welcome(notice.welcome_code, codec.greeting(self._greeting))
        except (PlatformError, Unreachable, Cut, Refused) as error:
            log.warning("nobody was greeted", reason=str(error) or type(error).__name__)
