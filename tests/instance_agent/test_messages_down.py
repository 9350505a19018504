import asyncio
from uuid import uuid4

import httpx2
import pytest

CHANNEL = uuid4()


@pytest.fixture
async def agent(agents, control_plane, revision, web):
    control_plane.newest = revision(1, {CHANNEL: web})
    return await agents.start()


def outcomes(answer):
    assert answer.status_code == 200, answer.text
    return [part["outcome"] for part in answer.json()["parts"]]


class TestSend:
    async def test_a_message_reaches_the_visitor(self, agent, control_plane):
        message_id = uuid4()
        author = {"kind": "human", "name": "小李"}
        answer = await agent.send(CHANNEL, "您好", message_id=message_id, author=author)
        assert answer.json() == {
            "parts": [{"outcome": "sent", "platform_message_id": f"p-{message_id}:0"}]
        }
        assert control_plane.messages[f"{message_id}:0"] == {
            "to": "visitor-1",
            "key": f"{message_id}:0",
            "segments": [{"type": "text", "text": "您好"}],
            "sender": {"kind": "human", "name": "小李"},
        }

    async def test_a_repeat_gets_the_recorded_outcome_and_sends_nothing(self, agent, control_plane):
        message_id = uuid4()
        first = await agent.send(CHANNEL, message_id=message_id)
        again = await agent.send(CHANNEL, message_id=message_id)
        assert again.json() == first.json()
        assert control_plane.posts == [f"{message_id}:0"]

    async def test_a_repeat_while_the_first_is_under_way_joins_it(self, agent, control_plane):
        control_plane.answer_messages.clear()
        message_id = uuid4()
        async with asyncio.TaskGroup() as calls:
            first = calls.create_task(agent.send(CHANNEL, message_id=message_id))
            await control_plane.until(lambda: control_plane.posts)
            again = calls.create_task(agent.send(CHANNEL, message_id=message_id))
            control_plane.answer_messages.set()
        assert first.result().json() == again.result().json()
        assert control_plane.posts == [f"{message_id}:0"]

    async def test_a_long_text_goes_in_parts_in_order(self, agent, control_plane):
        message_id = uuid4()
        answer = await agent.send(CHANNEL, "长" * 9000, message_id=message_id)
        assert outcomes(answer) == ["sent"] * 3
        assert control_plane.posts == [f"{message_id}:{part}" for part in range(3)]

    async def test_what_the_platform_refuses_of_an_account_has_a_class_and_holds_its_sends(
        self, agent, control_plane, web
    ):
        message_id = uuid4()
        control_plane.secrets.clear()
        answer = await agent.send(CHANNEL, "长" * 9000, message_id=message_id)
        assert [part["error_class"] for part in answer.json()["parts"]] == [
            "secret_invalid",
            "not_tried",
            "not_tried",
        ]
        control_plane.secrets.add(web["secret"])
        again = await agent.send(CHANNEL, "长" * 9000, message_id=message_id)
        assert again.json() == answer.json()
        asked = list(control_plane.posts)
        held = await agent.send(CHANNEL, "好", message_id=uuid4())
        assert [part["error_class"] for part in held.json()["parts"]] == ["secret_invalid"]
        assert control_plane.posts == asked


class TestRefusedSend:
    @pytest.mark.parametrize(
        ("channel", "changes", "status", "code"),
        [
            (CHANNEL, {"journal_id": uuid4()}, 409, "journal_mismatch"),
            (uuid4(), {}, 404, "unknown_channel"),
            (CHANNEL, {"segments": []}, 400, "bad_request"),
        ],
    )
    async def test_says_why(self, agent, channel, changes, status, code):
        answer = await agent.send(channel, **changes)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_an_older_session_is_fenced_also_after_a_restart(self, agent, agents):
        await agent.send(CHANNEL, epoch=5)
        assert (await agent.send(CHANNEL, epoch=4)).json()["code"] == "stale_epoch"
        agent.kill()
        await agent.wait()
        successor = await agents.start()
        assert (await successor.send(CHANNEL, epoch=4)).json()["code"] == "stale_epoch"
        assert outcomes(await successor.send(CHANNEL, epoch=5)) == ["sent"]

    async def test_a_wrong_token_opens_nothing(self, agent):
        for method, path in [
            ("POST", "/astrbot-api/v1/config/update"),
            ("GET", "/astrbot-api/v1/config"),
            ("POST", "/astrbot-api/v1/message/send"),
            ("GET", "/astrbot-api/v1/health"),
            ("POST", f"/im/{CHANNEL}"),
        ]:
            for wrong in ("Bearer wrong", "", "Basic x", "Bearer \u00e9"):
                answer = await agent.call(method, path, headers={"authorization": wrong.encode()})
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")

    async def test_unfit_bodies_and_paths_are_problems_too(self, agent):
        answer = await agent.call("POST", "/astrbot-api/v1/message/send", content=b"\xff{")
        assert answer.json()["code"] == "bad_request"
        answer = await agent.call("GET", "/astrbot-api/v1/message/send")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        answer = await agent.call("GET", "/nowhere")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_found"


class TestKill9:
    async def test_between_the_journal_and_the_outcome_costs_nobody_a_message(
        self, agent, agents, control_plane
    ):
        message_id = uuid4()
        control_plane.answer_messages.clear()
        cut = asyncio.create_task(agent.send(CHANNEL, message_id=message_id))
        await control_plane.until(lambda: control_plane.posts)
        agent.kill()
        await agent.wait()
        with pytest.raises(httpx2.TransportError):
            await cut
        control_plane.answer_messages.set()

        successor = await agents.start()
        assert successor.journal_id == agent.journal_id
        answer = await successor.send(CHANNEL, message_id=message_id)
        assert outcomes(answer) == ["sent"]
        assert control_plane.posts == [f"{message_id}:0"] * 2
        assert list(control_plane.messages) == [f"{message_id}:0"]


class TestDraining:
    async def test_finishes_what_was_begun_and_lets_nothing_new_in(self, agent, control_plane):
        control_plane.answer_messages.clear()
        begun = asyncio.create_task(agent.send(CHANNEL))
        await control_plane.until(lambda: control_plane.posts)
        agent.terminate()
        while (await agent.call("GET", "/readyz")).status_code == 200:
            pass
        late = await agent.send(CHANNEL)
        assert (late.status_code, late.json()["code"]) == (503, "draining")
        late = await agent.callback(CHANNEL, b"{}")
        assert (late.status_code, late.json()["code"]) == (503, "draining")
        control_plane.answer_messages.set()
        assert outcomes(await begun) == ["sent"]
        assert await agent.wait() == 0
        states = [event.data["state"] for event in control_plane.of_type("channel.status")]
        assert states[-1] == "stopped"
