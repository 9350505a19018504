"""Events that nobody would repeat wait here, on disk, until the control plane has them."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from instance_agent.document import Limits
from instance_agent.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from instance_agent.store import Store, StoreFailed

# Answers by how many rows and bytes the spool grew.
Change = Callable[[sqlite3.Connection], tuple[int, int]]

# Rejected events kept for a person to look at; the oldest make room.
MAX_DEAD_LETTERS = 1000
# Batches read at once, so that few commits serve many posts: as many as take longer to post than
# a disk takes for the commit, or the posts would wait for it.
AHEAD = 30

_SUPERSEDED = "FROM spool WHERE subject = ?"
_SETTLED = "FROM spool WHERE seq <= ?"
_BATCH = """
SELECT group_concat(seq), group_concat(id), CAST(group_concat(CAST(body AS TEXT)) AS BLOB)
FROM (SELECT seq, id, body FROM spool WHERE seq > ? ORDER BY seq LIMIT ?)
"""


@dataclass(frozen=True, kw_only=True)
class SpoolState:
    """How much waits. `oldest_at` is in Unix seconds, None when nothing does."""

    depth: int = 0
    bytes: int = 0
    oldest_at: float | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Events in their wire form, one behind the other; `seqs` are their places in the queue."""

    seqs: list[int]
    ids: list[str]
    events: bytes

    @property
    def through(self) -> int:
        return self.seqs[-1]


class Spool:
    """In order, bounded, and committed before `add` returns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.max_bytes = Limits().spool_max_bytes
        self.state = SpoolState()
        self.dead_letters = 0
        self.waiting = asyncio.Event()
        self.empty = asyncio.Event()

    async def load(self) -> None:
        """Find what a predecessor left."""

        def job(connection: sqlite3.Connection) -> tuple[int, int]:
            row = connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM spool")
            depth, size = row.fetchone()
            return depth, size

        await self._change(job)

    async def add(
        self, event_id: UUID, body: bytes, *, at: float, subject: str | None = None
    ) -> None:
        """Keep an event; when the spool is full, it replaces older ones about its `subject`."""
        full = self.state.bytes + len(body) > self.max_bytes

        def job(connection: sqlite3.Connection) -> tuple[int, int]:
            depth, size = _delete(connection, _SUPERSEDED, subject) if full else (0, 0)
            connection.execute(
                "INSERT INTO spool (id, subject, at, body) VALUES (?, ?, ?, ?)",
                (str(event_id), subject, at, body),
            )
            return depth + 1, size + len(body)

        await self._change(job)

    async def keep(
        self,
        events: Sequence[tuple[UUID, bytes]],
        *,
        at: float,
        along: Callable[[sqlite3.Connection], object],
    ) -> None:
        """Keep what platforms said, and what is to commit `along` with it.

        Raises StoreFailed, also when the spool is full: nothing makes room for messages.
        """
        size = sum(len(body) for _, body in events)
        if events and self.state.bytes + size > self.max_bytes:
            raise StoreFailed("the spool is full")

        def job(connection: sqlite3.Connection) -> tuple[int, int]:
            connection.executemany(
                "INSERT INTO spool (id, at, body) VALUES (?, ?, ?)",
                [(str(event_id), at, body) for event_id, body in events],
            )
            along(connection)
            return len(events), size

        await self._change(job)

    async def head(self, limit: int) -> list[Batch]:
        """The oldest events, at most `limit` and one batch's bytes, as a batch; or none."""
        return await self._store.run(lambda connection: _read(connection, 0, limit, 1))

    async def settle(
        self, through: int, *, rejected: Mapping[int, str], now: float, after: int
    ) -> list[Batch]:
        """Forget all up to the place `through`, since the control plane answered for it.

        `rejected` has reasons by place. In the same turn it reads ahead, behind the place `after`.
        """
        ahead: list[Batch] = []

        def job(connection: sqlite3.Connection) -> tuple[int, int]:
            for seq, code in rejected.items():
                _bury(connection, "SELECT id, ?, ?, body FROM spool WHERE seq = ?", code, now, seq)
            grown = _delete(connection, _SETTLED, through)
            ahead.extend(_read(connection, after, MAX_BATCH_EVENTS, AHEAD))
            return grown

        await self._change(job)
        return ahead

    async def bury(self, event_id: UUID, code: str, body: bytes, *, now: float) -> None:
        """Keep a rejected event that was never spooled."""

        def job(connection: sqlite3.Connection) -> tuple[int, int]:
            _bury(connection, "VALUES (?, ?, ?, ?)", str(event_id), code, now, body)
            return 0, 0

        await self._change(job)

    async def _change(self, job: Change) -> None:
        # Shielded: a caller that is cancelled must not keep us from counting what was committed.
        await asyncio.shield(asyncio.create_task(self._count(job), name="spool-change"))

    async def _count(self, job: Change) -> None:

        def measured(connection: sqlite3.Connection) -> tuple[int, int, float | None, int]:
            depth, size = job(connection)
            oldest = connection.execute("SELECT at FROM spool ORDER BY seq LIMIT 1").fetchone()
            dead = connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
            return depth, size, oldest[0] if oldest else None, dead

        depth, size, oldest_at, self.dead_letters = await self._store.run(measured)
        self.state = SpoolState(
            depth=self.state.depth + depth, bytes=self.state.bytes + size, oldest_at=oldest_at
        )
        present, absent = (
            (self.waiting, self.empty) if self.state.depth else (self.empty, self.waiting)
        )
        present.set()
        absent.clear()


def _read(connection: sqlite3.Connection, after: int, limit: int, most: int) -> list[Batch]:
    """At most so many batches, and no more than one batch's bytes in all of them but the first."""
    taken: list[Batch] = []
    size = 0
    while len(taken) < most and (batch := _next(connection, after, limit)) is not None:
        size += len(batch.events)
        if taken and size > MAX_BATCH_BYTES:
            break
        taken.append(batch)
        after = batch.through
    return taken


def _next(connection: sqlite3.Connection, after: int, limit: int) -> Batch | None:
    # One row: for each that SQLite gives, threads would take the interpreter from each other.
    seqs, ids, events = connection.execute(_BATCH, (after, limit)).fetchone()
    if seqs is None:
        return None
    if len(events) > MAX_BATCH_BYTES and limit > 1:
        return _next(connection, after, limit // 2)
    return Batch(seqs=[int(seq) for seq in seqs.split(",")], ids=ids.split(","), events=events)


def _delete(connection: sqlite3.Connection, which: str, value: object) -> tuple[int, int]:
    """By how much the spool grew, so both are negative or zero."""
    # Counted first: rows that a DELETE returns cost three times as much.
    counting = f"SELECT count(*), coalesce(sum(length(body)), 0) {which}"
    depth, size = connection.execute(counting, (value,)).fetchone()
    connection.execute(f"DELETE {which}", (value,))
    return -depth, -size


def _bury(connection: sqlite3.Connection, source: str, *values: object) -> None:
    connection.execute(f"INSERT INTO dead_letters (id, code, at, body) {source}", values)
    connection.execute(
        "DELETE FROM dead_letters WHERE seq <= (SELECT max(seq) FROM dead_letters) - ?",
        (MAX_DEAD_LETTERS,),
    )
