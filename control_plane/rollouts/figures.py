"""How far the rollout is, as metrics.

Each controller looks by itself, so that no figure goes stale with the one process that had it.
"""

import asyncio
from uuid import UUID

import structlog
from prometheus_client import Gauge

from control_plane.db.session import Database, Scope, driver
from control_plane.kit.clock import Clock
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS
from control_plane.rollouts.advance import MemberState

# Between looks: as often as metrics are usually collected.
EVERY_S = 15.0

MEMBERS = Gauge("botyard_rollout_members", "Bots of the rollout under way, by state.", ["state"])
WAVE = Gauge("botyard_rollout_wave", "The wave that the rollout is in, from 1; 0 without one.")
WAVE_AGE = Gauge("botyard_rollout_wave_age_seconds", "Since when the rollout is in its wave.")

_UNDER_WAY = """
SELECT id, wave, (began ->> -1)::timestamptz AS began FROM rollouts WHERE ended_at IS NULL
"""
_MEMBERS = "SELECT state, count(*) AS n FROM rollout_members WHERE rollout_id = $1 GROUP BY state"

log = structlog.get_logger()


class Figures:
    """Measures until stopped."""

    name = "rollout.figures"

    def __init__(self, database: Database, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self._database = database
        self._clock = clock
        self._every_s = every_s
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.measure()
                LOOP_SUCCESS.labels(self.name).set_to_current_time()
            except Exception as error:  # it outlives whatever the database does
                LOOP_FAILURES.labels(self.name).inc()
                log.warning("rollout not measured", error=type(error).__name__)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        self._stopping.set()

    async def measure(self) -> None:
        """One look."""
        counts: dict[str, int] = {}
        async with self._database.plain(Scope(operator=True)) as session:
            connection = await driver(session)
            row = await connection.fetchrow(_UNDER_WAY)
            if row is not None:
                rollout_id: UUID = row["id"]
                found = await connection.fetch(_MEMBERS, rollout_id)
                counts = {each["state"]: each["n"] for each in found}
        for state in MemberState:
            MEMBERS.labels(state.value).set(counts.get(state.value, 0))
        WAVE.set(row["wave"] + 1 if row else 0)
        age = (self._clock.now() - row["began"]).total_seconds() if row else 0.0
        WAVE_AGE.set(max(0.0, age))
