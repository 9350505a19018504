"""Hints wait once, in bounded number, and end with their source."""

from uuid import UUID

from control_plane.fleet.provision.hints import MAX_WAITING, Hints

ONE, TWO = UUID(int=1), UUID(int=2)


class TestHints:
    async def test_of_one_instance_wait_once(self):
        hints = Hints()
        reader = hints.reader()
        for each in (ONE, TWO, ONE, ONE):
            hints.put(each)
        hints.close()
        assert [hint async for hint in reader] == [ONE, TWO]

    async def test_reach_every_reader(self):
        hints = Hints()
        readers = [hints.reader(), hints.reader()]
        hints.put(ONE)
        assert [await anext(reader) for reader in readers] == [ONE, ONE]

    async def test_beyond_the_limit_are_dropped(self):
        hints = Hints()
        reader = hints.reader()
        for number in range(MAX_WAITING + 5):
            hints.put(UUID(int=number))
        hints.close()
        assert len([hint async for hint in reader]) == MAX_WAITING
