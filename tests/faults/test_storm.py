"""Customers write while everything around them is killed, paused, cut, slowed and refused.

What happens is drawn from a seed, which is printed; `STORM_SEED` repeats one. After the storm all
is well again, and then what was promised must have been kept.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from uuid import UUID

import psutil
import pytest

from adapters.simulators.wecom import Faults, WeCom
from tests.e2e.conftest import until
from tests.faults.checker import Findings, at_rest, check
from tests.faults.customers import Guest, Member, guests, write
from tests.faults.installation import ANSWERS, PARTS, Installation
from tests.faults.proxy import Proxy
from tests.redis_server import RedisServer

FULL = os.environ.get("SCALE") == "full"
STORM_S = 900.0 if FULL else 40.0
PEOPLE = 12 if FULL else 4
"""On each platform."""

CALM_S = (0.2, 1.5)
"""Between two faults."""

OUTAGE_S = (0.3, 4.0)
"""How long one lasts; longer than an agent's or a platform's patience now and then."""

REST_S = 240.0
"""Until all is done afterwards: leases end after 15 s, retries come up to some minutes apart."""


FAULTS = ["answer_500", "rate_limit", "busy", "drop_reply", "redeliver", "drop_callbacks"]

_SHOWN = """
SELECT count(*) FROM webchat_messages
WHERE visitor_id = (SELECT visitor_id FROM webchat_messages WHERE id = $1)
    AND sender_kind <> 'visitor'
"""


class Storm:
    """One fault after the other, sometimes two at a time; each is over before it returns."""

    def __init__(self, house: Installation, random: Random) -> None:
        self._house = house
        self._random = random
        self.log: list[str] = []
        # Two faults of one part at a time would say nothing more, and need each other's state.
        self._parts, self._database, self._redis = (asyncio.Lock() for _ in range(3))
        self._faults: list[Callable[[], Awaitable[None]]] = [
            self._kill_part,
            self._pause_part,
            self._kill_agents,
            self._lose_disks,
            self._pause_agents,
            self._fill_disks,
            self._kill_redis,
            self._kill_database,
            self._pause_database,
            self._cut_link,
            self._slow_link,
            self._unreliable_link,
            self._annoy_platform,
        ]

    async def rage(self, seconds: float) -> None:
        """Go on for a while, then leave everything well."""
        now = asyncio.get_running_loop().time
        end = now() + seconds
        # Every fault comes up before any comes again.
        deck: list[Callable[[], Awaitable[None]]] = []
        while now() < end:
            await asyncio.sleep(self._random.uniform(*CALM_S))
            if len(deck) < 2:
                deck += self._random.sample(self._faults, len(self._faults))
            count = self._random.choice([1, 1, 2])
            await asyncio.gather(*(deck.pop()() for _ in range(count)))

    async def _lasts(self, what: str) -> None:
        self.log.append(what)
        await asyncio.sleep(self._random.uniform(*OUTAGE_S))

    # --- processes ---

    async def _kill_part(self) -> None:
        name = self._random.choice(list(PARTS))
        async with self._parts:
            self.log.append(f"{name} killed")
            await asyncio.to_thread(self._house.kill, name)

    async def _pause_part(self) -> None:
        name = self._random.choice(list(PARTS))
        async with self._parts, self._house.stopped(name):
            await self._lasts(f"{name} paused")

    async def _kill_agents(self) -> None:
        self.log.append("agent killed")
        for agent in self._house.agents():
            agent.kill()

    async def _lose_disks(self) -> None:
        async with self._parts, self._house.stopped("controller"):
            self.log.append("agent killed, disk lost")
            agents = self._house.agents()
            for agent in agents:
                agent.kill()
            await until(lambda: _gone(agents), "agents that are gone")
            self._house.forget_disks()

    async def _pause_agents(self) -> None:
        with _paused(self._house.agents()):
            await self._lasts("agent paused")

    async def _fill_disks(self) -> None:
        self._house.fill_disks(True)
        await self._lasts("agent's disk full")
        self._house.fill_disks(False)

    async def _kill_redis(self) -> None:
        async with self._redis:
            self._house.redis.kill()
            await self._lasts("redis killed")
            await asyncio.to_thread(self._house.redis.start)

    async def _kill_database(self) -> None:
        async with self._database:
            self.log.append("database killed")
            await self._house.kill_database()

    async def _pause_database(self) -> None:
        async with self._database:
            with _paused(self._house.database_processes()):
                await self._lasts("database paused")

    # --- links ---

    def _link(self) -> Proxy:
        return self._house.links[self._random.choice(sorted(self._house.links))]

    async def _cut_link(self) -> None:
        link = self._link()
        link.cut()
        await self._lasts(f"link {link.name} cut")
        link.heal()

    async def _slow_link(self) -> None:
        link = self._link()
        link.delay_s = self._random.uniform(0.02, 0.5)
        await self._lasts(f"link {link.name} slow")
        link.heal()

    async def _unreliable_link(self) -> None:
        link = self._link()
        link.loss = self._random.uniform(0.02, 0.3)
        await self._lasts(f"link {link.name} unreliable")
        link.heal()

    # --- the platform ---

    async def _annoy_platform(self) -> None:
        wecom, count = self._house.wecom, self._random.randint(1, 3)
        fault = self._random.choice([*FAULTS, "expire_tokens"])
        if fault == "expire_tokens":
            wecom.expire_tokens()
        else:
            setattr(wecom.faults, fault, count)
        await self._lasts(f"platform: {fault}")
        wecom.faults = Faults()


def _paused(processes: list[psutil.Process]) -> contextlib.AbstractContextManager[None]:
    """They stand still for as long as this lasts."""

    def signal_all(number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    @contextlib.contextmanager
    def pause() -> Iterator[None]:
        signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(signal.SIGCONT)

    return pause()


async def _gone(processes: list[psutil.Process]) -> bool:
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


@pytest.fixture
async def house(
    tmp_path: Path, redis_server: RedisServer, seed: str
) -> AsyncIterator[Installation]:
    async with WeCom() as wecom:
        house = Installation(tmp_path, redis_server, wecom, Random(seed))
        async with house.up():
            yield house


@pytest.fixture
def seed() -> str:
    return os.environ.get("STORM_SEED") or os.urandom(4).hex()


class TestStorm:
    async def test_keeps_what_was_promised(self, house: Installation, seed: str) -> None:
        random = Random(seed)
        storm = Storm(house, Random(f"{seed} storm"))
        members = [Member(house.wecom, f"member{number}") for number in range(PEOPLE)]
        house.wecom.members |= {member.name for member in members}
        async with guests(house.webchat_url, PEOPLE) as visitors:
            people: list[Member | Guest] = [*members, *visitors]
            end = asyncio.Event()
            writing = [
                asyncio.create_task(write(who, list(ANSWERS), Random(random.random()), end))
                for who in people
            ]
            await storm.rage(STORM_S)
            end.set()
            await asyncio.gather(*writing)
            found = await self._rests(house, visitors, people)

        print(f"STORM_SEED={seed}", storm.log, dict(found.counts), sep="\n")
        assert found.wrong == []
        assert house.wecom.silenced == []
        assert found.counts["answers sent"] > 0

    async def _rests(
        self, house: Installation, visitors: list[Guest], people: list[Member | Guest]
    ) -> Findings:
        """What is found once all that was said is dealt with."""
        async with house.behind_the_walls() as connection:

            async def still() -> bool:
                heard = not any(visitor.page.unacknowledged for visitor in visitors)
                return heard and await at_rest(connection)

            await until(still, "an end of all work", REST_S)
            for visitor in visitors:
                shown = await connection.fetchval(_SHOWN, UUID(visitor.page.shown[-1]["id"]))
                await visitor.page.sees(lambda page, n=shown: len(page.answers) >= n)
            return await check(connection, people)
