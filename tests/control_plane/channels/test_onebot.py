"""A QQ client through the whole house: its socket to our public route, the agent behind it."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.simulators.onebot import OneBot
from adapters.simulators.platform import Line
from tests.control_plane.channels.test_wecom import (
    ANSWERS,
    PATIENCE_S,
    clock,
    house_at_work,
    local,
    port,
)
from tests.control_plane.conversations.scene import until

__all__ = ["clock", "house_at_work", "port"]

FRIEND, GROUP = "345678901", "987654321"


class Bench:
    """A tenant with a bot, its channel, and the client behind it."""

    def __init__(self, owner: Any, client: OneBot) -> None:
        self.owner = owner
        self.client = client
        self.instance_id = ""
        self.channel: dict[str, Any] = {}

    async def open(self) -> None:
        made = await self.owner.post("/instances", {"name": "Bot"})
        self.instance_id = made.json()["id"]
        answer = await self.owner.post(
            f"/instances/{self.instance_id}/channels",
            {"kind": "onebot", "name": "QQ", "settings": self.client.settings},
        )
        assert answer.status_code == 201, answer.text
        self.channel = answer.json()
        answer = await self.owner.call("PUT", "/answers", json={"items": ANSWERS})
        assert answer.status_code == 200, answer.text

    async def state(self) -> tuple[str, str | None]:
        shown = (await self.owner.get(f"/channels/{self.channel['id']}")).json()
        return shown["state"], shown["state_reason"]

    async def connected(self) -> None:
        async def look() -> bool:
            return (await self.state())[0] == "connected"

        await until(look, "a connected channel")


@pytest.fixture
def shop(people, port: int, house_at_work):
    """`async with shop(...) as bench`: a bot that runs, and a client that found its way."""

    @asynccontextmanager
    async def shop(**options: Any) -> AsyncIterator[Bench]:
        # As often as a client that is far away: the limit of the route is a real one.
        async with OneBot(reconnect_s=1.1, **options) as client:
            bench = Bench(await people.owner(), client)
            await bench.open()
            client.callback_url = local(bench.channel["callback_url"], port)
            await bench.connected()
            yield bench

    return shop


class TestJourney:
    async def test_people_get_their_answers_over_the_clients_socket(self, shop) -> None:
        async with shop() as bench:
            client = bench.client
            assert await client.bring(Line(user=FRIEND, text="你们几点开门？"))
            await client.until_shown(1, patience_s=PATIENCE_S)
            assert await client.bring(Line(user=FRIEND, chat=GROUP, text=" 你们卖什么花？"))
            await client.until_shown(2, patience_s=PATIENCE_S)

        assert [seen.text for seen in client.shown(FRIEND)] == ["早上九点。"]
        assert [seen.text for seen in client.shown(chat=GROUP)] == ["玫瑰和百合。"]

    async def test_a_cut_connection_costs_nothing_but_a_moment(self, shop) -> None:
        async with shop() as bench:
            client = bench.client
            await client.disconnect()
            await client.until(lambda: not client.connected, patience_s=PATIENCE_S)
            await client.until_connected(patience_s=PATIENCE_S)
            assert await client.bring(Line(user=FRIEND, text="你们几点开门？"))
            await client.until_shown(1, patience_s=PATIENCE_S)

        assert [seen.text for seen in client.seen] == ["早上九点。"]

    async def test_an_agent_that_dies_is_followed_by_one_that_answers(
        self, shop, tmp_path: Path
    ) -> None:
        async with shop() as bench:
            client = bench.client
            [agent] = agents_below(tmp_path)
            os.kill(agent, signal.SIGKILL)
            await client.until(lambda: not client.connected, patience_s=PATIENCE_S)
            await client.until_connected(patience_s=PATIENCE_S)
            assert agents_below(tmp_path) != [agent]
            assert await client.bring(Line(user=FRIEND, text="你们几点开门？"))
            await client.until_shown(1, patience_s=PATIENCE_S)

        assert [seen.text for seen in client.seen] == ["早上九点。"]
        # While there was no agent the client was sent away, and came back by itself.
        assert set(client.refused) <= {503, 429}

    async def test_a_change_of_the_token_leaves_the_client_in(self, shop) -> None:
        async with shop() as bench:
            client, path = bench.client, f"/channels/{bench.channel['id']}"
            answer = await bench.owner.call(
                "PATCH", path, json={"settings": {"access_token": "a-new-token-of-the-tenant"}}
            )
            assert answer.status_code == 200, answer.text
            # The old adapter's socket ends; the client shows the old token and is let in.
            await client.until(lambda: client.closed, patience_s=PATIENCE_S)
            await client.until_connected(patience_s=PATIENCE_S)
            assert await client.bring(Line(user=FRIEND, text="你们几点开门？"))
            await client.until_shown(1, patience_s=PATIENCE_S)

    async def test_events_that_are_posted_are_answered_by_the_clients_api(self, shop) -> None:
        async with shop(transport="http") as bench:
            client = bench.client
            assert await client.bring(Line(user=FRIEND, text="你们几点开门？"))
            await client.until_shown(1, patience_s=PATIENCE_S)

        assert [seen.text for seen in client.seen] == ["早上九点。"]


def agents_below(folder: Path) -> list[int]:
    """The agents that this test's house has started."""
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.is_running()
        and child.status() != psutil.STATUS_ZOMBIE
        and any(str(folder) in word for word in [*child.cmdline(), *child.environ().values()])
    ]


class TestSetUp:
    @pytest.fixture
    async def owner(self, people) -> Any:
        return await people.owner()

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"self_id": "me"}, "/settings/self_id"),
            ({"access_token": ""}, "/settings/access_token"),
            ({"access_token": "a b"}, "/settings/access_token"),
            ({"transport": "http"}, "/settings/api_url"),
            ({"api_url": "ftp://x"}, "/settings/api_url"),
        ],
    )
    async def test_a_wrong_setting_is_refused_with_its_path(self, owner, changes, path) -> None:
        made = await owner.post("/instances", {"name": "Bot"})
        settings = {"self_id": "10001000", "access_token": "token-of-the-tenant"} | changes
        answer = await owner.post(
            f"/instances/{made.json()['id']}/channels",
            {"kind": "onebot", "name": "x", "settings": settings},
        )

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
        assert [error["path"] for error in answer.json()["errors"]] == [path]

    async def test_a_bot_with_such_a_channel_does_not_sleep(self, owner) -> None:
        async with OneBot() as client:
            bench = Bench(owner, client)
            await bench.open()
            answer = await owner.post(f"/instances/{bench.instance_id}/hibernate")

        assert (answer.status_code, answer.json()["code"]) == (409, "cannot_hibernate")
