"""The blacklist in a real agent process, under a stand-in of the control plane."""

from uuid import uuid4

import msgspec
import pytest

from instance_agent.protocol import (
    ANSWER_HEADER,
    BlacklistEntry,
    BlacklistPage,
    BlacklistUpdate,
)
from tests.instance_agent.test_messages_up import CHANNEL, message

ENTRY = BlacklistEntry(id=uuid4(), platform_id="visitor-1", kind="webchat")


@pytest.fixture
async def agent(agents, control_plane, revision, web):
    control_plane.newest = revision(1, {CHANNEL: web})
    control_plane.blacklist = BlacklistPage(version=7, entries=[ENTRY])
    return await agents.start()


async def push(agent, update: BlacklistUpdate) -> int:
    answer = await agent.call(
        "POST", "/astrbot-api/v1/config/update", content=msgspec.json.encode(update)
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["version"]


class TestBlocked:
    async def test_is_acknowledged_counted_and_not_told(self, agent, control_plane):
        for _ in range(3):
            answer = await agent.callback(CHANNEL, message())
            assert (answer.status_code, answer.headers[ANSWER_HEADER]) == (200, "200")
        heard = await agent.callback(CHANNEL, message(visitor="visitor-2"))
        assert heard.headers[ANSWER_HEADER] == "200"
        agent.terminate()
        assert await agent.wait() == 0

        assert [e.data["sender"]["id"] for e in control_plane.of_type("message.received")] == [
            "visitor-2"
        ]
        counted = [
            (event.data["channel_id"], hits["entry_id"], hits["count"])
            for event in control_plane.of_type("message.blocked")
            for hits in event.data["hits"]
        ]
        assert {each[:2] for each in counted} == {(str(CHANNEL), str(ENTRY.id))}
        assert sum(count for _, _, count in counted) == 3
        assert not any(
            "你们几点开门" in str(e.data) for e in control_plane.of_type("message.blocked")
        )

    async def test_is_heard_again_once_a_delta_says_so(self, agent, control_plane):
        assert (await agent.health())["blacklist"] == 7

        version = await push(agent, BlacklistUpdate(version=8, base=7, removed=[ENTRY.id]))

        assert version == (await agent.health())["blacklist"] == 8
        await agent.callback(CHANNEL, message())
        assert len(control_plane.of_type("message.received")) == 1

    async def test_holds_after_a_kill_while_the_list_cannot_be_pulled(
        self, agent, agents, control_plane
    ):
        newer = BlacklistEntry(id=uuid4(), platform_id="visitor-2")
        assert await push(agent, BlacklistUpdate(version=8, base=7, entries=[newer])) == 8
        agent.kill()
        await agent.wait()
        control_plane.blacklist_away = True

        successor = await agents.start()

        assert (await successor.health())["blacklist"] == 8
        for visitor in ("visitor-1", "visitor-2"):
            answer = await successor.callback(CHANNEL, message(visitor=visitor))
            assert answer.headers[ANSWER_HEADER] == "200"
        assert control_plane.of_type("message.received") == []

    async def test_a_delta_behind_a_gap_has_the_list_pulled(self, agent, control_plane):
        control_plane.blacklist = BlacklistPage(version=10, entries=[])

        assert await push(agent, BlacklistUpdate(version=10, base=9)) == 7

        while (await agent.health())["blacklist"] != 10:
            pass
        await agent.callback(CHANNEL, message())
        assert len(control_plane.of_type("message.received")) == 1

    async def test_needs_the_instances_token(self, agent):
        body = msgspec.json.encode(BlacklistUpdate(version=8, base=7, removed=[ENTRY.id]))
        answer = await agent.call(
            "POST",
            "/astrbot-api/v1/config/update",
            content=body,
            headers={"authorization": "Bearer wrong"},
        )

        assert answer.status_code == 401
        assert (await agent.health())["blacklist"] == 7
