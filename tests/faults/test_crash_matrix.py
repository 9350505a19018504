"""A customer's journey, once for every effect in it and everything that can befall that effect.

A journey is: two questions in a burst, their answer, and a question that goes to a human. It is
first run undisturbed and its effects are counted. Then it is run again for each of them; who died
is started anew with nothing but what was kept, and everybody repeats what they would repeat.
"""

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from control_plane.bus import loop
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from instance_agent.document import Persona
from tests.faults.in_process import House
from tests.faults.points import Fate

OPENING = "九点开门。"
ANSWERS = {"你们几点开门？": OPENING}
MIN_EFFECTS = 30
"""Fewer would mean that the effects of a journey are not seen."""

PAIRS = 500 if os.environ.get("SCALE") == "full" else 20

BETWEEN_NOTES = {"agent: disk", "agent: GET wecom", "agent: POST wecom"}
"""Where a send may become `unconfirmed`: from the agent's first note on disk to its second."""

ROUNDS = 30
"""Tries after which something will never be well."""

MINUTE = timedelta(minutes=1)

_STATE = """
SELECT c.last_number, c.heard_number, c.turned_number, c.owner, c.owner_version,
    (SELECT array_agg((number, sender_kind, segments->0->>'text')::text ORDER BY number)
     FROM messages WHERE conversation_id = c.id) AS messages,
    (SELECT array_agg((number, from_number, through_number, state)::text ORDER BY number)
     FROM turns WHERE conversation_id = c.id) AS turns
FROM conversations AS c JOIN contacts AS k ON k.id = c.contact_id WHERE c.id = $1
"""
_DELIVERIES = """
SELECT number, state FROM deliveries WHERE conversation_id = $1 ORDER BY number
"""
_SHOWN = """
SELECT key, sender_kind, segments->0->>'text' AS text FROM webchat_messages
WHERE visitor_id = (SELECT id FROM webchat_visitors WHERE id::text = $1) ORDER BY seq
"""
_NEWEST = "SELECT id, key FROM conversations ORDER BY id DESC LIMIT 1"
_LEFT = "SELECT count(*) FROM callbacks"


@pytest.fixture
async def house(
    app_url: str,
    keys: Keyring,
    clock: Clock,
    superuser: asyncpg.Connection,
    people: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    # The wait before a row is given back again says nothing here.
    monkeypatch.setattr(loop, "_FINISH_AGAIN_S", 0)
    house = House(database_url=app_url, keys=keys, clock=clock, superuser=superuser, data=tmp_path)
    await house.open(await people.owner(), ANSWERS)
    with house.watched():
        yield house
    await house.close()


class Journey:
    """One customer's, on one platform."""

    def __init__(self, house: House, clock: Any, kind: str) -> None:
        self._house, self._clock, self._kind = house, clock, kind
        self.agent_is_away = False

    async def run(self, number: int) -> dict[str, Any]:
        """Go through it; how everything stands at its end."""
        user = f"customer-{number}"
        await self._say(user, "在吗", f"{number}-1")
        await self._say(user, "你们几点开门？", f"{number}-2")
        await self.settle()
        await self._say(user, "能修自行车吗？", f"{number}-3")
        await self.settle()
        self._house.points.watching = False
        return await self._state(user)

    async def _say(self, user: str, text: str, message_id: str) -> None:
        """Say it, and go on until it was acknowledged."""
        say: Callable[[str, str, str], Awaitable[bool]]
        say = self._house.tells_wecom if self._kind == "wecom" else self._house.writes
        if self.agent_is_away:
            self._house.agent.die()
        for _ in range(ROUNDS):
            await self._house.revive(agent=not self.agent_is_away)
            if await say(user, text, message_id):
                return
        raise AssertionError(f"never acknowledged: {text}")

    async def settle(self) -> None:
        """Work until nothing is left to do."""
        for _ in range(ROUNDS):
            await self._house.revive()
            self._clock.advance(MINUTE)
            if not await self._house.work():
                return
        raise AssertionError("there is always something left to do")

    async def _state(self, user: str) -> dict[str, Any]:
        superuser = self._house.superuser
        conversation = await superuser.fetchrow(_NEWEST)
        state = dict(await superuser.fetchrow(_STATE, conversation["id"]))
        deliveries = await superuser.fetch(_DELIVERIES, conversation["id"])
        state["deliveries"] = [tuple(row) for row in deliveries]
        state["callbacks"] = await superuser.fetchval(_LEFT)
        if self._kind == "wecom":
            state["shown"] = self._house.wecom.told(user)
            assert self._house.wecom.silenced == []
        else:
            rows = await superuser.fetch(_SHOWN, conversation["key"])
            assert len({row["key"] for row in rows}) == len(rows)
            state["shown"] = [row["text"] for row in rows if row["sender_kind"] != "visitor"]
        return state


HAND_OVER = Persona().hand_over_text
ANSWERED = {
    "last_number": 5,
    "heard_number": 4,
    "turned_number": 4,
    "owner": "waiting",
    "owner_version": 2,
    "messages": [
        "(1,contact,在吗)",
        "(2,contact,你们几点开门？)",
        f"(3,bot,{OPENING})",
        "(4,contact,能修自行车吗？)",
        f"(5,bot,{HAND_OVER})",
    ],
    "turns": ["(1,1,2,answered)", "(2,3,4,handed_over)"],
    "deliveries": [(3, "sent"), (5, "sent")],
    "callbacks": 0,
    "shown": [OPENING, HAND_OVER],
}


@pytest.fixture(params=["webchat", "wecom"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def journey(house: House, clock: Any, kind: str) -> Journey:
    return Journey(house, clock, kind)


def is_well(state: dict[str, Any], kind: str) -> bool:
    """As if nothing had happened; on WeCom, an outcome that nobody can know is left to a person."""
    if kind == "webchat" or len(state["deliveries"]) != len(ANSWERED["deliveries"]):
        return state == ANSWERED
    said = list(zip(state["deliveries"], [OPENING, HAND_OVER], strict=True))
    surely = [text for (_, outcome), text in said if outcome == "sent"]
    perhaps = [text for (_, outcome), text in said if outcome in ("sent", "unconfirmed")]
    once = len(set(state["shown"])) == len(state["shown"])
    hidden = {"deliveries", "shown"}
    return (
        {name: value for name, value in state.items() if name not in hidden}
        == {name: value for name, value in ANSWERED.items() if name not in hidden}
        and len(perhaps) == len(said)
        and once
        and [text for text in state["shown"] if text in surely] == surely
        and set(state["shown"]) <= set(perhaps)
    )


async def matrix(
    house: House, journey: Journey, kind: str, fate: Fate
) -> tuple[list[Any], set[str]]:
    """What was not well, and where an outcome stayed open, with `fate` at every effect in turn."""
    wrong: list[Any] = []
    open_at: set[str] = set()
    for number in itertools.count():
        house.points.watch({number: fate})
        state = await journey.run(number)
        if number >= len(house.points.names):
            assert number >= MIN_EFFECTS
            return wrong, open_at
        name = house.points.names[number]
        if not is_well(state, kind):
            wrong.append((number, name, state))
        elif state != ANSWERED:
            open_at.add(name)
    raise AssertionError("a journey without an end")


class TestMatrix:
    async def test_undisturbed(self, house: House, journey: Journey) -> None:
        house.points.watch({})

        assert await journey.run(0) == ANSWERED
        assert {name.partition(":")[0] for name in house.points.names} == {"control plane", "agent"}

    @pytest.mark.parametrize("fate", Fate)
    async def test_anything_goes_wrong(
        self, house: House, journey: Journey, kind: str, fate: Fate
    ) -> None:
        wrong, open_at = await matrix(house, journey, kind, fate)

        assert wrong == []
        assert open_at <= BETWEEN_NOTES

    @pytest.mark.parametrize("kind", ["wecom"])
    @pytest.mark.parametrize("fate", [Fate.DIES_BEHIND, Fate.FAILS, Fate.UNHEARD])
    async def test_anything_goes_wrong_while_callbacks_wait_for_the_agent(
        self, house: House, journey: Journey, kind: str, fate: Fate
    ) -> None:
        journey.agent_is_away = True

        wrong, open_at = await matrix(house, journey, kind, fate)

        assert wrong == []
        assert open_at <= BETWEEN_NOTES

    @pytest.mark.parametrize("fate", [Fate.DIES_BEFORE, Fate.DIES_BEHIND])
    async def test_the_agent_dies_and_its_disk_with_it(
        self, house: House, journey: Journey, kind: str, fate: Fate
    ) -> None:
        house.points.watch({})
        await journey.run(0)
        agents = [n for n, name in enumerate(house.points.names) if name.startswith("agent")]
        house.keeps_disk = False
        wrong = []
        for number in agents:
            house.points.watch({number: fate})
            state = await journey.run(number)
            if not is_well(state, kind):
                wrong.append((number, house.points.names[number], state))

        assert len(agents) > 8
        assert wrong == []


class TestPairs:
    async def test_two_things_go_wrong(self, house: House, journey: Journey, kind: str) -> None:
        seed = os.environ.get("PAIRS_SEED") or os.urandom(4).hex()
        random = Random(seed)
        wrong = []
        for number in range(PAIRS):
            # Beyond the effects of an undisturbed journey there are those of its recovery.
            fates = {random.randrange(2 * MIN_EFFECTS): random.choice(list(Fate)) for _ in range(2)}
            house.points.watch(fates)
            if not is_well(state := await journey.run(number), kind):
                wrong.append((fates, house.points.names, state))

        assert wrong == [], f"PAIRS_SEED={seed}"


class TestClocks:
    @pytest.mark.parametrize("kind", ["webchat"])
    @pytest.mark.parametrize("days", [-1, 1])
    async def test_may_jump_between_any_two_effects(
        self, house: House, journey: Journey, clock: Any, days: int
    ) -> None:
        house.points.watch({})
        await journey.run(0)
        effects = len(house.points.names)
        wrong = []
        for number in range(effects):
            jump = timedelta(days=days)
            house.points.watch({})
            house.points.at = (number, lambda jump=jump: clock.advance(jump))
            if (state := await journey.run(number + 1)) != ANSWERED:
                wrong.append((number, house.points.names[number], state))

        assert wrong == []

    async def test_of_an_agent_that_are_wrong_lose_nothing(
        self, house: House, journey: Journey, kind: str, superuser: asyncpg.Connection
    ) -> None:
        house.skew = timedelta(minutes=10)
        said = house.tells_wecom if kind == "wecom" else house.writes

        assert await said("lin", "你们几点开门？", "1")
        assert await superuser.fetchval("SELECT count(*) FROM messages") == 0
        house.skew = timedelta(0)
        await journey.settle()

        assert await superuser.fetchval("SELECT count(*) FROM messages") == 2
        assert await superuser.fetchval("SELECT array_agg(state) FROM deliveries") == ["sent"]
