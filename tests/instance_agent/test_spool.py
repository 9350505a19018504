import asyncio
from uuid import uuid4

import pytest

from instance_agent.protocol import MAX_BATCH_BYTES
from instance_agent.spool import MAX_DEAD_LETTERS, Spool, SpoolState
from instance_agent.store import Store


@pytest.fixture
async def store(tmp_path):
    opened = Store(tmp_path / "agent.db")
    yield opened
    await opened.close()


@pytest.fixture
async def spool(store):
    made = Spool(store)
    await made.load()
    return made


async def add(spool, body=b"{}", *, at=1.0, subject=None):
    event_id = uuid4()
    await spool.add(event_id, body, at=at, subject=subject)
    return str(event_id)


async def waiting(spool, limit=10):
    """The ids of a head."""
    return [event_id for batch in await spool.head(limit) for event_id in batch.ids]


class TestSpool:
    async def test_keeps_the_order_and_counts_what_waits(self, spool):
        ids = [await add(spool, b"xyz", at=at) for at in (5.0, 6.0, 7.0)]
        assert await waiting(spool) == ids
        assert spool.state == SpoolState(depth=3, bytes=9, oldest_at=5.0)
        assert (spool.waiting.is_set(), spool.empty.is_set()) == (True, False)

    async def test_forgets_what_was_answered_for(self, spool):
        for at in (5.0, 6.0):
            await add(spool, at=at)
        [batch] = await spool.head(10)
        first, second = batch.seqs
        assert batch.events == b"{},{}"
        await spool.settle(first, rejected={}, now=9.0, after=0)
        assert spool.state == SpoolState(depth=1, bytes=2, oldest_at=6.0)
        await spool.settle(second, rejected={}, now=9.0, after=0)
        assert spool.state == SpoolState()
        assert (spool.waiting.is_set(), spool.empty.is_set()) == (False, True)

    async def test_a_successor_finds_what_is_left(self, spool, store):
        event_id = await add(spool, b"xyz", at=5.0)
        successor = Spool(store)
        await successor.load()
        assert successor.state == spool.state
        assert await waiting(successor) == [event_id]

    async def test_a_head_fits_in_one_batch(self, spool):
        third = b"x" * (MAX_BATCH_BYTES // 3)
        for _ in range(4):
            await add(spool, third)
        assert len(await waiting(spool, 4)) == 2
        assert len(await waiting(spool, 1)) == 1
        # One that is too long for any goes alone, or nothing behind it would ever go.
        await spool.settle((await spool.head(4))[0].through + 2, rejected={}, now=9.0, after=0)
        await add(spool, 4 * third)
        await add(spool)
        assert len(await waiting(spool)) == 1

    async def test_reads_ahead_of_what_is_not_settled_yet(self, spool):
        ids = [await add(spool) for _ in range(4)]
        [batch] = await spool.head(2)
        ahead = await spool.settle(batch.seqs[0], rejected={}, now=9.0, after=batch.through)
        assert [batch.ids for batch in ahead] == [ids[2:]]
        assert spool.state.depth == 3

    async def test_full_it_replaces_older_news_of_the_same_subject_only(self, spool):
        kept = await add(spool, b"x" * 40)
        other = await add(spool, b"x" * 40, subject="b")
        await add(spool, b"x" * 40, subject="a")
        spool.max_bytes = 130
        newest = await add(spool, b"x" * 40, subject="a")
        assert await waiting(spool) == [kept, other, newest]
        assert spool.state.bytes == 120

    async def test_rejected_events_become_dead_letters_bounded_in_number(self, spool, store):
        await add(spool)
        [batch] = await spool.head(1)
        await spool.settle(batch.through, rejected={batch.through: "unwanted"}, now=9.0, after=0)
        assert (spool.state.depth, spool.dead_letters) == (0, 1)
        burials = [spool.bury(uuid4(), "why", b"{}", now=9.0) for _ in range(MAX_DEAD_LETTERS)]
        await asyncio.gather(*burials)
        assert spool.dead_letters == MAX_DEAD_LETTERS
        ids = await store.run(lambda c: c.execute("SELECT id FROM dead_letters").fetchall())
        assert (batch.ids[0],) not in ids

    async def test_counts_right_although_its_caller_was_cancelled(self, spool):
        caller = asyncio.create_task(add(spool))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await add(spool)
        assert spool.state.depth == len(await waiting(spool)) == 2
