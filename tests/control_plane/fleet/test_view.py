"""What a look reads: all around the instances it is given, for their tenants and nobody else."""

from uuid import UUID

import pytest

from control_plane.db.session import Scope, driver
from control_plane.fleet.view import Digests, View, load
from tests.conftest import People

# Ways to join that a planner may choose; each is taken away from it in turn.
WAYS = ("enable_nestloop", "enable_hashjoin", "enable_indexscan", "enable_memoize")
PLANS = ("force_generic_plan", "force_custom_plan")


async def read(fleet, *bots: tuple[UUID, UUID]) -> dict[UUID, View]:
    house = fleet.parts.house
    async with house.database.lone() as session:
        return await load(session, house.keys, Digests(), bots, now=house.clock.now())


async def two_tenants(fleet, people: People) -> list[tuple[UUID, UUID]]:
    bots = [(fleet.owner.tenant_id, (await fleet.run())[0])]
    fleet.owner = await people.owner("Other House")
    return [*bots, (fleet.owner.tenant_id, (await fleet.run())[0])]


class TestLoad:
    async def test_speaks_for_the_tenants_it_is_given(self, fleet, people: People) -> None:
        mine, theirs = await two_tenants(fleet, people)

        views = await read(fleet, mine, theirs)

        assert {key: view.instance.tenant_id for key, view in views.items()} == {
            instance_id: tenant_id for tenant_id, instance_id in (mine, theirs)
        }
        for view in views.values():
            assert [each.state for each in view.sessions] == ["active"]
            assert view.applied == view.desired.config

    async def test_sees_nothing_of_a_tenant_that_it_does_not_speak_for(
        self, fleet, people: People
    ) -> None:
        mine, theirs = await two_tenants(fleet, people)

        assert set(await read(fleet, mine, (mine[0], theirs[1]))) == {mine[1]}

    async def test_speaks_for_nobody_afterwards(self, fleet, people: People) -> None:
        mine, _ = await two_tenants(fleet, people)
        house = fleet.parts.house
        async with house.database.lone() as session:
            await load(session, house.keys, Digests(), [mine], now=house.clock.now())

            rows = await (await driver(session)).fetch("SELECT id FROM instances")

        assert rows == []

    @pytest.mark.parametrize("mode", PLANS)
    @pytest.mark.parametrize("without", WAYS)
    async def test_speaks_before_it_reads_however_it_is_planned(
        self, fleet, people: People, without: str, mode: str
    ) -> None:
        bots = await two_tenants(fleet, people)
        house = fleet.parts.house
        async with house.database.plain(Scope()) as session:
            connection = await driver(session)
            await connection.execute(
                f"SET LOCAL {without} = off; SET LOCAL plan_cache_mode = {mode}"
            )
            views = await load(session, house.keys, Digests(), bots, now=house.clock.now())

        assert {(view.instance.tenant_id, key) for key, view in views.items()} == set(bots)
        assert all(view.sessions and view.channels for view in views.values())

    async def test_a_view_says_nothing_of_what_it_was_read_from(self, fleet) -> None:
        bot = (fleet.owner.tenant_id, (await fleet.run())[0])

        view = (await read(fleet, bot))[bot[1]]

        assert view.update.document
        assert view.agent is not None
        assert repr(view) == f"View({view.instance!r})"
