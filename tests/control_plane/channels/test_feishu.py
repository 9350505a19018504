"""A Feishu bot through the control plane: set up over REST, its address called over a socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.simulators.feishu import Feishu
from adapters.simulators.platform import Line
from control_plane.app import create_app
from control_plane.kit.clock import SystemClock
from control_plane.parts import Parts
from control_plane.serve import HttpServer, listen
from tests.control_plane.channels.test_wecom import house_at_work
from tests.control_plane.conversations.scene import until

__all__ = ["house_at_work"]

# A busy machine may take longer than a real platform waits; what is tested is the answer.
PATIENCE_S = 30.0


@pytest.fixture
def clock() -> SystemClock:
    """The platform reads the machine's clock."""
    return SystemClock()


@pytest.fixture
async def feishu() -> AsyncIterator[Feishu]:
    async with Feishu(
        transport="callback", deadline_s=PATIENCE_S, check_deadline_s=PATIENCE_S
    ) as platform:
        yield platform


async def open_channel(owner: Any, settings: dict[str, Any]) -> Any:
    instance = (await owner.post("/instances", {"name": "Bot"})).json()
    return await owner.post(
        f"/instances/{instance['id']}/channels",
        {"kind": "feishu", "name": "客服", "settings": settings},
    )


@pytest.fixture
async def port(parts: Parts, tmp_path: Path) -> AsyncIterator[int]:
    """The application on a port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=tmp_path), listener)
    task = asyncio.create_task(server.run())
    yield listener.getsockname()[1]
    server.stop()
    await task


class TestSetUp:
    async def test_shows_the_address_and_never_a_secret(self, people, feishu: Feishu) -> None:
        channel = (await open_channel(await people.owner(), feishu.settings)).json()

        assert channel["callback_url"].startswith("http://botyard.test/im/")
        assert set(channel["secrets_set"]) == {"app_secret", "encrypt_key", "verification_token"}
        assert set(channel["settings"]) >= {"app_id", "transport", "base_url"}
        assert feishu.app_secret not in str(channel)

    async def test_a_callback_without_its_token_is_refused_with_its_path(
        self, people, feishu: Feishu
    ) -> None:
        settings = {
            name: value for name, value in feishu.settings.items() if name != "verification_token"
        }

        answer = await open_channel(await people.owner(), settings)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
        paths = [error["path"] for error in answer.json()["errors"]]
        assert paths == ["/settings/verification_token"]


class TestWithoutAnAgent:
    async def test_the_check_is_answered_and_what_is_said_is_kept(
        self, people, feishu: Feishu, port: int, superuser
    ) -> None:
        channel = (await open_channel(await people.owner(), feishu.settings)).json()
        token = channel["callback_url"].rpartition("/")[2]
        feishu.callback_url = f"http://127.0.0.1:{port}/im/{token}"

        assert await feishu.check_address()
        assert await feishu.bring(Line(user="wang", text="你们几点开门？"))

        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_another_application_is_not_heard(
        self, people, feishu: Feishu, port: int, superuser
    ) -> None:
        channel = (await open_channel(await people.owner(), feishu.settings)).json()
        token = channel["callback_url"].rpartition("/")[2]
        async with Feishu(transport="callback", deadline_s=PATIENCE_S) as stranger:
            stranger.callback_url = f"http://127.0.0.1:{port}/im/{token}"

            assert not await stranger.check_address()
            assert not await stranger.bring(Line(user="wang", text="hello"))

        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0


class TestJourney:
    async def test_a_customer_gets_the_answer_by_a_long_connection(
        self, people, house_at_work: None
    ) -> None:
        owner = await people.owner()
        known = {"items": [{"question": "你们几点开门？", "answer": "早上九点。"}]}
        assert (await owner.call("PUT", "/answers", json=known)).status_code == 200
        async with Feishu(deadline_s=PATIENCE_S) as feishu:
            channel = (await open_channel(owner, feishu.settings)).json()

            async def connected() -> bool:
                shown = (await owner.get(f"/channels/{channel['id']}")).json()
                return bool(shown["state"] == "connected")

            await until(connected, "a connected channel")
            line = Line(user="wang", text="你们几点开门？", chat="oc_group")
            assert await feishu.bring(line)
            await feishu.until_shown(1, patience_s=PATIENCE_S)

            assert [shown.text for shown in feishu.shown(chat="oc_group")] == ["早上九点。"]
