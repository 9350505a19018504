"""Messages on their way in: those of one talk one after the other, those of others beside them.

A film that takes a minute holds up its own talk alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from adapters.model import ConversationKey, Inbound

# Messages of one account on their way; beyond it the platform is read no further.
MAX_WAITING = 1000

log = structlog.get_logger()

Hear = Callable[[Inbound], Awaitable[None]]


class Lines:
    """One line for each talk that has messages on their way."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._lines: dict[ConversationKey, deque[Inbound]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_WAITING)

    async def put(self, message: Inbound) -> None:
        """At the end of its line; waits while there is no room at all."""
        await self._room.acquire()
        line = self._lines.get(message.conversation)
        if line is not None:
            line.append(message)
            return
        line = self._lines[message.conversation] = deque([message])
        task = asyncio.create_task(self._work(message.conversation, line), name="aibot-line")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def close(self, within_s: float) -> int:
        """Let the lines come to their ends; how many messages did not."""
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        return sum(map(len, self._lines.values()))

    async def _work(self, key: ConversationKey, line: deque[Inbound]) -> None:
        while line:
            try:
                await self._hear(line[0])
            except Exception as error:
                # One message that cannot be borne must not hold up all that are said after it. Only
                # the type: the text of a library's error may quote an address that opens media.
                log.error("message not taken", error=type(error).__name__)
            line.popleft()
            self._room.release()
        del self._lines[key]
