"""How much waits, and for how long: depth and oldest age of every queue, as metrics and for people.

Each worker looks by itself, so that no figure goes stale with the one process that had it; they
all say the same, so take the largest.
"""

from dataclasses import dataclass

from prometheus_client import Gauge

from control_plane.bus.measuring import EVERY_S, Measuring
from control_plane.db.session import Database, Session, driver

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
# What somebody has in hand waits no longer, however long that takes. What was claimed more than
# once since it went well is failing; it is tried again by itself.
_KINDS = """
SELECT kind, count(*) AS depth, count(*) FILTER (WHERE waits) AS due,
    count(*) FILTER (WHERE held) AS in_hand,
    count(*) FILTER (WHERE attempts > 1 OR (attempts = 1 AND token IS NULL)) AS failing,
    extract(epoch FROM now() - min(due_at) FILTER (WHERE waits))::float8 AS age
FROM (
    SELECT *, due_at <= now() AND coalesce(expires_at <= now(), true) AS waits,
        coalesce(expires_at > now(), false) AS held
    FROM work
) AS w
GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What waits in one queue; `age_s` is that of the oldest, None where nothing waits."""

    name: str
    depth: int
    age_s: float | None


@dataclass(frozen=True, kw_only=True)
class Kind(Depth):
    """Work of one kind: all rows, those that wait though due (`age_s`), in hand, failing."""

    due: int
    in_hand: int
    failing: int


async def kinds(session: Session) -> list[Kind]:
    """All work, by kind."""
    return [
        Kind(
            name=row["kind"],
            depth=row["depth"],
            age_s=_since(row["age"]),
            due=row["due"],
            in_hand=row["in_hand"],
            failing=row["failing"],
        )
        for row in await (await driver(session)).fetch(_KINDS)
    ]


async def depths(session: Session) -> list[Depth]:
    """What waits to be sent, passed on or decided, of all tenants."""
    return [
        Depth(
            name=row["queue"],
            depth=row["depth"],
            age_s=_since(row["age"]) if row["depth"] else None,
        )
        for row in await (await driver(session)).fetch(_QUEUES)
    ]


def _since(age: float | None) -> float | None:
    return None if age is None else max(0.0, age)


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
