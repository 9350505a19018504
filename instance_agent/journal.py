"""What was sent, part by part: committed before each call to a platform, and after it.

A row still `trying` when it is read again belongs to a call whose end nobody saw.
"""

import sqlite3
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import msgspec

from instance_agent.protocol import PartOutcome
from instance_agent.store import Store

# Seconds a sent message is remembered; the control plane gives up on deliveries long before.
KEPT_S = 7 * 24 * 3600
# Rows removed per transaction, so that a send never waits long behind the cleaning.
_CLEAN_BATCH = 500

State = Literal["trying", "sent", "failed", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One part. `tried_at` is the first try since the platform last said no."""

    state: State
    attempt: int
    tried_at: float
    outcome: PartOutcome | None


class Journal:
    """Rows in the agent's store; `id` names this journal and changes with the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.id = store.journal_id
        self.epoch = 0

    async def load(self) -> None:
        """Read the highest session epoch that this disk has seen."""

        def job(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            return int(row[0]) if row else 0

        self.epoch = await self._store.run(job)

    async def raise_epoch(self, epoch: int) -> None:
        """From here on, senders of an older epoch are refused, also after a restart."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (str(epoch),))

        self.epoch = max(self.epoch, epoch)
        await self._store.run(job)

    async def entries(self, message_id: UUID) -> dict[int, Entry]:
        """What is known of a message, by part."""

        def job(connection: sqlite3.Connection) -> dict[int, Entry]:
            rows = connection.execute(
                "SELECT part, state, attempt, tried_at, outcome FROM journal WHERE message_id = ?",
                (str(message_id),),
            )
            return {part: _entry(*rest) for part, *rest in rows}

        return await self._store.run(job)

    async def trying(self, message_id: UUID, part: int, *, attempt: int, now: float) -> None:
        """Commit that the call is about to be made."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO journal (message_id, part, state, attempt, tried_at)"
                " VALUES (?, ?, 'trying', ?, ?) ON CONFLICT DO UPDATE SET state = 'trying',"
                " attempt = excluded.attempt, outcome = NULL, tried_at ="
                " CASE state WHEN 'failed' THEN excluded.tried_at ELSE tried_at END",
                (str(message_id), part, attempt, now),
            )

        await self._store.run(job)

    async def finish(self, message_id: UUID, part: int, outcome: PartOutcome) -> None:
        """Commit what became of the call."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE journal SET state = ?, outcome = ? WHERE message_id = ? AND part = ?",
                (outcome.outcome, msgspec.json.encode(outcome), str(message_id), part),
            )

        await self._store.run(job)

    async def clean(self, *, now: float) -> int:
        """Remove one batch of rows past their time; returns how many there were."""

        def job(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM journal WHERE (message_id, part) IN "
                "(SELECT message_id, part FROM journal WHERE tried_at < ? LIMIT ?)",
                (now - KEPT_S, _CLEAN_BATCH),
            ).rowcount

        return await self._store.run(job)


def refuse(connection: sqlite3.Connection, platform_id: str, outcome: PartOutcome) -> None:
    """The platform has shown this to nobody, though it took it.

    Looks at every row, of a week at most: platforms tell such things rarely.
    """
    connection.execute(
        "UPDATE journal SET state = 'failed', outcome = ? WHERE state = 'sent'"
        " AND json_extract(CAST(outcome AS TEXT), '$.platform_message_id') = ?",
        (msgspec.json.encode(outcome), platform_id),
    )


def _entry(state: State, attempt: int, tried_at: float, outcome: bytes | None) -> Entry:
    decoded = None if outcome is None else msgspec.json.decode(outcome, type=PartOutcome)
    return Entry(state=state, attempt=attempt, tried_at=tried_at, outcome=decoded)
