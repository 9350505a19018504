"""A configuration on trial: how channels tell whether it is good, and what the disk knows of it.

The disk knows, so that a configuration under which the agent dies, or which was found bad, is not
tried for ever by one start after another.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from instance_agent.document import DocumentError
from instance_agent.protocol import Revision
from instance_agent.store import Store

# Starts that may end without being asked to while the same configuration is on trial.
MAX_DEATHS = 2
# What only running it could show; a new start would not show another thing.
SHOWN_BY_TRIAL = frozenset({"did_not_connect", "agent_ended"})
_NEVER = "it did not connect in time"


@dataclass(frozen=True, kw_only=True)
class Sign:
    """How a channel on trial does. `away`: others fare no better, so the platform may be away."""

    channel_id: UUID
    connected: bool
    refused: bool
    failure: str | None
    exclusive: bool
    away: bool


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A channel that was connected before, and is not because of the change."""

    channel_id: UUID
    reason: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The trial as the disk knows it; with `errors` it is over and was lost."""

    number: int
    sha256: str
    watched: list[UUID] = []
    deaths: int = 0
    errors: list[DocumentError] = []

    def of(self, revision: Revision) -> bool:
        return (self.number, self.sha256) == (revision.number, revision.sha256)


def judge(signs: Iterable[Sign], *, at_end: bool) -> Fault | None:
    """What is wrong: a refusal at once, anything else only when the time is over."""
    for sign in signs:
        if sign.connected or sign.away:
            continue
        if sign.refused or (at_end and (sign.failure is not None or sign.exclusive)):
            return Fault(channel_id=sign.channel_id, reason=sign.failure or _NEVER)
    return None


async def load(store: Store) -> Mark | None:
    def job(connection: sqlite3.Connection) -> str | None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'trial'").fetchone()
        return row[0] if row else None

    kept = await store.run(job)
    return None if kept is None else msgspec.json.decode(kept, type=Mark)


async def save(store: Store, mark: Mark | None) -> None:
    """Replace what the disk knows; None forgets it."""

    def job(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM meta WHERE key = 'trial'")
        if mark is not None:
            value = msgspec.json.encode(mark).decode()
            connection.execute("INSERT INTO meta VALUES ('trial', ?)", (value,))

    await store.run(job)
