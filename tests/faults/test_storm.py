"""Customers write and a colleague answers while everything around them is killed, paused, cut,
slowed and refused, and clocks are set.

What happens is drawn from a seed, which is printed; `STORM_SEED` repeats one. After the storm all
is well again, and then what was promised must have been kept.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from adapters.simulators.wecom import PER_MINUTE, WeCom
from tests.e2e.conftest import until
from tests.faults import skewed
from tests.faults.checker import Findings, at_rest, check, left, may_have_seen
from tests.faults.colleague import Colleague
from tests.faults.customers import BURST, Guest, Member, guests, write
from tests.faults.installation import ANSWERS, BOSS, Installation, sign_in
from tests.faults.storm import Storm
from tests.faults.weather import KINDS, forecast
from tests.redis_server import RedisServer

FULL = os.environ.get("SCALE") == "full"
STORM_S = float(os.environ.get("STORM_S") or (900.0 if FULL else 35.0))
PEOPLE = 6 if FULL else 4
"""On each platform."""

PAUSE_S = (3.0, 12.0) if FULL else (0.3, 2.5)
"""Between messages of one person; over minutes, within what the platform takes for one member."""

COLLEAGUES_PAUSE_S = (1.0, 6.0) if FULL else (0.05, 0.8)

MAX_SAID = 100_000 if FULL else PER_MINUTE - BURST
"""Of one person: more answers within a minute would wait for the next."""

REST_S = 1800.0 if FULL else 240.0
"""Until all is done afterwards: leases end after 15 s, retries come up to some minutes
apart, and what a long storm has left of callbacks is passed on one at a time."""

_SHOWN = """
SELECT count(*) FROM webchat_messages
WHERE visitor_id = (SELECT visitor_id FROM webchat_messages WHERE id = $1)
    AND sender_kind <> 'visitor'
"""


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


class TestForecast:
    def test_is_all_in_the_seed(self) -> None:
        assert forecast("1", 600) == forecast("1", 600) != forecast("2", 600)

    def test_leaves_no_kind_out(self) -> None:
        kinds = {fault.kind for gust in forecast("1", 120) for fault in gust.faults}

        assert kinds == set(KINDS)


class TestClock:
    def test_is_set_by_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: 100.0)
        skewed.set_ahead(tmp_path / "clock", 0.0)
        skewed.follow(tmp_path / "clock")
        before = time.time()

        skewed.set_ahead(tmp_path / "clock", -45.0)

        assert (before, time.time()) == (100.0, 55.0)


class TestMayHaveSeen:
    @pytest.mark.parametrize(
        ("told", "sent", "may"),
        [
            ("ab", [("a", "sent"), ("b", "sent")], True),
            ("a", [("a", "sent"), ("b", "unconfirmed")], True),
            ("aa", [("a", "sent")], False),
            ("a", [("a", "sent"), ("a", "sent")], False),
            ("ba", [("a", "sent"), ("b", "sent")], False),
            ("a", [("a", "withheld")], False),
            ("aa", [("a", "unconfirmed"), ("a", "sent"), ("a", "failed")], True),
        ],
    )
    def test_takes_each_text_once_and_in_order(
        self, told: str, sent: list[tuple[str, str]], may: bool
    ) -> None:
        assert may_have_seen(told, sent) == may


class TestStorm:
    async def test_keeps_what_was_promised(self, house: Installation, seed: str) -> None:
        random = Random(seed)
        storm = Storm(house)
        members = [Member(house.wecom, f"member{number}") for number in range(PEOPLE)]
        house.wecom.members |= {member.name for member in members}
        try:
            async with guests(house.webchat_url, PEOPLE) as visitors, house.client() as http:
                await sign_in(http, BOSS)
                colleague = Colleague(house, http, Random(random.random()), COLLEAGUES_PAUSE_S)
                people: list[Member | Guest] = [*members, *visitors]
                await self._live_through(storm, seed, people, colleague, random)
                found = await self._rests(house, visitors, people, colleague)
        finally:
            print(f"STORM_SEED={seed}", f"{storm.faults} faults", *storm.timeline, sep="\n")

        print(dict(sorted((found.counts + colleague.counts).items())))
        # All of it: an assertion shows the beginning only.
        print(*found.wrong, sep="\n")
        assert found.wrong == []
        assert house.wecom.silenced == []
        assert found.counts["bot's sent"] > 0
        assert colleague.counts["taken over"] > 0
        assert all(link.connections for link in house.links.values())

    async def _live_through(
        self,
        storm: Storm,
        seed: str,
        people: list[Member | Guest],
        colleague: Colleague,
        random: Random,
    ) -> None:
        end = asyncio.Event()
        texts = list(ANSWERS)
        living = [
            asyncio.create_task(
                write(who, texts, Random(random.random()), end, pause_s=PAUSE_S, most=MAX_SAID)
            )
            for who in people
        ]
        living.append(asyncio.create_task(colleague.work(end)))
        await storm.rage(forecast(seed, STORM_S))
        storm.note("calm")
        end.set()
        await asyncio.gather(*living)
        await colleague.give_everything_back()
        storm.note("everything was given back")

    async def _rests(
        self,
        house: Installation,
        visitors: list[Guest],
        people: list[Member | Guest],
        colleague: Colleague,
    ) -> Findings:
        """What is found once all that was said is dealt with."""
        async with house.behind_the_walls() as connection:

            async def still() -> bool:
                heard = not any(visitor.page.unacknowledged for visitor in visitors)
                # What was heard late may have gone to a human.
                await colleague.give_everything_back()
                return heard and await at_rest(connection)

            try:
                await until(still, "an end of all work", REST_S)
            except AssertionError:
                print("left:", *await left(connection), sep="\n")
                raise
            for visitor in visitors:
                shown = await connection.fetchval(_SHOWN, UUID(visitor.page.shown[-1]["id"]))
                await visitor.page.sees(lambda page, n=shown: len(page.answers) >= n)
            return await check(connection, people, colleague.said)
