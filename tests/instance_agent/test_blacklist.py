import asyncio

import pytest

from instance_agent import blacklist
from instance_agent.blacklist import MAX_TALLIES, NotKnown
from instance_agent.protocol import (
    MAX_BLACKLIST,
    MAX_BLOCKED_HITS,
    BlacklistEntry,
    BlacklistPage,
    BlacklistUpdate,
)
from tests.instance_agent.blacklist_world import CHANNEL, OTHER, World


@pytest.fixture
async def world():
    made = World()
    await made.start()
    yield made
    await made.close()


class TestBlocks:
    @pytest.mark.parametrize(
        ("where", "here", "there"),
        [
            ({}, True, True),
            ({"kind": "wecom"}, True, False),
            ({"kind": "wecom", "channel_id": CHANNEL}, True, False),
            ({"kind": "qq"}, False, True),
            ({"channel_id": OTHER}, False, True),
        ],
    )
    async def test_everywhere_on_a_kind_or_on_one_channel(self, world, where, here, there):
        world.add("lin", **where)
        await world.push()

        assert world.list.blocks("wecom", CHANNEL, "lin") is here
        assert world.list.blocks("qq", OTHER, "lin") is there
        assert not world.list.blocks("wecom", CHANNEL, "Lin")

    async def test_ends_by_our_own_clock_without_a_word_of_the_control_plane(self, world):
        world.add("lin", ends=world.now + 60)
        await world.push()
        assert world.list.blocks("wecom", CHANNEL, "lin")

        world.now += 60

        assert not world.list.blocks("wecom", CHANNEL, "lin")

    async def test_of_two_entries_for_one_person_the_later_end_counts(self, world):
        short = world.add("lin", ends=world.now + 60)
        world.entries[short] = (0, world.entries[short][1])
        long = BlacklistEntry(id=CHANNEL, platform_id="lin")
        entries = [world.entries[short][1], long]
        await world.list.update(BlacklistUpdate(version=5, base=0, entries=entries))
        world.now += 60
        assert world.list.blocks("wecom", CHANNEL, "lin")

        await world.list.update(BlacklistUpdate(version=6, base=5, removed=[long.id]))

        assert not world.list.blocks("wecom", CHANNEL, "lin")

    async def test_half_a_character_harms_nobody(self, world):
        world.add("lin")
        await world.push()

        assert not world.list.blocks("wecom", CHANNEL, "\ud800")


class TestVersion:
    async def test_the_whole_list_comes_page_by_page_at_the_start(self, world):
        for name in ("lin", "wang", "陈", "li", "zhao"):
            world.add(name)
        world.pulls = 0

        await world.restart()

        assert (world.list.version, world.pulls) == (world.version, 3)
        world.check()

    async def test_what_changes_while_pages_are_read_comes_with_the_next_delta(self, world):
        first = world.add("lin")
        for name in ("wang", "陈"):
            world.add(name)
        read = world.list._pull

        async def meanwhile(after):
            page = await read(after)
            if after is None:
                world.remove(first)
                world.add("li")
            return page

        world.list._pull = meanwhile
        await world.list._pull_all()
        world.list._pull = read
        assert world.list.version < world.version

        await world.push()

        assert world.list.version == world.version
        world.check()

    async def test_a_delta_twice_or_late_changes_nothing(self, world):
        world.add("lin")
        first = world.delta(0)
        await world.list.update(first)
        world.remove(next(iter(world.entries)))
        await world.push()

        for update in (first, world.delta(first.version)):
            assert (await world.list.update(update)).version == world.version

        assert not world.list.blocks("wecom", CHANNEL, "lin")

    async def test_a_gap_has_the_whole_list_pulled(self, world):
        keeping = asyncio.create_task(world.list.keep())
        world.add("lin")
        world.add("wang")
        lost = world.version
        world.add("陈")

        world.store.committed = world.swapped.set
        outcome = await world.list.update(world.delta(lost))
        await asyncio.wait_for(world.swapped.wait(), 10)

        assert outcome.version == 0
        async with world.list._changing:
            world.check()
        keeping.cancel()

    async def test_a_list_from_before_a_restored_database_is_pulled_again(self, world):
        world.add("lin")
        await world.push()
        world.entries.clear()
        world.version -= 1

        await world.repair()

        assert world.list.version == world.version
        world.check()

    async def test_the_disks_list_holds_while_the_control_plane_is_away(self, world):
        world.add("lin")
        await world.push()
        world.away = True

        await world.restart()

        assert world.list.version == world.version
        assert world.list.blocks("wecom", CHANNEL, "lin")

    async def test_the_start_does_not_wait_for_ever(self, world, monkeypatch):
        monkeypatch.setattr(blacklist, "START_S", 0.01)

        async def never(_):
            await asyncio.Event().wait()

        world._page = never
        await world.restart()

        assert world.list.version == 0

    async def test_a_control_plane_of_before_is_not_asked_again(self, world):
        async def unknown(_):
            raise NotKnown

        world.list._pull = unknown
        await world.list._pull_all()

        assert not world.list._wanted.is_set()

    async def test_a_list_without_end_is_refused(self, world):
        async def endless(_):
            return BlacklistPage(version=9, entries=[], next=CHANNEL)

        world.list._pull = endless
        with pytest.raises(blacklist.NotAccepted):
            await world.list._pull_all()

        assert world.list.version == 0

    async def test_ended_entries_leave_the_disk(self, world):
        world.add("lin", ends=world.now + 60)
        await world.push()
        world.now += 60
        world.add("wang")

        await world.push()

        count = "SELECT count(*) FROM blacklist"
        assert await world.store.run(lambda disk: disk.execute(count).fetchone()) == (1,)

    async def test_nobodys_id_lies_on_the_disk(self, world):
        world.add("lin-on-the-list")
        await world.push()
        await world.restart()

        files = world.store_files()
        assert files
        assert not any(b"lin-on-the-list" in each.read_bytes() for each in files)


class TestTell:
    async def test_a_flood_is_one_sum(self, world):
        entry_id = world.add("lin")
        await world.push()
        for _ in range(1000):
            world.list.blocks("wecom", CHANNEL, "lin")
            world.now += 1

        await world.list.close()

        [told] = world.told
        [hits] = told.hits
        assert (told.channel_id, hits.entry_id, hits.count) == (CHANNEL, entry_id, 1000)
        assert (hits.last_at - hits.first_at).total_seconds() == 999

    async def test_many_people_are_few_events_and_the_rest_is_counted_together(self, world):
        entries = [
            BlacklistEntry(id=blacklist.uuid4(), platform_id=str(n)) for n in range(MAX_TALLIES + 7)
        ]
        await world.list.update(BlacklistUpdate(version=1, base=0, entries=entries))
        for entry in entries:
            assert world.list.blocks("wecom", CHANNEL, entry.platform_id)

        await world.list.close()

        hits = [each for told in world.told for each in told.hits]
        assert sum(each.count for each in hits) == len(entries)
        assert [each.count for each in hits if each.entry_id is None] == [7]
        assert max(len(told.hits) for told in world.told) == MAX_BLOCKED_HITS
        assert len(world.told) == MAX_TALLIES // MAX_BLOCKED_HITS + 1

    async def test_while_the_spool_is_not_empty_sums_grow_instead(self, world, monkeypatch):
        monkeypatch.setattr(blacklist, "TELL_EVERY_S", 0.005)
        await world.spool.add(CHANNEL, b"{}", at=world.now)
        world.add("lin")
        await world.push()
        telling = asyncio.create_task(world.list.tell())
        for _ in range(20):
            world.list.blocks("wecom", CHANNEL, "lin")
            await asyncio.sleep(0.002)
        assert world.told == []

        await world.spool.settle(10, rejected={}, now=world.now, after=0)
        await asyncio.wait_for(world.telling.wait(), 10)
        telling.cancel()

        assert [hits.count for told in world.told for hits in told.hits] == [20]


class TestSize:
    async def test_the_largest_list_is_a_digest_for_each(self, world):
        entries = [
            BlacklistEntry(id=blacklist.uuid4(), platform_id=f"wmqPhANwAADcZKM-{n:012}")
            for n in range(MAX_BLACKLIST)
        ]
        rows = [blacklist._row(entry) for entry in entries]
        await world.store.run(lambda disk: blacklist._replace(disk, 1, rows))
        world.away = True
        await world.restart()

        assert sum(map(len, world.list._until)) == 16 * MAX_BLACKLIST
        assert world.list.blocks("wecom", CHANNEL, entries[-1].platform_id)
        assert not world.list.blocks("wecom", CHANNEL, "somebody else")
