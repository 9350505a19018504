"""`botyard up` and a new key: what waits for it is called, and nothing says so too early."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from control_plane import up
from control_plane.access.reseal import WORK, Resealer
from control_plane.db.postgres_process import EmbeddedPostgresError
from control_plane.kit.crypto import Keyring
from control_plane.parts import Parts
from tests.control_plane.conversations.scene import Worker, make_bot

NEW = "the-new-key-of-these-tests-has-enough-characters"
OLD = "the-key-of-these-tests-has-enough-characters"


class Steps:
    """A screen that keeps what it was to show."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def steps() -> Steps:
    return Steps()


class TestTakeNewestKey:
    async def test_with_one_key_there_is_nothing_to_do(
        self, parts: Parts, steps: Steps, superuser: asyncpg.Connection
    ) -> None:
        await up._take_newest_key(parts, steps)  # type: ignore[arg-type]

        assert steps.texts == []
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = $1", WORK) == 0

    async def test_with_an_older_key_the_secrets_are_sealed_again(
        self, parts: Parts, people, steps: Steps
    ) -> None:
        await make_bot(parts, await people.owner())
        parts.house = replace(parts.house, keys=Keyring([NEW, OLD]))
        database = parts.house.database

        await up._take_newest_key(parts, steps)  # type: ignore[arg-type]
        await Worker(database, WORK, Resealer(database, parts.house.keys).reseal).all()
        await up._take_newest_key(parts, steps)  # type: ignore[arg-type]

        assert steps.texts == [
            "sealing 1 of 1 secrets by the newest key",
            f"no secret needs an older key any more. {up.KEEP_OLDER_KEYS}",
        ]


class Mortal:
    """A database that ends when it is killed, and does not start as often as it was told."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.killed = asyncio.Event()
        self.started = asyncio.Event()

    async def wait(self) -> int:
        await self.killed.wait()
        self.killed.clear()
        return -9

    async def start(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise EmbeddedPostgresError("its folder is still in use")
        self.started.set()


class TestKeepUp:
    @pytest.mark.parametrize("refusals", [0, 3])
    async def test_starts_a_killed_database_until_it_runs(
        self, monkeypatch: pytest.MonkeyPatch, refusals: int
    ) -> None:
        monkeypatch.setattr(up, "full_jitter", lambda *_attempt, **_how: timedelta(0))
        database = Mortal(refusals)
        keeping = asyncio.create_task(up._keep_up(database))  # type: ignore[arg-type]
        for _ in range(2):
            database.killed.set()
            async with asyncio.timeout(20):
                await database.started.wait()
            database.started.clear()

        assert not keeping.done()
        keeping.cancel()
