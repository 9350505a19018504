"""SIGTERM to real processes: what is in hand ends or is handed back, and nobody waits for a lease.

What was measured is printed, not asserted.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx2
import pytest

from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_token
from tests.control_plane.conversations.scene import Bot, make_bot, until
from tests.control_plane.delivery.stand_in import StandIn

BOTYARD = str(Path(sys.executable).with_name("botyard"))
KEY = new_token()
# Longer than any bound of a stopping process.
END_WITHIN_S = 30


@pytest.fixture
def keys():
    """What the processes are given, too."""
    return Keyring([KEY])


@pytest.fixture
def clock():
    """The processes' own: what is queued here must not look old to them."""
    return SystemClock()


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


@pytest.fixture
async def agent(bot: Bot) -> AsyncIterator[StandIn]:
    agent = StandIn()
    async with agent.running():
        await bot.attach(agent.url, agent.journal_id)
        yield agent


async def queued(bot: Bot) -> UUID:
    """A conversation with one outgoing message, in which no bot answers besides."""
    conversation = await bot.hears("你好")
    taken = await bot.owner.post(f"/conversations/{conversation}/take-over")
    assert taken.status_code == 200
    await bot.says(conversation, "一")
    return conversation


class Starter:
    """Starts commands over the test's own database; kills what a test has left."""

    def __init__(self, folder: Path, app_url: str) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "BOTYARD_DATABASE_URL": app_url,
            "BOTYARD_SECRET_KEYS": KEY,
            "BOTYARD_DATA_DIR": str(folder / "data"),
        }
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, **settings: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{command}-{len(self._running)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [BOTYARD, command], env=self.environment | settings, stdout=log
            )
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture
def starter(tmp_path: Path, app_url: str):
    starter = Starter(tmp_path, app_url)
    yield starter
    starter.end()


async def terminate(process: subprocess.Popen[bytes]) -> float:
    """SIGTERM; how long the process took to end, which it did in order."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(process.wait, END_WITHIN_S)
    assert code == 0
    return time.monotonic() - began


class TestWorker:
    async def test_ends_what_it_has_in_hand(
        self, bot: Bot, agent: StandIn, starter: Starter, superuser: asyncpg.Connection
    ) -> None:
        conversation = await queued(bot)
        agent.then(agent.hang)
        worker = starter.start("worker")
        await asyncio.wait_for(agent.asked.wait(), END_WITHIN_S)

        ending = asyncio.create_task(terminate(worker))
        agent.released.set()
        took_s = await ending

        print(f"a worker with a send in hand ended {took_s:.2f} s after SIGTERM")
        assert await bot.deliveries(conversation) == ["sent"]
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE token IS NOT NULL") == 0

    async def test_hands_back_what_does_not_end_and_another_goes_on(
        self, bot: Bot, agent: StandIn, starter: Starter, superuser: asyncpg.Connection
    ) -> None:
        conversation = await queued(bot)
        agent.then(agent.hang)
        first = starter.start("worker")
        await asyncio.wait_for(agent.asked.wait(), END_WITHIN_S)
        starter.start("worker")
        agent.asked.clear()

        took_s = await terminate(first)

        held = await superuser.fetchval("SELECT count(*) FROM work WHERE token IS NOT NULL")
        freed = time.monotonic()
        await asyncio.wait_for(agent.asked.wait(), END_WITHIN_S)
        asked_s = time.monotonic() - freed
        print(
            f"with a send that hangs: ended {took_s:.2f} s after SIGTERM, {held} leases held then;"
            f" another worker asked the agent again {asked_s:.2f} s later"
        )

        async def sent() -> bool:
            return await bot.deliveries(conversation) == ["sent"]

        await until(sent, "the other worker finds out that it was sent")
        assert agent.platform == ["一"]


class TestApi:
    async def test_says_that_it_is_not_ready_before_it_stops_taking(
        self, starter: Starter, free_port
    ) -> None:
        port = free_port()
        process = starter.start("api", BOTYARD_PORT=str(port))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx2.HTTPError:
                    return False

            await until(ready, "the api serves")
            ending = asyncio.create_task(terminate(process))

            async def leaving() -> bool:
                answer = await http.get("/readyz")
                return answer.status_code == 503 and answer.json()["code"] == "draining"

            await until(leaving, "the api says that it is about to stop")
            assert (await http.get("/healthz")).status_code == 200
            print(f"the api ended {await ending:.2f} s after SIGTERM")
