"""A tenant's own system through the house: its calls at the front door, an agent behind it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.simulators.http import System
from adapters.simulators.platform import Line
from control_plane.kit.clock import SystemClock
from tests.control_plane.conversations.scene import until

PATIENCE_S = 30.0
ANSWERS = [{"question": "你们几点开门？", "answer": "早上九点。"}]


@pytest.fixture
def clock() -> SystemClock:
    """The system reads the machine's clock."""
    return SystemClock()


@pytest.fixture
async def system() -> AsyncIterator[System]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with System(deadline_s=PATIENCE_S) as made:
        yield made


@pytest.fixture
async def owner(people: Any) -> Any:
    return await people.owner()


async def opened(owner: Any, port: int, system: System, **changes: Any) -> dict[str, Any]:
    """A channel of this system, its address entered there."""
    made = await owner.post("/instances", {"name": "Bot"})
    answer = await owner.post(
        f"/instances/{made.json()['id']}/channels",
        {"kind": "http", "name": "客服", "settings": system.settings | changes},
    )
    assert answer.status_code == 201, answer.text
    channel: dict[str, Any] = answer.json()
    token = channel["callback_url"].rpartition("/")[2]
    system.callback_url = f"http://127.0.0.1:{port}/im/{token}"
    return channel


class TestWithoutAnAgent:
    async def test_a_ping_is_answered_and_messages_are_kept(
        self, owner: Any, port: int, system: System, superuser: Any
    ) -> None:
        shown = await opened(owner, port, system)
        assert shown["secrets_set"] == ["secret"]

        assert await system.check_address()
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0

        assert await system.bring(Line(user="u1", text="你们几点开门？"))
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_a_stranger_is_not_heard(
        self, owner: Any, port: int, system: System, superuser: Any
    ) -> None:
        await opened(owner, port, system)
        async with System() as stranger:
            stranger.callback_url = system.callback_url

            assert not await stranger.bring(Line(user="u1", text="hello"))
            assert not await stranger.check_address()

        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0

    async def test_after_a_change_of_the_secret_the_former_is_still_taken(
        self, owner: Any, port: int, system: System
    ) -> None:
        channel = await opened(owner, port, system)
        former, system.key = system.key, b"n" * 32
        changed = await owner.patch(
            f"/channels/{channel['id']}", {"settings": {"secret": system.secret}}
        )
        assert changed.status_code == 200, changed.text

        for key in (former, system.key):
            system.key = key
            assert await system.bring(Line(user="u1", text="hello"))


class TestJourney:
    async def test_a_customer_gets_the_answer_once_whatever_breaks_on_the_way(
        self, owner: Any, port: int, house_at_work: None, system: System
    ) -> None:
        await owner.call("PUT", "/answers", json={"items": ANSWERS})
        channel = await opened(owner, port, system)

        async def connected() -> bool:
            shown = (await owner.get(f"/channels/{channel['id']}")).json()
            return bool(shown["state"] == "connected")

        await until(connected, "a connected channel")
        # The first answer is shown and the word that it was is lost, so it is sent again.
        system.faults.drop_reply = 1
        for _ in range(2):
            assert await system.bring(Line(user="u1", text="你们几点开门？", id="m-1"))

        async def repeated() -> bool:
            return bool(system.repeats)

        await until(repeated, "the same message again, under its id")
        assert [(each.text, each.quotes) for each in system.shown("u1")] == [("早上九点。", "m-1")]
