"""A QQ bot through the whole house: set up over REST, messages over real sockets."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.simulators.platform import Line
from adapters.simulators.qq import QQ
from control_plane.kit.clock import SystemClock
from tests.control_plane.channels import test_wecom
from tests.control_plane.channels.test_wecom import ANSWERS, PATIENCE_S, local
from tests.control_plane.conversations.scene import until

port = test_wecom.port
house_at_work = test_wecom.house_at_work


@pytest.fixture
def clock() -> SystemClock:
    """Agents and the platform read the machine's clock."""
    return SystemClock()


@pytest.fixture
async def qq() -> AsyncIterator[QQ]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with QQ(deadline_s=PATIENCE_S) as platform:
        yield platform


class Bench:
    """A tenant with a bot, and the platform behind it."""

    def __init__(self, owner: Any, qq: QQ) -> None:
        self.owner = owner
        self.qq = qq
        self.instance_id = ""
        self.channel: dict[str, Any] = {}

    async def open(self, **settings: Any) -> Any:
        if not self.instance_id:
            made = await self.owner.post("/instances", {"name": "Bot"})
            self.instance_id = made.json()["id"]
        body = {"kind": "qq", "name": "客服", "settings": self.qq.settings | settings}
        return await self.owner.post(f"/instances/{self.instance_id}/channels", body)

    async def opened(self) -> "Bench":
        answer = await self.open()
        assert answer.status_code == 201, answer.text
        self.channel = answer.json()
        return self

    async def connected(self) -> None:
        async def look() -> bool:
            shown = await self.owner.get(f"/channels/{self.channel['id']}")
            return bool(shown.json()["state"] == "connected")

        await until(look, "a connected channel")


@pytest.fixture
async def bench(people, qq: QQ) -> Bench:
    return Bench(await people.owner(), qq)


class TestSetUp:
    async def test_shows_the_address_to_copy_and_never_the_secret(self, bench: Bench) -> None:
        shown = (await bench.opened()).channel

        assert shown["callback_url"].startswith("http://botyard.test/im/")
        assert shown["secrets_set"] == ["secret"]
        assert bench.qq.secret not in str(shown)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("app_id", "ten"),
            ("app_id", "1" * 21),
            ("secret", ""),
            ("transport", "pigeon"),
            ("base_url", "https://host/?to="),
            ("login_url", "https://host:0"),
        ],
    )
    async def test_a_wrong_setting_is_refused_with_its_path(
        self, bench: Bench, name: str, value: Any
    ) -> None:
        answer = await bench.open(**{name: value})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
        assert [error["path"] for error in answer.json()["errors"]] == [f"/settings/{name}"]


class TestWithoutAnAgent:
    async def test_the_check_of_the_address_is_answered(self, bench: Bench, port: int) -> None:
        await bench.opened()
        bench.qq.callback_url = local(bench.channel["callback_url"], port)

        assert await bench.qq.check_address()
        assert await bench.qq.check_address(signed=True)

    async def test_of_another_bot_nothing_is_signed_or_kept(
        self, bench: Bench, port: int, superuser
    ) -> None:
        await bench.opened()
        async with QQ(app_id="7") as stranger:
            stranger.callback_url = local(bench.channel["callback_url"], port)

            assert not await stranger.check_address()
            assert not await stranger.bring(Line(user="U1", text="hello"))

        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0

    async def test_what_is_said_is_kept_and_acknowledged_at_once(
        self, bench: Bench, port: int, superuser
    ) -> None:
        await bench.opened()
        bench.qq.callback_url = local(bench.channel["callback_url"], port)

        assert await bench.qq.bring(Line(user="U1", text="你们几点开门？"))

        assert bench.qq.tries == [1]
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_what_is_too_old_is_not_taken(self, bench: Bench, port: int) -> None:
        await bench.opened()
        bench.qq.callback_url = local(bench.channel["callback_url"], port)
        bench.qq._clock = lambda: time.time() - 3600

        assert not await bench.qq.bring(Line(user="U1", text="an hour ago"))


class TestJourney:
    @pytest.mark.parametrize("transport", ["webhook", "gateway"])
    async def test_a_customer_gets_the_answer(
        self, bench: Bench, port: int, house_at_work, transport: str
    ) -> None:
        qq = bench.qq
        qq.transport = transport
        answer = await bench.owner.call("PUT", "/answers", json={"items": ANSWERS})
        assert answer.status_code == 200, answer.text
        await bench.opened()
        qq.callback_url = local(bench.channel["callback_url"], port)
        await bench.connected()

        assert await qq.bring(Line(user="U1", text="你们几点开门？"))
        await qq.until_shown(1, patience_s=PATIENCE_S)
        assert await qq.bring(Line(user="M1", chat="G1", text="你们卖什么花？"))
        await qq.until_shown(2, patience_s=PATIENCE_S)

        assert [each.text for each in qq.shown("U1")] == ["早上九点。"]
        assert [each.text for each in qq.shown(chat="G1")] == ["玫瑰和百合。"]
