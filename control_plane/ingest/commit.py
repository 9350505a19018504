"""Group commit: whatever batches wait are written together, as soon as a writer is free.

Invariants:
1. A batch is answered only after the transaction that holds it has committed.
2. Nothing lingers: a free writer takes what is there; what comes meanwhile makes the next group.
   A second writer joins only for what makes a group of its own. The next group is under way
   before anybody hears of the one that is stored: the database need not wait for that.
3. If a group fails, each of its batches is tried alone, so one bad row hurts nobody else.
4. The transaction speaks for exactly the tenants whose signatures were verified.
"""

import asyncio
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random, SystemRandom

import structlog
from prometheus_client import Counter, Gauge, Histogram

from control_plane.ingest.arrivals import Arrivals, read
from control_plane.ingest.batch import Batch
from control_plane.ingest.verify import Proven
from control_plane.kit.errors import BotyardError, TooMany, Unavailable
from control_plane.kit.metrics import STAGE_SECONDS
from instance_agent.protocol import EventResult

# Groups written at the same time.
WRITERS = 2
# Events that must wait for a second writer to join: fewer go cheaper into the next group.
WORTH_JOINING = 100
# Events of one group; more would only lengthen the transaction.
MAX_GROUP_EVENTS = 1_000
# Batches that may wait; past that the agents are told to come back.
MAX_WAITING = 2_000
# Seconds until they do, drawn anew for each, or all would come back at once.
BUSY_S = (1.0, 5.0)

GROUP_EVENTS = Histogram(
    "botyard_ingest_group_events", "Events per group.", buckets=(1, 2, 5, 10, 50, 100, 500, 1000)
)
WAITING = Gauge("botyard_ingest_waiting_batches", "Batches that wait for a writer.")
EVENTS = Counter("botyard_ingest_events_total", "Events by what became of them.", ["status"])
_SECONDS = STAGE_SECONDS.labels("ingest")

log = structlog.get_logger()


@dataclass(eq=False)
class Pending:
    """A verified batch that waits for its commit."""

    proven: Proven
    batch: Batch
    received_at: datetime
    done: asyncio.Future[list[EventResult]] = field(repr=False)
    arrivals: Arrivals = field(init=False, repr=False)
    plain: bool = field(init=False, repr=False)
    """Nothing but messages in words under an id of their own, which one statement can store."""

    def __post_init__(self) -> None:
        self.arrivals = read(self.proven, self.batch, self.received_at)
        self.plain = (
            self.arrivals.plain
            and self.proven.named_by_body
            and not self.batch.checkpoints
            and all(event.type == "message.received" for event in self.batch.events)
        )


Told = Callable[[], list[list[EventResult]]]
"""Says what became of the events of each batch of a group that is stored."""
Write = Callable[[Sequence[Pending]], Awaitable[Told]]


class GroupCommit:
    """Collects batches and gives them to `write` in groups."""

    name = "ingest"

    def __init__(self, write: Write, *, random: Random | None = None) -> None:
        self._write = write
        self._random = random or SystemRandom()
        self._waiting: list[Pending] = []
        self._news = asyncio.Event()
        self._stopping = False
        WAITING.set_function(lambda: len(self._waiting))

    async def submit(
        self, proven: Proven, batch: Batch, received_at: datetime
    ) -> list[EventResult]:
        """The results of a batch, after its commit; raises TooMany when too much waits."""
        if self._stopping:
            raise Unavailable("shutting_down", "This process is stopping.", retry_after_s=1)
        if len(self._waiting) >= MAX_WAITING:
            raise TooMany(
                "ingest_busy",
                "Too many batches are waiting.",
                retry_after_s=self._random.uniform(*BUSY_S),
            )
        loop = asyncio.get_running_loop()
        pending = Pending(
            proven=proven, batch=batch, received_at=received_at, done=loop.create_future()
        )
        self._waiting.append(pending)
        self._news.set()
        began = loop.time()
        try:
            return await pending.done
        finally:
            _SECONDS.observe(loop.time() - began)

    async def run(self) -> None:
        """Write until `stop`, then what still waits."""
        async with asyncio.TaskGroup() as group:
            for place in range(WRITERS):
                group.create_task(self._writer(WORTH_JOINING if place else 1))

    def stop(self) -> None:
        """Take nothing more; `run` returns when what waits is written."""
        self._stopping = True
        self._news.set()

    async def _writer(self, at_least: int) -> None:
        while True:
            group = self._take() if self._waits(at_least) else []
            if group:
                await self._flush(group)
            elif self._stopping:
                return
            else:
                self._news.clear()
                await self._news.wait()

    def _waits(self, events: int) -> bool:
        waiting = 0
        for pending in self._waiting:
            # One without events waits for its answer, too.
            waiting += max(len(pending.batch.events), 1)
            if waiting >= events:
                return True
        return False

    def _take(self) -> list[Pending]:
        events = 0
        for count, pending in enumerate(self._waiting):
            events += len(pending.batch.events)
            if count and events > MAX_GROUP_EVENTS:
                break
        else:
            count = len(self._waiting)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _flush(self, group: list[Pending]) -> None:
        GROUP_EVENTS.observe(sum(len(pending.batch.events) for pending in group))
        try:
            told = await self._write(group)
        except Exception as error:  # every waiting agent must hear something
            if len(group) > 1:
                log.warning("group failed, trying each alone", error=type(error).__name__)
                for pending in group:
                    await self._flush([pending])
            else:
                _fail(group[0], error)
            return
        # Behind the writer's own step, in which it sends the next group.
        asyncio.get_running_loop().call_soon(_tell, group, told)


def _tell(group: Sequence[Pending], told: Told) -> None:
    try:
        results = told()
    except Exception as error:  # nobody may wait for ever
        for pending in group:
            _fail(pending, error)
        return
    _count(results)
    for pending, result in zip(group, results, strict=True):
        if not pending.done.done():
            pending.done.set_result(result)


def _count(results: list[list[EventResult]]) -> None:
    for status, count in Counts(item.status for result in results for item in result).items():
        EVENTS.labels(status).inc(count)


def _fail(pending: Pending, error: Exception) -> None:
    if not isinstance(error, BotyardError):
        log.error("batch failed", error=type(error).__name__, detail=str(error)[:256])
        error = Unavailable("ingest_failed", "Not stored; try again.", retry_after_s=1)
    if not pending.done.done():
        pending.done.set_exception(error)
