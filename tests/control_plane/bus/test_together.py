"""Groups: who goes together, who fails alone, and who waits for nobody."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from control_plane.bus import together
from control_plane.bus.together import AT_ONCE, MOST, Together
from control_plane.kit.ids import new_id

TENANT = new_id()


class Bench:
    """Groups that end when they are let; `bad` items spoil every group that they are in."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bad: set[int] = set()
        self.refused: set[int] = set()
        self.together: Together[int, int] = Together("test", self.act)

    async def act(self, _tenant: UUID, items: list[int]) -> Sequence[int | Exception]:
        self.groups.append(items)
        await self.gate.wait()
        if self.bad & set(items):
            raise OSError("spoilt")
        return [LookupError(item) if item in self.refused else item * 10 for item in items]

    def begin(self, *items: int, tenant: UUID = TENANT) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.together.do(tenant, item)) for item in items]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def settle() -> None:
    """Let everything run that waits for nothing."""
    for _ in range(5):
        await asyncio.sleep(0)


class TestTogether:
    async def test_answers_each_with_its_own(self, bench: Bench) -> None:
        assert await asyncio.gather(*bench.begin(1, 2, 3)) == [10, 20, 30]
        assert bench.groups == [[1, 2, 3]]

    async def test_takes_what_came_meanwhile_as_the_next_group(self, bench: Bench) -> None:
        bench.gate.clear()
        tasks = []
        for item in range(AT_ONCE):
            tasks += bench.begin(item)
            await settle()
        tasks += bench.begin(7, 8, 9)
        await settle()
        assert bench.groups == [[item] for item in range(AT_ONCE)]

        bench.gate.set()
        await asyncio.gather(*tasks)

        assert bench.groups[AT_ONCE:] == [[7, 8, 9]]

    async def test_of_one_tenant_waits_for_no_other(self, bench: Bench) -> None:
        bench.gate.clear()
        tenants = [new_id() for _ in range(5)]
        tasks = [task for tenant in tenants for task in bench.begin(1, 2, tenant=tenant)]
        await settle()

        assert bench.groups == [[1, 2]] * 5
        bench.gate.set()
        await asyncio.gather(*tasks)

    async def test_is_bounded(self, bench: Bench) -> None:
        await asyncio.gather(*bench.begin(*range(MOST + 5)))

        assert [len(group) for group in bench.groups] == [MOST, 5]

    async def test_keeps_nothing_when_all_is_done(self, bench: Bench) -> None:
        await asyncio.gather(*bench.begin(1), *bench.begin(2, tenant=new_id()))
        await settle()

        assert not bench.together._waiting
        assert not bench.together._at_work
        assert not bench.together._groups


class TestFailure:
    async def test_of_a_group_is_only_of_those_who_spoil_it(self, bench: Bench) -> None:
        bench.bad = {2}

        found = await asyncio.gather(*bench.begin(1, 2, 3), return_exceptions=True)

        assert [found[0], found[2]] == [10, 30]
        assert isinstance(found[1], OSError)
        assert bench.groups == [[1, 2, 3], [1], [2], [3]]

    async def test_of_one_item_is_its_own(self, bench: Bench) -> None:
        bench.refused = {3}

        found = await asyncio.gather(*bench.begin(1, 3), return_exceptions=True)

        assert found[0] == 10
        assert isinstance(found[1], LookupError)

    async def test_goes_on_with_whoever_comes_next(self, bench: Bench) -> None:
        bench.bad = {1}
        await asyncio.gather(*bench.begin(1), return_exceptions=True)

        assert await asyncio.gather(*bench.begin(2)) == [20]


class TestCancelled:
    async def test_takes_nobody_along(self, bench: Bench) -> None:
        bench.gate.clear()
        first, second = bench.begin(1, 2)
        await settle()
        first.cancel()
        bench.gate.set()

        assert await second == 20

    async def test_before_its_group_began_is_left_out(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(together, "AT_ONCE", 1)
        bench.gate.clear()
        first = bench.begin(1)
        await settle()
        second, third = bench.begin(2, 3)
        await settle()
        second.cancel()
        await settle()
        bench.gate.set()

        assert await asyncio.gather(*first, third) == [10, 30]
        assert bench.groups == [[1], [3]]
