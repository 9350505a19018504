"""What an adapter has started, by whatever way: it ends with the adapter.

Tasks inherit the context of whoever starts them. So those of an adapter, of the libraries that it
uses, and of the calls that it takes are known without its help, and none outlives it.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_OWNER: ContextVar["Belongings | None"] = ContextVar("adapter", default=None)


class Belongings:
    """The tasks of one adapter."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def inside(self) -> Generator[None]:
        """What is started in here belongs to the adapter."""
        _install(asyncio.get_running_loop())
        former = _OWNER.set(self)
        try:
            yield
        finally:
            _OWNER.reset(former)

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, within_s: float) -> int:
        """Cancel what still runs; how many tasks would not end in time."""
        # One that is told to end may start another first.
        for _ in range(2):
            if running := {task for task in self._tasks if not task.done()}:
                for task in running:
                    task.cancel()
                await asyncio.wait(running, timeout=within_s)
        return sum(not task.done() for task in self._tasks)


@contextmanager
def outside() -> Generator[None]:
    """What the agent starts on an adapter's behalf serves others, too, and goes on."""
    former = _OWNER.set(None)
    try:
        yield
    finally:
        _OWNER.reset(former)


def _install(loop: asyncio.AbstractEventLoop) -> None:
    if loop.get_task_factory() is not _make:
        loop.set_task_factory(_make)


def _make(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **how: Any,
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **how)
    # A task with a context of its own says by that whose it is.
    context = how.get("context")
    owner = _OWNER.get() if context is None else context.get(_OWNER)
    if owner is not None:
        owner.add(task)
    return task
