import asyncio
import sqlite3
import threading

import pytest

from instance_agent.store import MAX_WAITING, Store, StoreFailed


@pytest.fixture
async def store(tmp_path):
    opened = Store(tmp_path / "agent.db")
    yield opened
    await opened.close()


def keep(key):
    return lambda connection: connection.execute("INSERT INTO meta VALUES (?, '')", (key,))


def kept(connection):
    rows = connection.execute("SELECT key FROM meta WHERE key != 'journal_id' ORDER BY key")
    return [key for (key,) in rows]


class TestStore:
    async def test_commits_durably(self, store):
        def pragmas(connection):
            return [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            ]

        assert await store.run(pragmas) == ["wal", 2]

    async def test_what_waits_while_it_is_busy_is_committed_together(self, store, tmp_path):
        begun, go_on = threading.Event(), threading.Event()
        seen_outside = []

        def hold(connection):
            begun.set()
            go_on.wait()

        def write(number):
            def job(connection):
                keep(f"k{number}")(connection)
                with sqlite3.connect(tmp_path / "agent.db") as other:
                    seen_outside.append(kept(other))
                other.close()

            return job

        async with asyncio.TaskGroup() as callers:
            callers.create_task(store.run(hold))
            await asyncio.to_thread(begun.wait)
            for number in range(5):
                callers.create_task(store.run(write(number)))
            await asyncio.sleep(0)  # one turn of the loop: all five have queued their jobs
            go_on.set()
        # Another connection saw none of them before the last had run: they shared a commit.
        assert seen_outside == [[]] * 5
        assert len(await store.run(kept)) == 5

    async def test_a_job_that_fails_harms_no_other(self, store):
        def fail(connection):
            keep("lost")(connection)
            raise ZeroDivisionError

        results = await asyncio.gather(
            store.run(keep("a")), store.run(fail), store.run(keep("b")), return_exceptions=True
        )
        assert isinstance(results[1], ZeroDivisionError)
        assert await store.run(kept) == ["a", "b"]

    async def test_an_error_of_the_database_is_a_storage_failure(self, store):
        with pytest.raises(StoreFailed):
            await store.run(lambda connection: connection.execute("SELECT * FROM nowhere"))

    async def test_a_full_disk_fails_the_whole_group_and_heals(self, store):
        await store.run(lambda c: c.execute("PRAGMA max_page_count = 30"))
        big = lambda c: c.execute("INSERT INTO meta VALUES ('big', zeroblob(1000000))")  # noqa: E731
        results = await asyncio.gather(
            *(store.run(keep(f"k{n}")) for n in range(3)), store.run(big), return_exceptions=True
        )
        assert isinstance(results[-1], StoreFailed)
        lost = [isinstance(result, StoreFailed) for result in results[:-1]]
        assert len(await store.run(kept)) == lost.count(False)
        await store.run(keep("after"))

    async def test_a_cancelled_caller_does_not_stop_the_writer(self, store):
        caller = asyncio.create_task(store.run(keep("a")))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert await store.run(kept) == ["a"]

    async def test_more_callers_than_room_all_get_their_turn(self, store):
        await asyncio.gather(*(store.run(keep(f"{n:05}")) for n in range(MAX_WAITING * 3)))
        assert len(await store.run(kept)) == MAX_WAITING * 3

    async def test_another_start_finds_the_same_journal(self, tmp_path):
        first = Store(tmp_path / "other.db")
        await first.run(keep("a"))
        await first.close()
        second = Store(tmp_path / "other.db")
        assert second.journal_id == first.journal_id
        assert await second.run(kept) == ["a"]
        await second.close()

    async def test_another_disk_is_another_journal(self, store, tmp_path):
        other = Store(tmp_path / "other.db")
        assert other.journal_id != store.journal_id
        await other.close()

    async def test_close_commits_what_waits(self, tmp_path):
        store = Store(tmp_path / "other.db")
        writes = [asyncio.create_task(store.run(keep(f"k{n}"))) for n in range(10)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writes)
        with sqlite3.connect(tmp_path / "other.db") as connection:
            assert len(kept(connection)) == 10
        connection.close()
