"""How far the rollout is, as metrics.

Each controller looks by itself, so that no figure goes stale with the one process that had it.
"""

from uuid import UUID

from prometheus_client import Gauge

from control_plane.bus.measuring import EVERY_S, Measuring
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.clock import Clock
from control_plane.rollouts.advance import MemberState

MEMBERS = Gauge("botyard_rollout_members", "Bots of the rollout under way, by state.", ["state"])
WAVE = Gauge("botyard_rollout_wave", "The wave that the rollout is in, from 1; 0 without one.")
WAVE_AGE = Gauge("botyard_rollout_wave_age_seconds", "Since when the rollout is in its wave.")

_UNDER_WAY = """
SELECT id, wave, (began ->> -1)::timestamptz AS began FROM rollouts WHERE ended_at IS NULL
"""
_MEMBERS = "SELECT state, count(*) AS n FROM rollout_members WHERE rollout_id = $1 GROUP BY state"


class Figures(Measuring):
    name = "rollout.figures"

    def __init__(self, database: Database, clock: Clock, *, every_s: float = EVERY_S) -> None:
        super().__init__(every_s=every_s)
        self._database = database
        self._clock = clock

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
