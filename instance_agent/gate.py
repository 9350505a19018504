"""A door for requests: open until the agent drains, and it knows when the last one has left."""

import asyncio
from types import TracebackType

from instance_agent.problems import draining


class Gate:
    """`with gate:` around each piece of work; refuses once it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __enter__(self) -> None:
        if self.closed:
            raise draining()
        self._inside += 1
        self._empty.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def close(self, within_s: float) -> bool:
        """Let nobody in any more; true when everybody left in time."""
        self.closed = True
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
