"""The calls of a tenant's own system at the front door, while no agent is there to take them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.simulators.http import System
from adapters.simulators.platform import Line
from control_plane.app import create_app
from control_plane.kit.clock import SystemClock
from control_plane.parts import Parts
from control_plane.serve import HttpServer, listen

PATIENCE_S = 30.0


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
async def port(parts: Parts, tmp_path: Path) -> AsyncIterator[int]:
    """The application on a port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=tmp_path), listener)
    task = asyncio.create_task(server.run())
    yield listener.getsockname()[1]
    server.stop()
    await task


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
