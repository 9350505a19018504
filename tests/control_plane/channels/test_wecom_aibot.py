"""An AI bot of WeCom through the whole house, in both of its transports."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.simulators.platform import Line
from adapters.simulators.wecom_aibot import AiBot
from control_plane.kit.clock import SystemClock
from tests.control_plane.channels.test_wecom import (  # noqa: F401
    ANSWERS,
    PATIENCE_S,
    house_at_work,
    local,
    port,
)
from tests.control_plane.conversations.scene import until

ASKED = Line(user="zhangsan", text="你们几点开门？")


@pytest.fixture
def clock() -> SystemClock:
    """Agents and the platform read the machine's clock."""
    return SystemClock()


@pytest.fixture(params=["callback", "long_connection"])
async def bot(request: pytest.FixtureRequest) -> AsyncIterator[AiBot]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    patience = {"deadline_s": PATIENCE_S, "check_deadline_s": PATIENCE_S}
    async with AiBot(transport=request.param, **patience) as platform:
        yield platform


callback_only = pytest.mark.parametrize("bot", ["callback"], indirect=True)


@pytest.fixture
async def owner(people: Any) -> Any:
    return await people.owner()


@pytest.fixture
async def channel(owner: Any, bot: AiBot) -> dict[str, Any]:
    made = await owner.post("/instances", {"name": "Bot"})
    answer = await owner.post(
        f"/instances/{made.json()['id']}/channels",
        {"kind": "wecom_aibot", "name": "客服", "settings": bot.settings},
    )
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


class TestSetUp:
    @callback_only
    async def test_each_transport_names_what_it_needs(self, owner: Any, channel: Any) -> None:
        assert channel["secrets_set"] == ["encoding_aes_key", "token"]
        for settings, path in (
            ({"bot_id": "b"}, "/settings/secret"),
            ({"transport": "callback", "token": "t"}, "/settings/encoding_aes_key"),
        ):
            answer = await owner.post(
                f"/instances/{channel['instance_id']}/channels",
                {"kind": "wecom_aibot", "name": "x", "settings": settings},
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
            assert [error["path"] for error in answer.json()["errors"]] == [path]


@callback_only
class TestWithoutAnAgent:
    async def test_the_person_sees_that_they_were_heard_and_goes_on_waiting(
        self,
        bot: AiBot,
        channel: Any,
        port: int,  # noqa: F811
        superuser: Any,
    ) -> None:
        bot.callback_url = local(channel["callback_url"], port)

        assert await bot.check_address()
        assert await bot.bring(ASKED)
        await bot.until(lambda: bot.calls["poll"] > 1, patience_s=PATIENCE_S)

        assert [(each.text, each.ended) for each in bot.bubbles] == [("…", False)]
        # What only asks for more is answered, and not kept.
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1


class TestJourney:
    async def test_a_question_gets_its_answer_in_its_own_place(
        self,
        owner: Any,
        bot: AiBot,
        channel: Any,
        port: int,  # noqa: F811
        house_at_work: None,  # noqa: F811
    ) -> None:
        assert (await owner.call("PUT", "/answers", json={"items": ANSWERS})).status_code == 200
        bot.callback_url = local(channel["callback_url"], port)

        async def connected() -> bool:
            return bool(
                (await owner.get(f"/channels/{channel['id']}")).json()["state"] == "connected"
            )

        await until(connected, "a connected channel")
        assert await bot.bring(ASKED)
        await bot.until_shown(1, patience_s=PATIENCE_S)

        assert [(each.type, each.text) for each in bot.bubbles] == [("stream", "早上九点。")]
