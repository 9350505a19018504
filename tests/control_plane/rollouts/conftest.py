"""Several tenants' bots in one place in memory, and an operator who brings releases out to them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.fleet.provision.base import WorkloadState
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.parts import Parts
from control_plane.rollouts.worker import WORK, Rollouts
from instance_agent.protocol import Bootstrap
from tests.conftest import People, Person, SetClock
from tests.control_plane.fleet.conftest import Fleet, stand_in  # noqa: F401

HOUR = timedelta(hours=1)
TICK = timedelta(seconds=20)
MOST_TICKS = 80

QUICK = {"watch_s": 20, "ready_within_s": 40, "budget_percent": 0}
"""Terms of a rollout of some ticks."""


class Scene:
    """Tenants with one bot each. `mute` are images whose agents never say anything."""

    def __init__(
        self,
        parts: Parts,
        clock: SetClock,
        people: People,
        superuser: asyncpg.Connection,
        url: str,
    ) -> None:
        self.parts, self.clock, self.superuser = parts, clock, superuser
        self.people = people
        self.place = FakePlace(clock)
        self.mute: set[str] = set()
        self.bots: dict[UUID, Fleet] = {}
        self.worker = self.new_worker()
        self.url = url
        self._given: dict[tuple[UUID, str | None], Bootstrap] = {}
        self.operator: Person

    def new_worker(self) -> Rollouts:
        house = self.parts.house
        return Rollouts(house.database, self.clock)

    async def add(self, *, group: str = "", up: bool = True) -> UUID:
        """One more tenant with a bot that runs."""
        owner = await self.people.owner()
        fleet = Fleet(self.parts, self.clock, owner, self.superuser, self.url)
        fleet.place = self.place
        fleet.reconciler = fleet.reconciler_over(FakeProvisioner(self.place))
        if group:
            path = f"/tenants/{owner.tenant_id}/rollout-group"
            answer = await self.operator.call("PUT", path, json={"group": group})
            assert answer.status_code == 200, answer.text
        bot = await fleet.create()
        self.bots[bot] = fleet
        if up:
            await self.live(bot)
            assert await self.phase(bot) == "running"
        return bot

    async def live(self, bot: UUID) -> None:
        """A look at a bot, and what its agent does by itself."""
        fleet = self.bots[bot]
        await fleet.look(bot)
        workload = self.place.get(bot)
        release = self.place.made_of(bot)
        if workload.state is not WorkloadState.RUNNING:
            return
        if release is not None and release.image in self.mute:
            return
        given = self._given.get((bot, workload.ref))
        if given is None:
            if workload.generation != await self.generation(bot):
                return
            given = self._given[bot, workload.ref] = await fleet.bootstrap(bot)
            await fleet.look(bot)
            await fleet.beat(bot, given)
            await fleet.look(bot)
        else:
            await fleet.beat(bot, given)

    async def lease(self, rollout_id: UUID) -> Lease | None:
        """The right to work on the rollout now; None when there is no work any more."""
        async with self.parts.house.database.session() as session:
            await leases.call_key(session, WORK, rollout_id)
            claimed = await leases.claim(session, WORK, owner="test", limit=1, lease=HOUR)
        return claimed[0] if claimed else None

    async def look(self, rollout_id: UUID) -> bool:
        """Looks as the loop makes them, until nothing is left to do now; whether it goes on."""
        for _ in range(MOST_TICKS):
            lease = await self.lease(rollout_id)
            if lease is None:
                return False
            again: timedelta | None = timedelta(0)
            try:
                again = await self.worker.bring_on(lease)
            finally:
                async with self.parts.house.database.session() as session:
                    await leases.finish(session, lease, again_after=again)
            if again != timedelta(0):
                return again is not None
        raise AssertionError("the rollout never rests")

    async def tick(self, rollout_id: UUID) -> bool:
        """Some seconds pass; whether the rollout goes on."""
        self.clock.advance(TICK)
        goes_on = await self.look(rollout_id)
        for bot in self.bots:
            await self.live(bot)
        return goes_on

    async def until(self, rollout_id: UUID, seen: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(MOST_TICKS):
            if await seen():
                return
            await self.tick(rollout_id)
        raise AssertionError(str(await self.get(rollout_id)))

    async def until_over(self, rollout_id: UUID) -> dict:
        async def over() -> bool:
            return (await self.get(rollout_id))["ended_at"] is not None

        await self.until(rollout_id, over)
        found = await self.get(rollout_id)
        if found["state"] == "rolled_back":
            # Who went back at last comes up again.
            for _ in range(3):
                await self.tick(rollout_id)
        return found

    async def converge(self) -> None:
        """As if controllers had brought every bot up."""
        await self.superuser.execute(
            "UPDATE instances SET observed_generation = generation, phase = 'running'"
        )

    async def release(self, **body: object) -> int:
        answer = await self.operator.post("/releases", body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["number"])

    async def start(self, release: int, **terms: object) -> UUID:
        answer = await self.operator.post("/rollouts", {"release": release} | QUICK | terms)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def say(self, rollout_id: UUID, word: str, body: object = None) -> dict:
        answer = await self.operator.post(f"/rollouts/{rollout_id}/{word}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, rollout_id: UUID) -> dict:
        return (await self.operator.get(f"/rollouts/{rollout_id}")).json()

    async def members(self, rollout_id: UUID) -> dict[UUID, dict]:
        page = (await self.operator.get(f"/rollouts/{rollout_id}/members")).json()
        return {UUID(each["instance_id"]): each for each in page["items"]}

    async def states(self, rollout_id: UUID) -> dict[UUID, str]:
        return {bot: each["state"] for bot, each in (await self.members(rollout_id)).items()}

    async def generation(self, bot: UUID) -> int:
        query = "SELECT generation FROM instances WHERE id = $1"
        return int(await self.superuser.fetchval(query, bot))

    async def phase(self, bot: UUID) -> str:
        return str(await self.superuser.fetchval("SELECT phase FROM instances WHERE id = $1", bot))

    async def phases(self) -> set[str]:
        return {await self.phase(bot) for bot in self.bots}

    def images(self) -> dict[UUID, str | None]:
        """What each bot's newest start is made of."""
        made = {bot: self.place.made_of(bot) for bot in self.bots}
        return {bot: release.image if release else None for bot, release in made.items()}


@pytest.fixture
async def scene(
    parts: Parts,
    clock: SetClock,
    people: People,
    superuser: asyncpg.Connection,
    stand_in,  # noqa: F811
) -> Scene:
    scene = Scene(parts, clock, people, superuser, stand_in.url)
    scene.operator = await people.operator()
    return scene
