"""Who is not heard: the tenant's blacklist in memory and on disk, enforced before anything else.

Pulled whole at the start, then kept by deltas that the control plane pushes. A delta that does not
begin where we are has us pull again, and heartbeats name our version, so that no loss stays. While
the control plane is away the list on disk holds. Memory and disk hold digests, nobody's ids.

What was kept away is counted and told in sums: a flood of blocked messages is one small event a
while, and none more as long as the spool has not been emptied.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from math import inf
from random import Random
from uuid import UUID, uuid4

import httpx2
import msgspec
import structlog

from adapters import standard_webhooks
from adapters.base import NotAccepted
from instance_agent.backoff import Backoff
from instance_agent.protocol import (
    MAX_BLACKLIST,
    MAX_BLACKLIST_PAGE,
    MAX_BLOCKED_HITS,
    BlacklistEntry,
    BlacklistOutcome,
    BlacklistPage,
    BlacklistRequest,
    BlacklistUpdate,
    BlockedHits,
    EventType,
    MessageBlocked,
)
from instance_agent.spool import Spool
from instance_agent.store import Store, StoreFailed

# Of the start: longer than this the channels do not wait for the newest list.
START_S = 5.0
# One page.
PULL_TIMEOUT_S = 10.0
# Pages of one pull: twice the largest list, since entries may come while it is read.
MAX_PAGES = 2 * MAX_BLACKLIST // MAX_BLACKLIST_PAGE
# Between two events that tell how much was kept away.
TELL_EVERY_S = 30.0
# People and channels that are counted apart until they are told; the rest is counted together.
MAX_TALLIES = 500
# Never had a list.
NOTHING = 0
_VERSION = "blacklist_version"

log = structlog.get_logger()

Pull = Callable[[UUID | None], Awaitable[BlacklistPage]]
Record = Callable[[EventType, msgspec.Struct], Awaitable[None]]


class NotKnown(Exception):
    """The control plane has no such thing as a blacklist; it will tell when it has."""


@dataclass(kw_only=True)
class _Tally:
    """What one entry (its key; None for several together) kept away from one channel."""

    count: int
    first_at: float
    last_at: float


class Blacklist:
    """One agent's copy of the list."""

    def __init__(
        self,
        *,
        store: Store,
        spool: Spool,
        pull: Pull,
        record: Record,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.version = NOTHING
        self._store = store
        self._spool = spool
        self._pull = pull
        self._record = record
        self._clock = clock
        self._backoff = Backoff(base_s=1, cap_s=60, random=random)
        # When each ends; infinite for those that do not.
        self._until: dict[bytes, float] = {}
        self._changing = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._tallies: dict[tuple[UUID, bytes | None], _Tally] = {}
        self._heard = asyncio.Event()

    # --- asked for each message ---

    def blocks(self, kind: str, channel_id: UUID, sender_id: str) -> bool:
        """Whether this sender is not heard on this channel; counts it."""
        key = self.entry(kind, channel_id, sender_id)
        if key is not None:
            self._count(channel_id, key, self._clock())
        return key is not None

    def entry(self, kind: str, channel_id: UUID, sender_id: str) -> bytes | None:
        """What keeps this sender away from this channel."""
        if not self._until:
            return None
        now = self._clock()
        keys = _keys(kind, channel_id, sender_id)
        return next((key for key in keys if self._until.get(key, 0.0) > now), None)

    def _count(self, channel_id: UUID, key: bytes | None, now: float) -> None:
        if (channel_id, key) not in self._tallies and len(self._tallies) >= MAX_TALLIES:
            key = None
        tally = self._tallies.get((channel_id, key))
        if tally is None:
            self._tallies[channel_id, key] = _Tally(count=1, first_at=now, last_at=now)
            self._heard.set()
        else:
            tally.count, tally.last_at = tally.count + 1, now

    # --- the list ---

    async def begin(self) -> None:
        """Before any channel runs: what the disk has, and the newest if that comes in time."""
        self.version, self._until = await self._store.run(_read)
        self._wanted.set()
        try:
            async with asyncio.timeout(START_S):
                await self._pull_all()
        except (TimeoutError, NotAccepted, StoreFailed) as error:
            log.warning("blacklist not pulled", reason=_why(error), version=self.version)

    async def keep(self) -> None:
        """Loop: pull whenever it is wanted, until it works."""
        while True:
            await self._wanted.wait()
            try:
                await self._pull_all()
            except (NotAccepted, StoreFailed) as error:
                delay = self._backoff.next()
                log.warning("blacklist not pulled", reason=_why(error), retry_in_s=round(delay, 1))
                await asyncio.sleep(delay)
            else:
                self._backoff.reset()

    async def update(self, update: BlacklistUpdate) -> BlacklistOutcome:
        """Take a delta that begins where we are; otherwise have the list pulled."""
        # Whoever pulls may have begun before this change.
        if self._changing.locked() or update.base is None or update.base != self.version:
            if update.version != self.version:
                self._wanted.set()
            return BlacklistOutcome(version=self.version)
        async with self._changing:
            rows = [_row(entry) for entry in update.entries]
            removed = [entry_id.bytes for entry_id in update.removed]
            now = self._clock()
            self._until |= await self._store.run(
                lambda disk: _change(disk, update.version, rows, removed, now)
            )
            self._until = {key: until for key, until in self._until.items() if until > now}
            self.version = update.version
        return BlacklistOutcome(version=self.version)

    async def _pull_all(self) -> None:
        """All pages, then swapped in at once; raises NotAccepted or StoreFailed."""
        async with self._changing:
            self._wanted.clear()
            try:
                version, rows = await self._pages()
                await self._store.run(lambda disk: _replace(disk, version, rows))
            except NotKnown:
                return
            except BaseException:
                self._wanted.set()
                raise
            self._until = _until((key, expires_at) for _, key, expires_at in rows)
            self.version = version
            log.info("blacklist pulled", version=version, entries=len(rows))

    async def _pages(self) -> tuple[int, list["_Row"]]:
        rows: dict[bytes, _Row] = {}
        version: int | None = None
        after: UUID | None = None
        for _ in range(MAX_PAGES):
            page = await self._pull(after)
            # What changed while the others are read comes again with what changed since.
            version = page.version if version is None else version
            rows |= {entry.id.bytes: _row(entry) for entry in page.entries}
            if page.next is None:
                return version, list(rows.values())
            after = page.next
        raise NotAccepted("the blacklist does not end")

    # --- what it kept away ---

    async def tell(self) -> None:
        """Loop: say how much was kept away, in sums."""
        while True:
            await self._heard.wait()
            # What waits there is not helped by more of it; the sums grow meanwhile.
            if not self._spool.state.depth:
                self._heard.clear()
                await self._tell()
            await asyncio.sleep(TELL_EVERY_S)

    async def close(self) -> None:
        """What was counted last must not be lost with the process."""
        await self._tell()

    async def _tell(self) -> None:
        tallies, self._tallies = self._tallies, {}
        keys = {key for _, key in tallies if key is not None}
        try:
            ids = await self._store.run(lambda disk: _ids(disk, keys))
            for blocked in _events(tallies, ids):
                await self._record("message.blocked", blocked)
        except StoreFailed as failure:
            log.error("blocked messages not told", reason=str(failure))


async def page(
    http: httpx2.AsyncClient,
    url: str,
    secret: Callable[[], str],
    clock: Callable[[], float],
    after: UUID | None,
) -> BlacklistPage:
    """One page of the list from the control plane; raises NotAccepted or NotKnown."""
    body = msgspec.json.encode(BlacklistRequest(after=after))
    headers = standard_webhooks.sign(
        secret(), message_id=f"msg_{uuid4()}", timestamp=int(clock()), body=body
    )
    headers["content-type"] = "application/json"
    try:
        answer = await http.post(url, content=body, headers=headers, timeout=PULL_TIMEOUT_S)
        if answer.status_code == 200:
            return msgspec.json.decode(answer.content, type=BlacklistPage)
    except (httpx2.TransportError, msgspec.MsgspecError) as error:
        raise NotAccepted(f"no answer to be read ({type(error).__name__})") from None
    if answer.status_code in (404, 405):
        raise NotKnown
    raise NotAccepted(f"the control plane answered {answer.status_code}")


# --- keys: of whom, where ----------------------------------------------------------------------

_Row = tuple[bytes, bytes, float | None]


def _keys(kind: str, channel_id: UUID, sender_id: str) -> tuple[bytes, bytes, bytes]:
    """All under which such a sender may be listed."""
    return (
        _key(kind, None, sender_id),
        _key("", channel_id, sender_id),
        _key("", None, sender_id),
    )


def _key(kind: str, channel_id: UUID | None, sender_id: str) -> bytes:
    where = f"{kind}\0{channel_id or ''}\0"
    # A platform may say half a character, which is no UTF-8.
    return blake2b((where + sender_id).encode(errors="surrogatepass"), digest_size=16).digest()


def _row(entry: BlacklistEntry) -> _Row:
    # A channel is of one kind anyway.
    kind = "" if entry.channel_id else entry.kind
    expires_at = entry.expires_at
    return (
        entry.id.bytes,
        _key(kind, entry.channel_id, entry.platform_id),
        None if expires_at is None else expires_at.timestamp(),
    )


def _until(rows: Iterable[tuple[bytes, float | None]]) -> dict[bytes, float]:
    """Two entries may mean the same person, one for all bots and one for this: the later counts."""
    found: dict[bytes, float] = {}
    for key, expires_at in rows:
        found[key] = max(found.get(key, 0.0), inf if expires_at is None else expires_at)
    return found


# --- the disk: list and version in one commit --------------------------------------------------


def _read(disk: sqlite3.Connection) -> tuple[int, dict[bytes, float]]:
    found = disk.execute("SELECT value FROM meta WHERE key = ?", (_VERSION,)).fetchone()
    rows = disk.execute("SELECT key, expires_at FROM blacklist")
    return int(found[0]) if found else NOTHING, _until(rows)


def _replace(disk: sqlite3.Connection, version: int, rows: Iterable[_Row]) -> None:
    disk.execute("DELETE FROM blacklist")
    disk.executemany("INSERT INTO blacklist VALUES (?, ?, ?)", rows)
    _name(disk, version)


def _change(
    disk: sqlite3.Connection,
    version: int,
    rows: Iterable[_Row],
    removed: Iterable[bytes],
    now: float,
) -> dict[bytes, float]:
    """How long each that is touched is kept away from now on; 0 for who is heard again."""
    touched: dict[bytes, float] = {}
    for row in rows:
        # The same entry never means somebody else.
        disk.execute("INSERT OR REPLACE INTO blacklist VALUES (?, ?, ?)", row)
        touched[row[1]] = 0.0
    for entry_id in removed:
        gone = disk.execute("DELETE FROM blacklist WHERE id = ? RETURNING key", (entry_id,))
        touched |= {key: 0.0 for (key,) in gone.fetchall()}
    disk.execute("DELETE FROM blacklist WHERE expires_at <= ?", (now,))
    for key in touched:
        left = disk.execute("SELECT key, expires_at FROM blacklist WHERE key = ?", (key,))
        touched[key] = _until(left).get(key, 0.0)
    _name(disk, version)
    return touched


def _name(disk: sqlite3.Connection, version: int) -> None:
    disk.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_VERSION, str(version)))


def _ids(disk: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, UUID]:
    found: dict[bytes, UUID] = {}
    for key in keys:
        row = disk.execute("SELECT id FROM blacklist WHERE key = ? LIMIT 1", (key,)).fetchone()
        if row is not None:
            found[key] = UUID(bytes=row[0])
    return found


# --- sums --------------------------------------------------------------------------------------


def _events(
    tallies: Mapping[tuple[UUID, bytes | None], _Tally], ids: Mapping[bytes, UUID]
) -> Iterable[MessageBlocked]:
    by_channel: dict[UUID, list[BlockedHits]] = {}
    for (channel_id, key), tally in tallies.items():
        hits = BlockedHits(
            entry_id=None if key is None else ids.get(key),
            count=tally.count,
            first_at=datetime.fromtimestamp(tally.first_at, UTC),
            last_at=datetime.fromtimestamp(tally.last_at, UTC),
        )
        by_channel.setdefault(channel_id, []).append(hits)
    for channel_id, all_hits in by_channel.items():
        for start in range(0, len(all_hits), MAX_BLOCKED_HITS):
            some = all_hits[start : start + MAX_BLOCKED_HITS]
            yield MessageBlocked(channel_id=channel_id, hits=some)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
