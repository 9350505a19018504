"""The agent's one file: spool, send journal, last good document.

A single thread owns the connection. Whatever waits when it becomes free is committed together,
each job in its own savepoint, so concurrent writers share one fsync and fail alone.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

# Jobs waiting or running; callers beyond it wait their turn, so the queue cannot grow.
MAX_WAITING = 256
# A few pages serve this little database; SQLite's default of 2 MB would show in every agent.
_CACHE_KIB = 512

_POSITIONS = """
CREATE TABLE positions (
    channel_id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE spool (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    subject TEXT,               -- the channel of a channel.status
    at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX spool_subject ON spool (subject);
CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    code TEXT NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE journal (
    message_id TEXT NOT NULL,
    part INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('trying', 'sent', 'failed', 'unknown')),
    attempt INTEGER NOT NULL,   -- the last one that got as far as the platform
    tried_at REAL NOT NULL,     -- first try since the platform last said no
    outcome BLOB,
    PRIMARY KEY (message_id, part)
) WITHOUT ROWID;
CREATE INDEX journal_tried_at ON journal (tried_at);
CREATE TABLE documents (
    role TEXT PRIMARY KEY CHECK (role = 'last_good'),
    revision BLOB NOT NULL
) WITHOUT ROWID;
"""
# Most events have no subject, and would each be written and forgotten in the index, too.
_SUBJECTS = """
DROP INDEX spool_subject;
CREATE INDEX spool_subject ON spool (subject) WHERE subject IS NOT NULL;
"""
_BLACKLIST = """
CREATE TABLE blacklist (
    id BLOB PRIMARY KEY,
    key BLOB NOT NULL,          -- a digest: nobody's id lies on this disk for it
    expires_at REAL             -- none: never
) WITHOUT ROWID;
CREATE INDEX blacklist_key ON blacklist (key);
"""
# A file's version is how many of these it has.
_STEPS = (_SCHEMA, _POSITIONS, _SUBJECTS, _BLACKLIST)


class StoreFailed(Exception):
    """The disk did not take it: nothing of the job happened."""


class Store:
    """Run jobs on the agent's database; a job's result is returned after its commit."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Job[Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connection = _open(path)
        self.journal_id = _journal_id(self._connection)
        threading.Thread(target=self._work, name="store", daemon=True).start()

    async def run(self, job: Job[T]) -> T:
        """Raises StoreFailed when the commit failed, or what the job raised."""
        await self._room.acquire()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((job, future))
        return cast(T, await future)

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        self._jobs.put(None)
        await self._ended

    def _work(self) -> None:
        ended = False
        while not ended:
            group = [self._jobs.get()]
            while len(group) < MAX_WAITING and not self._jobs.empty():
                group.append(self._jobs.get())
            ended = None in group
            jobs = [item for item in group if item is not None]
            if jobs:
                results = _commit(self._connection, [job for job, _ in jobs])
                futures = [future for _, future in jobs]
                self._loop.call_soon_threadsafe(self._resolve, futures, results)
        self._connection.close()
        self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _resolve(self, futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
        for future, result in zip(futures, results, strict=True):
            self._room.release()
            if future.done():
                continue  # its caller was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # FULL: a commit survives power loss; in WAL mode, NORMAL would not promise that.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", f"cache_size = -{_CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if missing := "".join(_STEPS[version:]):
        latest = f"PRAGMA user_version = {len(_STEPS)};"
        connection.executescript(f"BEGIN IMMEDIATE; {missing} {latest} COMMIT;")
    return connection


def _journal_id(connection: sqlite3.Connection) -> UUID:
    """The journal's name is made with the file, so a lost disk is a new journal."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (str(uuid4()),))
    row = connection.execute("SELECT value FROM meta WHERE key = 'journal_id'").fetchone()
    return UUID(row[0])


def _commit(connection: sqlite3.Connection, jobs: list[Job[Any]]) -> list[Any]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_in_savepoint(connection, job) for job in jobs]
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return [_failure(error)] * len(jobs)
    return results


def _in_savepoint(connection: sqlite3.Connection, job: Job[Any]) -> Any:
    connection.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except Exception as error:
        # Some errors (a full disk) end the whole transaction; then the group fails as one.
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO job")
        result = _failure(error) if isinstance(error, sqlite3.Error) else error
    connection.execute("RELEASE job")
    return result


def _failure(error: Exception) -> StoreFailed:
    failure = StoreFailed(str(error))
    failure.__cause__ = error
    return failure
