"""A loop that looks at something now and then and says it as metrics."""

import asyncio
from abc import ABC, abstractmethod

import structlog

from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS

# Between looks: as often as metrics are usually collected.
EVERY_S = 15.0

log = structlog.get_logger()


class Measuring(ABC):
    """Measures until stopped, and outlives whatever the database does."""

    name: str

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._stopping = asyncio.Event()

    @abstractmethod
    async def measure(self) -> None:
        """One look."""

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.measure()
                LOOP_SUCCESS.labels(self.name).set_to_current_time()
            except Exception as error:  # the next look may be luckier
                LOOP_FAILURES.labels(self.name).inc()
                log.warning("not measured", loop=self.name, error=type(error).__name__)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        self._stopping.set()
