"""A DingTalk robot through the house: callbacks at the front door, the stream in an agent."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.simulators.dingtalk import DingTalk
from adapters.simulators.platform import Line
from control_plane.kit.clock import SystemClock
from tests.control_plane.conversations.scene import until

PATIENCE_S = 30.0
ANSWERS = [{"question": "你们几点开门？", "answer": "早上九点。"}]


@pytest.fixture
def clock() -> SystemClock:
    """The platform reads the machine's clock."""
    return SystemClock()


@pytest.fixture
async def dingtalk() -> AsyncIterator[DingTalk]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with DingTalk(transport="callback", deadline_s=PATIENCE_S) as platform:
        yield platform


@pytest.fixture
async def owner(people: Any) -> Any:
    return await people.owner()


async def opened(owner: Any, port: int, dingtalk: DingTalk, **changes: Any) -> dict[str, Any]:
    """A channel of this robot, its address entered at the platform."""
    made = await owner.post("/instances", {"name": "Bot"})
    answer = await owner.post(
        f"/instances/{made.json()['id']}/channels",
        {"kind": "dingtalk", "name": "客服", "settings": dingtalk.settings | changes},
    )
    assert answer.status_code == 201, answer.text
    channel: dict[str, Any] = answer.json()
    token = channel["callback_url"].rpartition("/")[2]
    dingtalk.callback_url = f"http://127.0.0.1:{port}/im/{token}"
    return channel


class TestWithoutAnAgent:
    async def test_the_check_and_events_are_answered_and_messages_are_kept(
        self, owner: Any, port: int, dingtalk: DingTalk, superuser: Any
    ) -> None:
        shown = await opened(owner, port, dingtalk)
        assert sorted(shown["secrets_set"]) == ["client_secret", "encoding_aes_key", "token"]

        assert await dingtalk.check_address()
        assert await dingtalk.event({"EventType": "user_add_org", "UserId": ["1"]})
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0

        assert await dingtalk.bring(Line(user="zhangsan", text="你们几点开门？"))
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_a_stranger_is_not_heard(
        self, owner: Any, port: int, dingtalk: DingTalk, superuser: Any
    ) -> None:
        await opened(owner, port, dingtalk)
        async with DingTalk(transport="callback") as stranger:
            stranger.callback_url = dingtalk.callback_url

            assert not await stranger.bring(Line(user="zhangsan", text="hello"))
            assert not await stranger.check_address()

        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 0

    async def test_a_robot_with_the_stream_takes_no_callbacks(
        self, owner: Any, port: int, dingtalk: DingTalk
    ) -> None:
        await opened(owner, port, dingtalk, transport="stream")

        assert not await dingtalk.bring(Line(user="zhangsan", text="hello"))

    async def test_half_a_pair_of_keys_is_refused(self, owner: Any, dingtalk: DingTalk) -> None:
        made = await owner.post("/instances", {"name": "Bot"})
        half = {name: value for name, value in dingtalk.settings.items() if name != "token"}
        answer = await owner.post(
            f"/instances/{made.json()['id']}/channels",
            {"kind": "dingtalk", "name": "x", "settings": half},
        )

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
        assert dingtalk.encoding_aes_key not in answer.text


class TestJourney:
    async def test_a_customer_gets_the_answer_and_an_absence_is_told(
        self, owner: Any, port: int, house_at_work: None
    ) -> None:
        async with DingTalk() as dingtalk:
            await owner.call("PUT", "/answers", json={"items": ANSWERS})
            channel = await opened(owner, port, dingtalk)
            await dingtalk.until(lambda: dingtalk.connections == 1, patience_s=PATIENCE_S)

            assert await dingtalk.bring(Line(user="zhangsan", text="你们几点开门？"))
            await dingtalk.until_shown(1, patience_s=PATIENCE_S)
            assert [each.text for each in dingtalk.shown("zhangsan")] == ["早上九点。"]

            async def reason() -> str:
                shown = (await owner.get(f"/channels/{channel['id']}")).json()
                told = shown["state_reason"] if shown["state"] == "connected" else None
                return told or ""

            await dingtalk.disconnect()
            await dingtalk.until(lambda: dingtalk.connections == 1, patience_s=PATIENCE_S)
            assert "may be missing" in await until(reason, "what was missed")

            assert await dingtalk.bring(Line(user="lisi", chat="g1", text="你们几点开门？"))
            await dingtalk.until_shown(2, patience_s=PATIENCE_S)
            assert [each.text for each in dingtalk.shown(chat="g1")] == ["早上九点。"]
