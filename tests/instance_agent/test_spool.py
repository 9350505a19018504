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


class TestSpool:
    async def test_keeps_the_order_and_counts_what_waits(self, spool):
        ids = [await add(spool, b"xyz", at=at) for at in (5.0, 6.0, 7.0)]
        assert [event.id for event in await spool.head(10)] == ids
        assert spool.state == SpoolState(depth=3, bytes=9, oldest_at=5.0)
        assert (spool.waiting.is_set(), spool.empty.is_set()) == (True, False)

    async def test_forgets_what_was_answered_for(self, spool):
        for at in (5.0, 6.0):
            await add(spool, at=at)
        first, second = await spool.head(10)
        await spool.settle(first.seq, rejected=[], now=9.0, after=0)
        assert spool.state == SpoolState(depth=1, bytes=2, oldest_at=6.0)
        await spool.settle(second.seq, rejected=[], now=9.0, after=0)
        assert spool.state == SpoolState()
        assert (spool.waiting.is_set(), spool.empty.is_set()) == (False, True)

    async def test_a_successor_finds_what_is_left(self, spool, store):
        event_id = await add(spool, b"xyz", at=5.0)
        successor = Spool(store)
        await successor.load()
        assert successor.state == spool.state
        assert [event.id for event in await successor.head(10)] == [event_id]

    async def test_a_head_fits_in_one_batch(self, spool):
        half = b"x" * (MAX_BATCH_BYTES // 2)
        for _ in range(3):
            await add(spool, half)
        assert len(await spool.head(10)) == 2
        assert len(await spool.head(1)) == 1

    async def test_reads_ahead_of_what_is_not_settled_yet(self, spool):
        ids = [await add(spool) for _ in range(4)]
        first, second = await spool.head(2)
        ahead = await spool.settle(first.seq, rejected=[], now=9.0, after=second.seq)
        assert [event.id for event in ahead] == ids[2:]
        assert spool.state.depth == 3

    async def test_full_it_replaces_older_news_of_the_same_subject_only(self, spool):
        kept = await add(spool, b"x" * 40)
        other = await add(spool, b"x" * 40, subject="b")
        await add(spool, b"x" * 40, subject="a")
        spool.max_bytes = 130
        newest = await add(spool, b"x" * 40, subject="a")
        assert [event.id for event in await spool.head(10)] == [kept, other, newest]
        assert spool.state.bytes == 120

    async def test_rejected_events_become_dead_letters_bounded_in_number(self, spool, store):
        await add(spool)
        (event,) = await spool.head(1)
        await spool.settle(event.seq, rejected=[(event, "unwanted")], now=9.0, after=0)
        assert (spool.state.depth, spool.dead_letters) == (0, 1)
        burials = [spool.bury(uuid4(), "why", b"{}", now=9.0) for _ in range(MAX_DEAD_LETTERS)]
        await asyncio.gather(*burials)
        assert spool.dead_letters == MAX_DEAD_LETTERS
        ids = await store.run(lambda c: c.execute("SELECT id FROM dead_letters").fetchall())
        assert (event.id,) not in ids

    async def test_counts_right_although_its_caller_was_cancelled(self, spool):
        caller = asyncio.create_task(add(spool))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await add(spool)
        assert spool.state.depth == len(await spool.head(10)) == 2
