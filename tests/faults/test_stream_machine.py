"""A tenant's stream in PostgreSQL and those who come and go, in any order of events.

The story is the one of `realtime/test_resume.py`; here what is appended, read, forgotten and
restored is in the real table, read as a process reads it.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from control_plane.access.limits import Rates
from control_plane.db.session import Database, Scope
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from control_plane.realtime import feed as feeds
from control_plane.realtime.feed import Page
from control_plane.realtime.frames import Position
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from tests.conftest import PUBLIC_URL, Ground, People, SetClock
from tests.control_plane.realtime.test_resume import History, Resuming

EXAMPLES = 1_000 if os.environ.get("SCALE") == "full" else 40
STEPS = 30

_FORGET = """
DELETE FROM stream WHERE id IN (
    SELECT id FROM stream WHERE tenant_id = $1 ORDER BY epoch, seq
    LIMIT (SELECT round($2::float8 * count(*)) FROM stream WHERE tenant_id = $1))
"""
_RESTORE = """
UPDATE stream_heads SET epoch = epoch + 1, seq = greatest(0, seq - $2) WHERE tenant_id = $1
RETURNING epoch, seq
"""
_LEFT = "SELECT epoch, seq FROM stream WHERE tenant_id = $1 ORDER BY epoch, seq"


class Kept(History):
    """One tenant's stream as the database has it."""

    def __init__(self, place: "Place") -> None:
        super().__init__()
        self._place = place
        self._tenant_id = place.runner.run(place.make_tenant())
        [(self.epoch, self.seq)] = place.runner.run(self._heads())

    async def _heads(self) -> list[tuple[int, int]]:
        async with self._place.database.session(Scope(tenants=(self._tenant_id,))) as session:
            return list((await stream.heads(session, [self._tenant_id])).values())

    def append(self, count: int) -> None:
        super().append(count)
        self._place.runner.run(self._append([entry.type for entry in self.entries[-count:]]))

    async def _append(self, kinds: list[str]) -> None:
        """As in two transactions, one behind the other."""
        half = len(kinds) // 2
        for part in (kinds[:half], kinds[half:]):
            entries = [Entry(type=kind, data={}) for kind in part]
            async with self._place.database.plain(Scope(tenants=(self._tenant_id,))) as session:
                await stream.append(session, self._tenant_id, entries)

    def forget(self, share: float) -> None:
        run, superuser = self._place.runner.run, self._place.superuser
        run(superuser.execute(_FORGET, self._tenant_id, share))
        left = {tuple(row) for row in run(superuser.fetch(_LEFT, self._tenant_id))}
        self.entries = [entry for entry in self.entries if (entry.epoch, entry.seq) in left]

    def restore(self, lost: int) -> None:
        run, superuser = self._place.runner.run, self._place.superuser
        self.epoch, self.seq = run(superuser.fetchrow(_RESTORE, self._tenant_id, lost))

    async def read(self, after: Position | None) -> Page:
        page = await self._place.parts.realtime._rooms._read(self._tenant_id, after)
        assert page.head == Position(self.epoch, self.seq)
        return page


class Place:
    """A database with a tenant for each story."""

    def __init__(self, runner: asyncio.Runner, ground: Ground, keys: Keyring, data: Path) -> None:
        self.runner = runner
        self._ground, self._keys, self._data = ground, keys, data
        self._name = f"test_{new_id().hex[-12:]}"

    async def open(self) -> None:
        await self._ground.create(self._name)
        self.superuser = await asyncpg.connect(
            self._ground.url(None, self._name).replace("+asyncpg", "")
        )
        self.parts: Parts = build(
            database_url=self._ground.url(self._ground.app, self._name),
            keys=self._keys,
            clock=SetClock(),
            public_url=PUBLIC_URL,
            media=folder(self._data),
            rates=Rates(),
        )
        self.database: Database = self.parts.house.database
        self._people = People(self.parts.house, None)  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.parts.close()
        await self.superuser.close()
        await self._ground.drop(self._name)

    async def make_tenant(self) -> object:
        return (await self._people.owner()).tenant_id


class Reading(Resuming):
    """The story over a table."""

    def __init__(self, place: Place) -> None:
        self._place = place
        super().__init__()

    def make_loop(self) -> asyncio.AbstractEventLoop:
        return self._place.runner.get_loop()

    def make_history(self) -> History:
        return Kept(self._place)

    def teardown(self) -> None:
        """The loop is the place's, and the next story needs it."""


@pytest.fixture
def place(ground: Ground, keys: Keyring, tmp_path: Path) -> Iterator[Place]:
    with asyncio.Runner() as runner:
        place = Place(runner, ground, keys, tmp_path)
        runner.run(place.open())
        yield place
        runner.run(place.close())


def test_every_reader_has_a_gapless_piece_or_was_told_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few entries make several pages, and a gap that is too long to replay.
    monkeypatch.setattr(feeds, "PAGE", 3)
    monkeypatch.setattr(feeds, "MAX_REPLAY", 20)

    run_state_machine_as_test(
        lambda: Reading(place),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
