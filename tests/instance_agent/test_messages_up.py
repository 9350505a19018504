import json
import time
from uuid import uuid4

import pytest

from adapters import standard_webhooks
from instance_agent.protocol import ANSWER_HEADER, event_id

CHANNEL = uuid4()


def message(client_id="m1", text="你们几点开门？", visitor="visitor-1"):
    return json.dumps(
        {
            "type": "message",
            "visitor": {"id": visitor, "name": "小王"},
            "id": client_id,
            "text": text,
            "at": time.time(),
        }
    ).encode()


@pytest.fixture
async def agent(agents, control_plane, revision, web):
    control_plane.newest = revision(1, {CHANNEL: web})
    return await agents.start()


class TestCallback:
    async def test_is_answered_once_the_control_plane_has_the_message(self, agent, control_plane):
        answer = await agent.callback(CHANNEL, message())
        assert (answer.status_code, answer.headers[ANSWER_HEADER]) == (200, "200")
        assert answer.content == b"{}"
        (event,) = control_plane.of_type("message.received")
        assert event.id == event_id(CHANNEL, "visitor-1:m1")
        assert event.data == {
            "channel_id": str(CHANNEL),
            "dedupe_key": "visitor-1:m1",
            "message_id": "m1",
            "conversation": {"type": "direct", "id": "visitor-1"},
            "sender": {"id": "visitor-1", "name": "小王"},
            "segments": [{"type": "text", "text": "你们几点开门？"}],
        }

    async def test_a_redelivery_is_the_same_event(self, agent, control_plane):
        for _ in range(2):
            assert (await agent.callback(CHANNEL, message())).status_code == 200
        assert len(control_plane.of_type("message.received")) == 1

    async def test_is_not_answered_while_the_control_plane_is_away(self, agent, control_plane):
        await control_plane.stop()
        answer = await agent.callback(CHANNEL, message())
        assert (answer.status_code, answer.json()["code"]) == (503, "not_accepted")
        assert ANSWER_HEADER not in answer.headers
        await control_plane.start()
        assert (await agent.callback(CHANNEL, message())).status_code == 200

    async def test_unsigned_bytes_are_told_so_and_not_reported(self, agent, control_plane):
        answer = await agent.callback(CHANNEL, message(), verified=False)
        assert answer.headers[ANSWER_HEADER] == "401"
        assert not control_plane.of_type("message.received")

    async def test_signed_bytes_need_no_word_of_the_control_plane(self, agent, control_plane, web):
        body = message()
        secret = standard_webhooks.make_secret(web["secret"].encode())
        signed = standard_webhooks.sign(
            secret, message_id="msg_1", timestamp=int(time.time()), body=body
        )
        answer = await agent.callback(CHANNEL, body, verified=False, **signed)
        assert answer.headers[ANSWER_HEADER] == "200"
        assert len(control_plane.of_type("message.received")) == 1

    async def test_a_body_that_is_no_message_is_told_so(self, agent):
        answer = await agent.callback(CHANNEL, b"{}")
        assert (answer.status_code, answer.headers[ANSWER_HEADER]) == (200, "400")

    async def test_an_event_rejected_for_good_is_kept_and_acknowledged(self, agent, control_plane):
        control_plane.rejects = lambda event: event.type == "message.received"
        assert (await agent.callback(CHANNEL, message())).status_code == 200
        metrics = (await agent.call("GET", "/metrics")).text
        assert "botyard_agent_dead_letters 1.0" in metrics

    async def test_an_unknown_channel_is_named(self, agent):
        answer = await agent.callback(uuid4(), message())
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_channel")

    async def test_a_body_beyond_the_limit_is_refused(self, agent):
        answer = await agent.callback(CHANNEL, b"x" * (1024 * 1024 + 1))
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def test_without_its_description_it_is_refused(self, agent):
        for header in ({}, {"x-botyard-callback": "!"}, {"x-botyard-callback": "e30"}):
            answer = await agent.call("POST", f"/im/{CHANNEL}", content=b"{}", headers=header)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


class TestSpool:
    async def test_survives_kill_9_and_is_posted_by_the_successor(
        self, agent, agents, control_plane, revision, web
    ):
        await control_plane.until(lambda: "connected" in _states(control_plane))
        control_plane.event_status = 503
        await agent.update(revision(2, {CHANNEL: web}, persona={"name": "小二"}))
        agent.kill()
        await agent.wait()
        assert [event.data["revision"] for event in control_plane.of_type("config.applied")] == [1]

        control_plane.event_status = 202
        control_plane.newest = revision(3, {CHANNEL: web}, persona={"name": "小三"})
        await agents.start()
        await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 3)
        applied = [event.data["revision"] for event in control_plane.of_type("config.applied")]
        assert applied == [1, 2, 3]

    async def test_a_control_plane_that_comes_back_gets_everything_in_order(
        self, agent, control_plane, revision, web
    ):
        await control_plane.until(lambda: "connected" in _states(control_plane))
        control_plane.event_status = 503
        for number in (2, 3, 4):
            update = revision(number, {CHANNEL: web}, persona={"name": f"第{number}"})
            await agent.update(update)
        await control_plane.until(lambda: control_plane.refused_posts >= 2)
        assert (await agent.health())["spool_depth"] == 3
        control_plane.event_status = 202
        await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 4)
        applied = [event.data["revision"] for event in control_plane.of_type("config.applied")]
        assert applied == [1, 2, 3, 4]

    async def test_a_rejected_event_holds_up_no_other(self, agent, control_plane, revision, web):
        control_plane.rejects = lambda event: event.data.get("revision") == 2
        for number in (2, 3):
            update = revision(number, {CHANNEL: web}, persona={"name": f"第{number}"})
            await agent.update(update)
        await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 2)
        applied = [event.data["revision"] for event in control_plane.of_type("config.applied")]
        assert applied == [1, 3]


class TestEnd:
    async def test_an_agent_whose_session_is_over_exits_by_itself(
        self, agent, control_plane, revision, web
    ):
        await control_plane.until(lambda: "connected" in _states(control_plane))
        control_plane.event_status = 410
        answer = await agent.callback(CHANNEL, message())
        assert answer.status_code == 503
        assert await agent.wait() == 0
        assert "session ended by the control plane" in [line["message"] for line in agent.lines]

    async def test_a_refused_signature_is_tried_again(self, agent, control_plane, revision, web):
        await control_plane.until(lambda: "connected" in _states(control_plane))
        control_plane.event_status = 401
        await agent.update(revision(2, {CHANNEL: web}, persona={"name": "小二"}))
        await control_plane.until(lambda: control_plane.refused_posts >= 2)
        control_plane.event_status = 202
        await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 2)


def _states(control_plane):
    return [event.data["state"] for event in control_plane.of_type("channel.status")]
