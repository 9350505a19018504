"""Where a process can end: before and behind everything that it does to the world outside of it.

A process here is a set of tasks with an end of its own. What it does outside, a commit or a call,
is an effect: effects are counted, so that a run can be repeated with a fate at each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")


class Fate(StrEnum):
    """What befalls one effect, or the process that has it."""

    DIES_BEFORE = "dies before"
    DIES_BEHIND = "dies behind"
    FAILS = "fails"
    """It does not happen, and the process hears so."""
    UNHEARD = "unheard"
    """It happens, and the process hears an error."""


class Died(BaseException):
    """The process has ended: nothing catches this, and nothing is done after it."""


class Gone(Exception):
    """Who was asked has died meanwhile."""


class Process:
    """Tasks that end together, at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that goes on until it is done or the process has died."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a piece of work; raises Gone. It goes on when the caller does not."""
        if self.dead:
            work.close()
            raise Gone(self.name)
        task = self.start(work)
        await asyncio.wait({task})
        if self.dead:
            raise Gone(self.name)
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if self.dead and not task.cancelled():
            task.exception()  # nobody is left to hear of it

    def die(self) -> None:
        """As kill -9: what runs is cut, and none of its effects happens any more."""
        self.dead = True
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def ended(self) -> None:
        """Wait until nothing of a dead process is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)


class Points:
    """Counts effects, and lets fate strike at chosen ones."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.fates: dict[int, Fate] = {}
        self.at: tuple[int, Callable[[], None]] | None = None
        """What else happens before which effect."""
        self.watching = False

    def watch(self, fates: Mapping[int, Fate]) -> None:
        """Count from 0 again; what strikes which effect."""
        self.names, self.at = [], None
        self.fates = dict(fates)
        self.watching = True

    async def effect(
        self,
        process: Process,
        name: str,
        act: Callable[[], Awaitable[T]],
        *,
        fails: Exception,
        unheard: Exception,
    ) -> T:
        """Do `act`, unless fate has other plans."""
        if process.dead:
            raise Died(process.name)
        fate = self._next(process, name)
        if fate is Fate.DIES_BEFORE:
            process.die()
            raise Died(name)
        if fate is Fate.FAILS:
            raise fails
        result = await act()
        if fate is Fate.DIES_BEHIND:
            process.die()
        if process.dead:
            raise Died(name)
        if fate is Fate.UNHEARD:
            raise unheard
        return result

    def _next(self, process: Process, name: str) -> Fate | None:
        if not self.watching:
            return None
        if self.at is not None and self.at[0] == len(self.names):
            self.at[1]()
        self.names.append(f"{process.name}: {name}")
        return self.fates.get(len(self.names) - 1)


class Link(httpx2.AsyncBaseTransport):
    """Calls from one process to the application of another, both in this interpreter."""

    def __init__(
        self,
        points: Points,
        caller: Process,
        callee: Callable[[], tuple[Process, Any]],
    ) -> None:
        self._points = points
        self._caller = caller
        self._callee = callee

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._points.effect(
            self._caller,
            f"{request.method} {request.url.host}",
            lambda: self._call(request),
            fails=httpx2.ConnectError("no connection"),
            unheard=httpx2.ReadError("cut"),
        )

    async def _call(self, request: httpx2.Request) -> httpx2.Response:
        process, app = self._callee()
        if process.dead:
            raise httpx2.ConnectError(f"{process.name} is gone")
        # What an application lets out becomes a 500, as under a real server.
        server = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        answering = server.handle_async_request(request)
        try:
            return await process.run(answering)
        except Gone:
            raise httpx2.ReadError("cut") from None
