"""What people say on its way to safety: the platform says it once, so nothing of it is let go.

Messages of one conversation keep their order; those with media wait until the bytes are ours,
unless the channel ends first. While they cannot be made safe they are tried again and again.
"""

import asyncio
from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from adapters.arrivals import GIVE_UP_S, Arrivals
from adapters.base import Host, NotAccepted
from adapters.model import ConversationKey, Inbound, Ref, Segment

# Between tries while they cannot be made safe.
RETRY_S = 1.0
# What is in hand when the channel ends; the supervisor waits a little longer.
CLOSE_S = 3.0
# Fetches end by themselves before that.
FETCH_WAIT_S = GIVE_UP_S + 10

log = structlog.get_logger()


class Inflow:
    """The messages in hand."""

    def __init__(self, host: Host, arrivals: Arrivals) -> None:
        self._host = host
        self._arrivals = arrivals
        self._last: dict[ConversationKey, asyncio.Event] = {}
        self._ending = asyncio.Event()
        self.lost = 0

    async def take(self, message: Inbound) -> bool:
        """Return when the message is safe; False when the channel ends and it is not."""
        if not self._host.admitted([message]):
            return True
        before = self._last.get(message.conversation)
        done = self._last[message.conversation] = asyncio.Event()
        try:
            if before is not None:
                await before.wait()
            segments = await self._with_bytes(message.segments)
            return await self._make_safe(replace(message, segments=segments))
        finally:
            done.set()
            if self._last.get(message.conversation) is done:
                del self._last[message.conversation]

    def end(self) -> None:
        """Wait for nothing any more: each is tried once, as it is."""
        self._ending.set()

    async def _make_safe(self, message: Inbound) -> bool:
        while True:
            try:
                await self._host.report([message])
            except NotAccepted as error:
                if self._ending.is_set():
                    self.lost += 1
                    return False
                log.warning("message not safe yet", reason=str(error))
            else:
                return True
            await self._pause()

    async def _with_bytes(self, segments: Sequence[Segment]) -> list[Segment]:
        if not any(isinstance(getattr(each, "ref", None), Ref) for each in segments):
            return list(segments)
        fetching = asyncio.create_task(self._fetched(segments), name="dingtalk-media")
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({fetching, ending}, return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() else [_bare(each) for each in segments]
        finally:
            fetching.cancel()
            ending.cancel()

    async def _fetched(self, segments: Sequence[Segment]) -> list[Segment]:
        while True:
            try:
                return [await self._arrivals.stored(each) for each in segments]
            except NotAccepted:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(RETRY_S):
                await self._ending.wait()
        except TimeoutError:
            pass


def _bare(segment: Segment) -> Segment:
    """With the platform's reference, and without what only fetching needs."""
    ref = getattr(segment, "ref", None)
    return replace(segment, ref=Ref(via=ref.via, id=ref.id)) if isinstance(ref, Ref) else segment
