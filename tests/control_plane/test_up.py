"""`botyard up` and a new key: what waits for it is called, and nothing says so too early."""

from dataclasses import replace

import asyncpg
import pytest

from control_plane import up
from control_plane.access.reseal import WORK, Resealer
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
