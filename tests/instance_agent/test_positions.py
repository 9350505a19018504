import sqlite3
from uuid import UUID

import pytest

from instance_agent import positions
from instance_agent.positions import Position, of_checkpoint
from instance_agent.store import Store

CHANNEL = UUID(int=7)


@pytest.fixture
async def store(tmp_path):
    opened = Store(tmp_path / "agent.db")
    yield opened
    await opened.close()


async def keep(store, position):
    await store.run(lambda disk: positions.keep(disk, CHANNEL, position))


class TestCheckpoint:
    def test_is_read_as_it_was_written(self):
        for position in (Position(1, "a:b"), Position(10**15, ""), Position(9, "九")):
            assert of_checkpoint(position.checkpoint) == position

    def test_sorts_as_the_numbers_do(self):
        written = [Position(number, "z").checkpoint for number in (1, 9, 10, 99, 100, 10**12)]
        assert written == sorted(written)

    @pytest.mark.parametrize("text", ["cursor-7", "x:y", ""])
    def test_one_without_a_number_is_older_than_any(self, text):
        assert of_checkpoint(text) == Position(0, text)


class TestKept:
    async def test_only_goes_on(self, store):
        await keep(store, Position(2, "b"))
        await keep(store, Position(1, "a"))
        assert await positions.read(store, {}) == {CHANNEL: Position(2, "b")}

    @pytest.mark.parametrize(("above", "found"), [(1, "disk"), (2, "disk"), (3, "above")])
    async def test_the_later_of_two_copies_counts(self, store, above, found):
        await keep(store, Position(2, "disk"))
        checkpoint = {str(CHANNEL): Position(above, "above").checkpoint}
        assert (await positions.read(store, checkpoint))[CHANNEL].value == found

    async def test_a_disk_of_before_gets_its_table(self, tmp_path):
        await Store(tmp_path / "agent.db").close()
        with sqlite3.connect(tmp_path / "agent.db") as disk:
            disk.execute("DROP TABLE positions")
            disk.execute("DROP TABLE blacklist")
            disk.execute("PRAGMA user_version = 1")
            disk.execute("INSERT INTO meta VALUES ('epoch', '4')")
        disk.close()
        store = Store(tmp_path / "agent.db")
        await keep(store, Position(1, "a"))
        assert await positions.read(store, {}) == {CHANNEL: Position(1, "a")}
        epoch = await store.run(
            lambda disk: disk.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        )
        assert epoch == ("4",)
        await store.close()
