"""Messages on their way to the agent: each conversation in order, none waiting for another's film.

A client says everything once. So what was read is reported in any case: without its media and
quotes where those take too long, or the adapter ends.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from adapters.base import NotAccepted
from adapters.model import ConversationKey, Inbound

# Messages in hand; beyond them the socket is read no further, so the client waits.
MAX_IN_HAND = 256
# Between tries while the disk takes nothing, and how many; then the client is told to come again.
RETRY_S = 1.0
TRIES = 10

Fill = Callable[[Inbound], Awaitable[Inbound]]
Report = Callable[[Inbound], Awaitable[None]]

log = structlog.get_logger()


class Inbox:
    """Fills each message with what it names, and reports it."""

    def __init__(self, fill: Fill, report: Report, *, bare: Callable[[Inbound], Inbound]) -> None:
        self._fill = fill
        self._report = report
        self._bare = bare
        self._room = asyncio.Semaphore(MAX_IN_HAND)
        self._last: dict[ConversationKey, asyncio.Task[None]] = {}

    async def put(self, message: Inbound) -> None:
        """Returns when there is room for one more."""
        await self._room.acquire()
        key = message.conversation
        task = asyncio.create_task(self._deal_with(message, self._last.get(key)), name="onebot-in")
        self._last[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    async def close(self) -> None:
        """Wait for nothing any more: what is in hand is reported as it is."""
        tasks = list(self._last.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: ConversationKey, task: asyncio.Task[None]) -> None:
        self._room.release()
        if self._last.get(key) is task:
            del self._last[key]

    async def _deal_with(self, message: Inbound, before: asyncio.Task[None] | None) -> None:
        filling = asyncio.create_task(self._filled(message), name="onebot-fill")
        try:
            if before is not None:
                await asyncio.wait({before})
            filled = await asyncio.shield(filling)
        except asyncio.CancelledError:
            filling.cancel()
            if before is not None:
                before.cancel()
                await asyncio.wait({before})
            filled = self._bare(message)
        await self._keep(filled)

    async def _filled(self, message: Inbound) -> Inbound:
        try:
            return await self._fill(message)
        except NotAccepted:
            return self._bare(message)
        except Exception as error:
            # Only the type: the text of a library's error may quote what was said.
            why = type(error).__name__
            log.error("message not filled", message_id=message.message_id, error=why)
            return self._bare(message)

    async def _keep(self, message: Inbound) -> None:
        for _ in range(TRIES):
            try:
                await self._report(message)
            except NotAccepted as error:
                reason = str(error)
                await asyncio.sleep(RETRY_S)
            else:
                return
        log.error("message lost", message_id=message.message_id, reason=reason)
