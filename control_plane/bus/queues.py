"""How much waits, and for how long: depth and oldest age of every queue, as metrics.

Each worker looks by itself, so that no figure goes stale with the one process that had it; they
all say the same, so take the largest.
"""

from prometheus_client import Gauge

from control_plane.bus.measuring import EVERY_S, Measuring
from control_plane.db.session import Database, driver

DEPTH = Gauge("botyard_queue_depth", "What waits in a queue.", ["queue"])
AGE = Gauge("botyard_queue_oldest_age_seconds", "Age of the oldest in a queue.", ["queue"])
DUE = Gauge("botyard_work_due", "Rows that are due or worked on.", ["kind"])
DUE_AGE = Gauge("botyard_work_oldest_age_seconds", "How long the oldest is due.", ["kind"])

_QUEUES = """
SELECT queue, depth, coalesce(extract(epoch FROM now() - oldest), 0)::float8 AS age FROM queues()
"""
_WORK = """
SELECT kind, count(*) AS due, extract(epoch FROM now() - min(due_at))::float8 AS age
FROM work WHERE due_at <= now() GROUP BY kind
"""


class Queues(Measuring):
    name = "queues"

    def __init__(self, database: Database, *, every_s: float = EVERY_S) -> None:
        super().__init__(every_s=every_s)
        self._database = database
        self._kinds: set[str] = set()

    async def measure(self) -> None:
        """One look."""
        async with self._database.session() as session:
            connection = await driver(session)
            queues = await connection.fetch(_QUEUES)
            work = {row["kind"]: row for row in await connection.fetch(_WORK)}
        for row in queues:
            DEPTH.labels(row["queue"]).set(row["depth"])
            AGE.labels(row["queue"]).set(max(0.0, row["age"]))
        # A kind without anything due has no row, and waits for nothing.
        self._kinds |= work.keys()
        for kind in self._kinds:
            found = work.get(kind)
            DUE.labels(kind).set(found["due"] if found else 0)
            DUE_AGE.labels(kind).set(max(0.0, found["age"]) if found else 0.0)
