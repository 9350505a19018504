"""An agent's log as it grows, for readers who may be slow, or gone without a word."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any
from weakref import WeakSet

from control_plane.fleet.provision.base import ProvisionError
from control_plane.kit.errors import TooMany

# Nothing new for so long: the reader has all there is, and is told so by an empty line.
QUIET_S = 1.0
# After that an empty line comes so often, so that a connection that broke is noticed.
KEEP_ALIVE_S = 15.0
# Then the answer ends, and the reader asks again, with a pass that still holds.
FOLLOW_FOR_S = 600.0
# Readers of one process; each costs a connection and looks for new lines.
MOST_READERS = 100
# Lines between the log and a slow reader; then the log waits.
BUFFERED = 1_000


class Readers:
    """Everybody who follows a log in this process."""

    def __init__(self, *, most: int = MOST_READERS, follow_for_s: float = FOLLOW_FOR_S) -> None:
        self._most = most
        self._follow_for_s = follow_for_s
        # Of an answer that was never begun nothing is left, either.
        self._open: WeakSet[AsyncIterator[str]] = WeakSet()

    def follow(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        """The log in pieces of whole lines, one JSON string a line; raises TooMany."""
        if len(self._open) >= self._most:
            raise TooMany("too_many_readers", "Too many people follow logs.", retry_after_s=30)
        pieces = self._pieces(lines)
        self._open.add(pieces)
        return pieces

    async def _pieces(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue(BUFFERED)
        source = asyncio.create_task(_pump(lines, queue), name="log-reader")
        end = asyncio.get_running_loop().time() + self._follow_for_s
        patience = QUIET_S
        try:
            while (left := end - asyncio.get_running_loop().time()) > 0:
                try:
                    async with asyncio.timeout(min(patience, left)):
                        found = [await queue.get()]
                except TimeoutError:
                    if source.done():
                        return
                    patience = KEEP_ALIVE_S
                    yield "\n"
                    continue
                while not queue.empty():
                    found.append(queue.get_nowait())
                # A line of the log that is empty is two quotes here, never an empty line.
                yield "".join(_told(line) for line in found if line is not None)
                if found[-1] is None:
                    return
                patience = QUIET_S
        finally:
            source.cancel()
            await asyncio.gather(source, return_exceptions=True)


def _told(line: str) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


async def _pump(lines: Any, queue: asyncio.Queue[str | None]) -> None:
    async with aclosing(lines):
        # Whoever reads asks again.
        with suppress(ProvisionError):
            async for line in lines:
                await queue.put(line)
    await queue.put(None)
