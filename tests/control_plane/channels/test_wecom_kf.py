"""An account of WeCom customer service through the whole house, over real sockets."""

import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from adapters.simulators.wecom_kf import WeComKf
from control_plane.kit.clock import SystemClock
from control_plane.parts import Parts
from tests.control_plane.channels.test_wecom import (
    ANSWERS,
    PATIENCE_S,
    Bench,
    house_at_work,
    local,
    port,
)
from tests.control_plane.conversations.scene import until

__all__ = ["house_at_work", "port"]

CUSTOMERS, BURST = 8, 200


@pytest.fixture
def clock() -> SystemClock:
    """Agents and the platform read the machine's clock."""
    return SystemClock()


@pytest.fixture
async def platform() -> AsyncIterator[WeComKf]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with WeComKf(deadline_s=PATIENCE_S, check_deadline_s=PATIENCE_S) as made:
        made.faults.unasked_per_minute = 1000
        yield made


@pytest.fixture
async def bench(people, platform: WeComKf) -> Bench:
    bench = Bench(await people.owner(), platform, kind="wecom_kf")
    await bench.open()
    return bench


@pytest.fixture
async def open_shop(bench: Bench, platform: WeComKf, port: int, house_at_work) -> Bench:
    """The bot runs and knows its answers."""
    answer = await bench.owner.call("PUT", "/answers", json={"items": ANSWERS})
    assert answer.status_code == 200, answer.text
    platform.callback_url = local(bench.channel["callback_url"], port)
    await bench.connected()
    return bench


class TestSetUp:
    async def test_shows_the_address_to_copy_and_never_a_secret(self, bench: Bench) -> None:
        shown = await bench.look()

        assert shown["callback_url"].startswith("http://botyard.test/im/")
        assert sorted(shown["secrets_set"]) == ["encoding_aes_key", "secret", "token"]
        assert set(shown["settings"]) == {"corp_id", "open_kfid", "base_url"}

    async def test_the_address_is_checked_and_a_call_taken_without_an_agent(
        self, bench: Bench, platform: WeComKf, port: int, superuser
    ) -> None:
        platform.callback_url = local(bench.channel["callback_url"], port)

        assert await platform.check_address()
        assert await platform.say("wm1", "你们几点开门？")

        assert platform.tries == [1]
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1


class TestJourney:
    async def test_a_customer_gets_the_answer(self, open_shop: Bench, platform: WeComKf) -> None:
        assert await platform.say("wm1", "你们几点开门？")
        await platform.until_shown(1, patience_s=PATIENCE_S)

        assert platform.told("wm1") == ["早上九点。"]
        assert await open_shop.said() == [("contact", "你们几点开门？"), ("bot", "早上九点。")]

    async def test_a_burst_behind_one_call_survives_the_death_of_its_agent(
        self, open_shop: Bench, platform: WeComKf, parts: Parts, superuser
    ) -> None:
        platform.faults.page_rows, platform.faults.slow_s = 20, 0.1
        for number in range(BURST):
            user = f"wm{number % CUSTOMERS}"
            platform.put(user, "text", {"content": f"{number}"})

        async def heard(at_least: int) -> list[Any]:
            rows = await superuser.fetch(
                "SELECT conversation_id, segments -> 0 ->> 'text' AS said FROM messages"
                " WHERE sender_kind = 'contact' ORDER BY conversation_id, number"
            )
            return rows if len(rows) >= at_least else []

        assert await platform.ring()
        await until(lambda: heard(1), "the first page")
        kill(parts, open_shop)
        rows = await until(lambda: heard(BURST), "all of it")

        assert platform.tries == [1]
        assert sorted(int(row["said"]) for row in rows) == list(range(BURST))
        for conversation in {row["conversation_id"] for row in rows}:
            said = [int(row["said"]) for row in rows if row["conversation_id"] == conversation]
            assert said == sorted(said)


def kill(parts: Parts, bench: Bench) -> None:
    """The agent's process, at once."""
    record = parts.provisioner._home(UUID(bench.instance_id)).read()
    os.kill(record.process.pid, signal.SIGKILL)
