"""`botyard instances rollout`, over a database of its own."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner, Result

from control_plane.db.session import Database, Scope
from control_plane.kit.errors import Conflict
from control_plane.rollouts.command import rollout_cli


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def database_url(app_url: str) -> str:
    return app_url


def call(url: str, *words: str) -> Result:
    """The command in a thread's place: it has a loop of its own, as in the program."""

    def run(act):
        async def acting():
            database = Database(url)
            try:
                async with database.session(Scope(operator=True)) as session:
                    return await act(session, datetime(2026, 1, 1, tzinfo=UTC))
            finally:
                await database.close()

        return asyncio.run(acting())

    return CliRunner().invoke(rollout_cli(run), [*words])


async def told(url: str, *words: str) -> dict:
    answer = await asyncio.to_thread(call, url, *words, "-o", "json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


class TestARollout:
    async def test_is_begun_shown_and_steered(self, database_url: str) -> None:
        begun = await told(database_url, "start", "--image", "agent:2", "--set", "log_level=debug")
        number = str(begun["number"])
        words = ["pause", "resume", "abort"]
        states = [(await told(database_url, word, number))["state"] for word in words]
        listed = await told(database_url, "list")
        found = await told(database_url, "get", number)

        assert begun["waves"] == [0, 5, 25, 100]
        assert states == ["paused", "running", "aborted"]
        assert [each["number"] for each in listed] == [begun["number"]]
        assert found["failed"] == []
        assert found["members"]["waiting"] == 0

    async def test_may_be_of_a_release_that_there_is(self, database_url: str) -> None:
        first = await told(database_url, "start", "--image", "agent:2")
        refused = await asyncio.to_thread(call, database_url, "start", "--release", "1")

        assert first["release"] == 1
        assert isinstance(refused.exception, Conflict)

    async def test_is_a_line_for_people(self, database_url: str) -> None:
        empty = await asyncio.to_thread(call, database_url, "list")
        await told(database_url, "start", "--image", "agent:2")
        shown = await asyncio.to_thread(call, database_url, "list")

        assert "botyard instances rollout start" in empty.output
        head, line = shown.output.splitlines()
        assert head.split()[:4] == ["number", "release", "state", "wave"]
        assert line.split()[:6] == ["1", "1", "running", "1", "of", "4"]

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ([], "--image"),
            (["--image", "agent:2", "--release", "1"], "--release"),
            (["--set", "log_level"], "name=value"),
            (["--set", "log_level=loud"], "log_level"),
            (["--image", "not an image"], "image"),
            (["--image", "agent:2", "--waves", "5,100"], "waves"),
        ],
    )
    async def test_that_makes_no_sense_is_refused_with_2(
        self, database_url: str, words: list[str], says: str
    ) -> None:
        answer = await asyncio.to_thread(call, database_url, "start", *words)

        assert answer.exit_code == 2
        assert says in answer.output
