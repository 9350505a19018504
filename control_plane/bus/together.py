"""What many pieces of work do to the database, done together.

Items of one tenant that come while a group of it is at work make its next group: nothing waits for
a timer, and the busier it is, the fewer transactions there are. If a group fails, each of its items
is tried alone, so that one bad row hurts nobody else.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

# Groups of one tenant at work at a time: one reads while the other commits.
AT_ONCE = 2
# Items of one group; more would only lengthen the transaction.
MOST = 64

Item = TypeVar("Item")
Result = TypeVar("Result")
Act = Callable[[UUID, list[Item]], Awaitable[Sequence[Result | Exception]]]


class Together(Generic[Item, Result]):
    """Gives items to `act` in groups; it answers for each, with a result or an error."""

    def __init__(self, name: str, act: Act[Item, Result]) -> None:
        self._name = name
        self._act = act
        self._waiting: dict[UUID, list[tuple[Item, asyncio.Future[Result]]]] = defaultdict(list)
        self._at_work: Counter[UUID] = Counter()
        self._groups: set[asyncio.Task[None]] = set()

    async def do(self, tenant_id: UUID, item: Item) -> Result:
        """The result of one item; raises its error, or that of its group."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[tenant_id].append((item, answer))
        if self._at_work[tenant_id] < AT_ONCE:
            self._at_work[tenant_id] += 1
            # A task of its own: others of the group must not pay for one that is cancelled.
            group = asyncio.create_task(self._work(tenant_id), name=self._name)
            self._groups.add(group)
            group.add_done_callback(self._groups.discard)
        return await answer

    async def _work(self, tenant_id: UUID) -> None:
        while taken := self._take(tenant_id):
            await self._group(tenant_id, taken)
        self._at_work[tenant_id] -= 1
        if not self._at_work[tenant_id]:
            del self._at_work[tenant_id]

    def _take(self, tenant_id: UUID) -> list[tuple[Item, asyncio.Future[Result]]]:
        waiting = self._waiting[tenant_id]
        taken, rest = waiting[:MOST], waiting[MOST:]
        if rest:
            self._waiting[tenant_id] = rest
        else:
            del self._waiting[tenant_id]
        # Whoever was cancelled while it waited wants nothing any more.
        wanted = [item for item in taken if not item[1].done()]
        return wanted or (self._take(tenant_id) if rest else [])

    async def _group(
        self, tenant_id: UUID, group: list[tuple[Item, asyncio.Future[Result]]]
    ) -> None:
        try:
            results = await self._act(tenant_id, [item for item, _ in group])
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception):
                for one in group:
                    await self._group(tenant_id, [one])
                return
            results = [error] * len(group)  # type: ignore[list-item]
        for (_, answer), result in zip(group, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)
