"""The one background loop: lease due rows of a kind, work on them, give them back.

A handler does its slow work outside any session and makes every change in a transaction that
`leases.hold` has checked. It returns when the row is due again, or None when it is right.

Taking rows and giving them back does not wait for the disk: what a crash of PostgreSQL undoes of it
is as if this process had died a moment earlier, and nothing that did wait can be behind it.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from control_plane.bus.hints import POLL_S, Bus
from control_plane.db import leases
from control_plane.db.leases import Claimed, Finished, Lease, LeaseLost
from control_plane.db.session import DATABASE_ERRORS, Database
from control_plane.kit import tracing
from control_plane.kit.backoff import full_jitter
from control_plane.kit.ids import new_token
from control_plane.kit.metrics import LEASES_LOST, LOOP_FAILURES, LOOP_SUCCESS, WORK_SECONDS

# How long a lease lasts unrenewed: what a killed worker costs its rows.
LEASE = timedelta(seconds=15)
RENEW_EVERY_S = 5.0
# How long a stopping loop waits for handlers before it leaves their rows to others.
STOP_WITHIN_S = 8.0
# How long handing back may take after that; a database that is away gets them with time.
HAND_BACK_WITHIN_S = 2.0
# Between tries to give a row back while the database is away.
_FINISH_AGAIN_S = 0.5
# Claims in a row that may find everything taken by others before the loop waits for a hint.
_MISSES = 8
_RETRY_BASE = timedelta(seconds=0.5)
_RETRY_CAP = timedelta(minutes=5)

Handler = Callable[[Lease], Awaitable[timedelta | None]]

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """`concurrency` rows at once; `lease` until an unrenewed row is free again.

    Rows that are being given back do not count, up to as many again.
    """

    concurrency: int = 16
    lease: timedelta = LEASE
    cell: str = ""


class WorkLoop:
    """Works on the rows of one kind until stopped."""

    def __init__(
        self,
        kind: str,
        handler: Handler,
        *,
        database: Database,
        bus: Bus,
        settings: LoopSettings = LoopSettings(),
    ) -> None:
        self.name = kind
        self._handler = handler
        self._database = database
        self._bus = bus
        self._settings = settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{new_token()[:6]}"
        self._running: dict[asyncio.Task[None], Lease] = {}
        self._handled = 0
        self._ending: list[Finished] = []
        self._next_group: asyncio.Task[None] | None = None
        self._giving_back = asyncio.Lock()
        self._after = leases.FIRST_TENANT
        self._full = False
        self._missed = 0
        self._seconds = {end: WORK_SECONDS.labels(kind, end) for end in ("done", "failed")}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Claim and work until `stop`; then let the running handlers end, within bounds."""
        with self._bus.listen(leases.topic(self.name)) as wake:
            async with asyncio.TaskGroup() as group:
                renewer = group.create_task(self._renew())
                stopper = group.create_task(self._stopping.wait())
                stopper.add_done_callback(lambda _task: wake.set())
                while not self._stopping.is_set():
                    more = await self._round(group, wake.set)
                    if not more:
                        self._missed = 0
                        # Jitter, so that replicas do not poll in step.
                        await wake.wait(POLL_S * random.uniform(0.75, 1.0))  # noqa: S311
                await self._drain()
                renewer.cancel()

    def stop(self) -> None:
        """Claim nothing more; `run` returns within `STOP_WITHIN_S`."""
        self._stopping.set()

    async def _round(self, group: asyncio.TaskGroup, wake: Callable[[], None]) -> bool:
        """Claim what there is room for; whether to claim again at once."""
        most = self._settings.concurrency
        free = min(most - self._handled, 2 * most - len(self._running))
        if free <= 0:
            self._full = True
            return False
        try:
            async with self._database.lone() as session:
                claimed = await leases.claim(
                    session,
                    self.name,
                    owner=self._owner,
                    limit=free,
                    lease=self._settings.lease,
                    after=self._after,
                    cell=self._settings.cell,
                )
        except Exception as error:  # the loop outlives whatever the database does
            self._failed("claim", error)
            return False
        LOOP_SUCCESS.labels(self.name).set_to_current_time()
        if self._stopping.is_set():
            await self._hand_back(claimed)
            return False
        for lease in claimed:
            self._handled += 1
            task = group.create_task(self._work(lease, wake), name=f"{self.name}:{lease.key}")
            self._running[task] = lease
            task.add_done_callback(lambda task: self._ended(task, wake))
        return self._goes_on(claimed, full=len(claimed) == free)

    def _goes_on(self, claimed: Claimed, *, full: bool) -> bool:
        """Where the next claim begins, and whether to make it at once."""
        self._missed = 0 if claimed else self._missed + 1
        crowded = not full and claimed.seen_to is not None
        # A row that ends here makes the next look, where there may be more than was taken.
        self._full = full or crowded
        began, self._after = self._after, leases.FIRST_TENANT
        if full:
            self._after = max(item.tenant_id for item in claimed)
        elif claimed.seen_to is not None and self._missed < _MISSES:
            # Others were just taking these; behind them is what they leave.
            self._after = claimed.seen_to
        # From the first tenant to the end nothing more is due.
        return self._after != leases.FIRST_TENANT or (
            began != leases.FIRST_TENANT and self._missed < _MISSES
        )

    def _ended(self, task: asyncio.Task[None], wake: Callable[[], None]) -> None:
        del self._running[task]
        if self._full:
            wake()

    async def _work(self, lease: Lease, wake: Callable[[], None]) -> None:
        try:
            finished = await self._handle(lease)
        finally:
            self._handled -= 1
        if finished is not None:
            if self._full:
                # The next rows are taken while this one is given back.
                wake()
            await self._finish(finished)

    async def _handle(self, lease: Lease) -> Finished | None:
        """What became of it; None when somebody else has it now."""
        started, outcome = time.monotonic(), "done"
        again: timedelta | None
        with tracing.working(self.name):
            try:
                again = await self._handler(lease)
            except LeaseLost:
                LEASES_LOST.labels(self.name).inc()
                return None
            except Exception as error:  # one bad row must not stop the others
                self._failed("handler", error, key=str(lease.key), tenant=str(lease.tenant_id))
                outcome = "failed"
                again = full_jitter(lease.attempts, base=_RETRY_BASE, cap=_RETRY_CAP)
        self._seconds[outcome].observe(time.monotonic() - started)
        return Finished(lease=lease, again_after=again, failed=outcome == "failed")

    async def _finish(self, finished: Finished) -> None:
        """Give the row back, together with all that end while another is being given back."""
        self._ending.append(finished)
        if self._next_group is None:
            self._next_group = asyncio.create_task(self._give_back(), name=f"{self.name}:finish")
        # Shielded: others of the group must not pay for one that is cancelled.
        await asyncio.shield(self._next_group)

    async def _give_back(self) -> None:
        async with self._giving_back:
            self._next_group = None
            ended, self._ending = self._ending, []
            await self._write_back(ended)

    async def _write_back(self, ended: list[Finished]) -> None:
        """While the database is away, try for as long as the leases would last."""
        deadline = time.monotonic() + self._settings.lease.total_seconds()
        while True:
            try:
                async with self._database.lone() as session:
                    await leases.finish_all(session, ended)
            except Exception as error:  # as above: drivers have more errors than they say
                self._failed("finish", error)
                if time.monotonic() > deadline or self._stopping.is_set():
                    return
                await asyncio.sleep(_FINISH_AGAIN_S)
            else:
                return

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            held = list(self._running.values())
            if not held:
                continue
            try:
                async with self._database.lone() as session:
                    await leases.renew(session, held, self._settings.lease)
            except Exception as error:  # handlers notice a lost lease when they write
                self._failed("renew", error)

    async def _drain(self) -> None:
        if not self._running:
            return
        running = dict(self._running)
        _done, late = await asyncio.wait(running, timeout=STOP_WITHIN_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._hand_back([running[task] for task in late])

    async def _hand_back(self, held: list[Lease]) -> None:
        """Give rows back that nobody works on any more: others need not wait for the lease."""
        if not held:
            return
        try:
            async with asyncio.timeout(HAND_BACK_WITHIN_S), self._database.session() as session:
                await leases.release(session, held)
        except (*DATABASE_ERRORS, TimeoutError) as error:
            self._failed("hand back", error)

    def _failed(self, what: str, error: Exception, **data: str) -> None:
        LOOP_FAILURES.labels(self.name).inc()
        log.warning(
            "work failed",
            loop=self.name,
            what=what,
            error=type(error).__name__,
            detail=str(error)[:256],
            **data,
        )
