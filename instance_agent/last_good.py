"""The last good document, on disk, for a start at which the control plane's is no good."""

import sqlite3

import msgspec

from instance_agent.protocol import Revision
from instance_agent.store import Store


async def save(store: Store, revision: Revision) -> None:
    body = msgspec.json.encode(revision)

    def job(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO documents VALUES ('last_good', ?)", (body,))

    await store.run(job)


async def load(store: Store) -> Revision | None:
    def job(connection: sqlite3.Connection) -> bytes | None:
        row = connection.execute("SELECT revision FROM documents WHERE role = 'last_good'")
        found = row.fetchone()
        return found[0] if found else None

    body = await store.run(job)
    return None if body is None else msgspec.json.decode(body, type=Revision)
