"""Timed upkeep, on APScheduler, in whichever process leases the leader row."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import lockout
from control_plane.db import leases
from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import DATABASE_ERRORS, Database, driver
from control_plane.kit.clock import Clock
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS

WORK = "leader"
# How long we recognise a repeated event: longer than any platform redelivers.
KEEP_RECEIVED = timedelta(days=30)
# How long a repeated POST gets its first answer again.
KEEP_ANSWERED = timedelta(days=2)
# How long the audit is kept.
KEEP_AUDIT = timedelta(days=90)
# How long messages to tenants' own systems are kept: taken ones for questions, dead ones for a
# replay.
KEEP_WEBHOOKS_SENT = timedelta(days=7)
KEEP_WEBHOOKS_DEAD = timedelta(days=30)
# Rows of each kind that one round removes; the rest waits for the next.
PRUNE_LIMIT = 10_000
# Partitions are made this far ahead.
_AHEAD = timedelta(days=92)
_BEHIND = timedelta(days=31)
_EVERY = {
    "partitions": timedelta(hours=6),
    "prune": timedelta(minutes=10),
    "audit": timedelta(minutes=10),
}

Job = Callable[[AsyncSession], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a wing above has the leader do; each of its transactions holds the lease."""

    every: timedelta
    run: Callable[[Lease], Awaitable[None]]


class Leader:
    """Runs the timed jobs while it holds the leader row."""

    def __init__(
        self, database: Database, clock: Clock, rounds: Mapping[str, Round] | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._rounds = dict(rounds or {}) | self._own_rounds()
        self._ended = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Let somebody else lead."""
        self._stopping = True
        self._ended.set()

    async def lead(self, lease: Lease) -> timedelta | None:
        """Work handler: schedule the jobs until the lease is lost or the process stops."""
        if not self._stopping:
            self._ended.clear()
        scheduler = AsyncIOScheduler(timezone="UTC")
        for name, round_ in self._rounds.items():
            scheduler.add_job(
                self._run,
                "interval",
                args=[lease, name, round_],
                seconds=round_.every.total_seconds(),
                next_run_time=self._clock.now(),
                id=name,
                # However late a paused process wakes up, the job is still due, and due once.
                misfire_grace_time=None,
                coalesce=True,
                max_instances=1,
            )
        scheduler.start()
        try:
            await self._ended.wait()
        finally:
            scheduler.shutdown(wait=False)
        return timedelta(0)

    def _own_rounds(self) -> dict[str, Round]:
        jobs: dict[str, Job] = {
            "partitions": self._partitions,
            "prune": self._prune,
            "audit": self._audit,
        }
        return {
            name: Round(every=_EVERY[name], run=partial(self._at_once, job))
            for name, job in jobs.items()
        }

    async def _at_once(self, job: Job, lease: Lease) -> None:
        async with self._database.session() as session:
            await job(session)
            # Another leader may have taken over while this process was paused.
            await leases.hold(session, lease)

    async def _run(self, lease: Lease, name: str, round_: Round) -> None:
        try:
            await round_.run(lease)
            LOOP_SUCCESS.labels(f"upkeep.{name}").set_to_current_time()
        except LeaseLost:
            self._ended.set()
        except DATABASE_ERRORS as error:
            LOOP_FAILURES.labels(f"upkeep.{name}").inc()
            log.warning("upkeep failed", job=name, error=type(error).__name__)

    async def _partitions(self, session: AsyncSession) -> None:
        now = self._clock.now()
        await (await driver(session)).execute(
            "SELECT ensure_partitions($1, $2)", now - _BEHIND, now + _AHEAD
        )

    async def _prune(self, session: AsyncSession) -> None:
        now = self._clock.now()
        await (await driver(session)).execute(
            "SELECT prune($1, $2, $3)", now - KEEP_RECEIVED, now - KEEP_ANSWERED, PRUNE_LIMIT
        )
        await (await driver(session)).execute(
            "SELECT prune_webhook_messages($1, $2, $3)",
            now - KEEP_WEBHOOKS_SENT,
            now - KEEP_WEBHOOKS_DEAD,
            PRUNE_LIMIT,
        )
        await lockout.forget(session, now=now)

    async def _audit(self, session: AsyncSession) -> None:
        await (await driver(session)).execute(
            "SELECT prune_audit($1, $2)", self._clock.now() - KEEP_AUDIT, PRUNE_LIMIT
        )
