"""An agent's blacklist on a real disk, under a control plane that is played here."""

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

from adapters.base import NotAccepted
from instance_agent.blacklist import Blacklist
from instance_agent.protocol import BlacklistEntry, BlacklistPage, BlacklistUpdate
from instance_agent.spool import Spool
from instance_agent.store import Store

CHANNEL = UUID(int=1)
OTHER = UUID(int=2)
PEOPLE = ("lin", "wang", "陈")
PAGE = 2


class Died(Exception):
    """The process ends here."""


class Disk(Store):
    """A file; with `commits_left` at zero, the process dies before or behind the next commit."""

    commits_left: int | None = None
    behind = False
    committed = staticmethod(lambda: None)

    async def run(self, job):
        dies = self.commits_left == 0
        if self.commits_left is not None:
            self.commits_left -= 1
        if dies and not self.behind:
            raise Died
        found = await super().run(job)
        if dies:
            raise Died
        self.committed()
        return found


class World:
    """Agents one after another, and the list as it should be."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.folder = tempfile.TemporaryDirectory()
        self.disks = 0
        # The control plane: entries with the version of their last change.
        self.version = 0
        self.entries: dict[UUID, tuple[int, BlacklistEntry]] = {}
        self.removals: list[tuple[int, UUID]] = []
        self.floor = 0
        self.away = False
        self.pulls = 0
        self.told: list[object] = []
        self.telling = asyncio.Event()
        self.swapped = asyncio.Event()

    async def start(self) -> None:
        self.store = Disk(Path(self.folder.name) / f"{self.disks}.db")
        self.spool = Spool(self.store)
        await self.spool.load()
        self.list = Blacklist(
            store=self.store,
            spool=self.spool,
            pull=self._page,
            record=self._record,
            clock=lambda: self.now,
            random=Random(1),
        )
        await self.list.begin()

    async def restart(self, *, lose_disk: bool = False) -> None:
        await self.store.close()
        self.disks += lose_disk
        await self.start()

    async def close(self) -> None:
        await self.store.close()
        self.folder.cleanup()

    def store_files(self) -> list[Path]:
        return [path for path in Path(self.folder.name).iterdir() if path.is_file()]

    # --- what people do ---

    def add(self, name: str, **more) -> UUID:
        same = (name, more.get("kind", ""), more.get("channel_id"))
        found = next((key for key, (_, e) in self.entries.items() if _person(e) == same), uuid4())
        self.version += 1
        if isinstance(ends := more.pop("ends", None), float):
            more["expires_at"] = datetime.fromtimestamp(ends, UTC)
        entry = BlacklistEntry(id=found, platform_id=name, **more)
        self.entries[found] = (self.version, entry)
        return found

    def remove(self, entry_id: UUID) -> None:
        self.version += 1
        if self.entries.pop(entry_id, None):
            self.removals.append((self.version, entry_id))

    def forget_removals(self) -> None:
        """As after thirty days."""
        if self.removals:
            self.floor = max(version for version, _ in self.removals)
            self.removals.clear()

    # --- what the control plane does ---

    def delta(self, base: int) -> BlacklistUpdate | None:
        if base == self.version:
            return None
        if not self.floor <= base < self.version:
            return BlacklistUpdate(version=self.version, base=None)
        return BlacklistUpdate(
            version=self.version,
            base=base,
            entries=[entry for version, entry in self.entries.values() if version > base],
            removed=[entry_id for version, entry_id in self.removals if version > base],
        )

    async def push(self) -> None:
        """As after a change, and after each heartbeat that names another version."""
        if (update := self.delta(self.list.version)) is not None:
            await self.list.update(update)

    async def repair(self) -> None:
        """Heartbeats and pushes until both agree; without loss twice is enough."""
        self.away = False
        for _ in range(2):
            await self.push()
            if self.list._wanted.is_set():
                await self.list._pull_all()

    async def _page(self, after: UUID | None) -> BlacklistPage:
        if self.away:
            raise NotAccepted("away")
        self.pulls += 1
        ids = sorted(key for key in self.entries if after is None or key > after)
        shown = [self.entries[key][1] for key in ids[:PAGE]]
        return BlacklistPage(
            version=self.version,
            entries=shown,
            next=shown[-1].id if len(ids) > PAGE else None,
        )

    async def _record(self, kind, data) -> None:
        assert kind == "message.blocked"
        self.told.append(data)
        self.telling.set()

    # --- what holds ---

    def wanted(self, kind: str, channel_id: UUID, name: str) -> bool:
        """Whether the control plane's list has them."""
        return any(
            entry.platform_id == name
            and entry.kind in ("", kind)
            and entry.channel_id in (None, channel_id)
            and (entry.expires_at is None or entry.expires_at.timestamp() > self.now)
            for _, entry in self.entries.values()
        )

    def check(self) -> None:
        """Nobody is heard who should not be, and nobody is lost who should be heard."""
        for name in PEOPLE:
            for kind, channel_id in (("wecom", CHANNEL), ("qq", OTHER)):
                wanted = self.wanted(kind, channel_id, name)
                assert self.list.blocks(kind, channel_id, name) == wanted, (kind, name)


def _person(entry: BlacklistEntry) -> tuple[str, str, UUID | None]:
    return entry.platform_id, entry.kind, entry.channel_id
