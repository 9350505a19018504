"""Where each platform goes on after what we have: on our disk, and named to the control plane.

A position is the platform's own word (a cursor, a number of a frame) under a number of ours that
only grows, so that of two copies, on a disk and above, the later one is known.
"""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from instance_agent.store import Store

# Characters of a platform's cursor; those that are known stay below two hundred.
MAX_VALUE = 4000
# Digits of the number as it is written: so texts sort as the numbers do.
_DIGITS = 16

_KEEP = """
INSERT INTO positions (channel_id, number, value) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET number = excluded.number, value = excluded.value
WHERE excluded.number > number
"""


class Position(NamedTuple):
    """`number` 0 is the beginning."""

    number: int = 0
    value: str | None = None

    @property
    def checkpoint(self) -> str:
        """As the control plane keeps it."""
        return f"{self.number:0{_DIGITS}d}:{self.value}"


def of_checkpoint(text: str) -> Position:
    number, mark, value = text.partition(":")
    if not (mark and number.isascii() and number.isdigit()):
        # Of a time before numbers: anything of ours is later.
        return Position(0, text)
    return Position(int(number), value)


def keep(connection: sqlite3.Connection, channel_id: UUID, position: Position) -> None:
    """Part of a job of the store; an older position changes nothing."""
    connection.execute(_KEEP, (str(channel_id), position.number, position.value))


async def read(store: Store, checkpoints: Mapping[str, str]) -> dict[UUID, Position]:
    """The later of what the disk and the control plane know of each channel."""

    def job(connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
        return connection.execute("SELECT channel_id, number, value FROM positions").fetchall()

    found = {UUID(channel): of_checkpoint(text) for channel, text in checkpoints.items()}
    for channel, number, value in await store.run(job):
        key = UUID(channel)
        if key not in found or number >= found[key].number:
            found[key] = Position(number, value)
    return found
