from uuid import uuid4

import msgspec
import pytest

from instance_agent.document import DocumentError
from instance_agent.protocol import ConfigUpdate

FIRST, SECOND = uuid4(), uuid4()
OTHER_SECRET = "another-channel-secret-of-at-least-32-chars"


@pytest.fixture
async def agent(agents, control_plane, revision, web):
    control_plane.newest = revision(1, {FIRST: web})
    return await agents.start()


class TestUpdate:
    async def test_an_added_channel_connects_and_the_others_are_not_touched(
        self, agent, control_plane, revision, web
    ):
        await control_plane.until(lambda: self._seen(control_plane, FIRST) == ["connected"])
        control_plane.secrets.add(OTHER_SECRET)
        outcome = await agent.update(revision(2, {FIRST: web, SECOND: {"secret": OTHER_SECRET}}))
        assert outcome == {"outcome": "applied", "revision": 2, "errors": [], "on_trial": True}
        await control_plane.until(lambda: "connected" in self._seen(control_plane, SECOND))
        assert self._seen(control_plane, FIRST) == ["connected"]

    async def test_a_removed_channel_is_stopped(self, agent, control_plane, revision):
        outcome = await agent.update(revision(2))
        assert outcome["outcome"] == "applied"
        await control_plane.until(lambda: self._seen(control_plane, FIRST)[-1:] == ["stopped"])
        assert (await agent.health())["channels"] == []

    async def test_a_changed_channel_reconnects_with_its_new_settings(
        self, agent, control_plane, revision
    ):
        control_plane.secrets.add(OTHER_SECRET)
        await agent.update(revision(2, {FIRST: {"secret": OTHER_SECRET}}))
        answer = await agent.send(FIRST)
        assert answer.json()["parts"][0]["outcome"] == "sent"
        assert OTHER_SECRET in control_plane.account_calls

    async def test_hot_sections_are_applied_without_touching_channels(
        self, agent, control_plane, revision, web
    ):
        calls = len(control_plane.account_calls)
        outcome = await agent.update(revision(2, {FIRST: web}, persona={"name": "小助手"}))
        assert outcome["outcome"] == "applied"
        assert len(control_plane.account_calls) == calls

    async def test_a_changed_restart_section_is_left_for_the_next_start(
        self, agent, agents, control_plane, revision, web
    ):
        bigger = revision(2, {FIRST: web}, limits={"spool_max_bytes": 2 * 1024 * 1024})
        outcome = await agent.update(bigger)
        assert (outcome["outcome"], outcome["revision"]) == ("needs_restart", 1)
        agent.terminate()
        assert await agent.wait() == 0
        control_plane.newest = bigger
        successor = await agents.start()
        assert (await successor.health())["config"]["applied"] == 2

    async def test_the_same_again_is_applied_and_told_once(
        self, agent, control_plane, revision, web
    ):
        outcome = await agent.update(revision(1, {FIRST: web}))
        assert outcome == {"outcome": "applied", "revision": 1, "errors": [], "on_trial": False}
        assert len(control_plane.of_type("config.applied")) == 1

    async def test_the_same_number_with_other_channels_is_applied(self, agent, revision, web):
        changed = revision(1, {FIRST: web}, persona={"name": "same number, other document"})
        assert (await agent.update(changed))["outcome"] == "applied"
        assert (await agent.health())["config"]["applied_sha256"] == changed.sha256

    async def test_an_older_one_is_refused(self, agent, revision, web):
        stale = revision(0, {FIRST: web}, persona={"name": "old"})
        body = ConfigUpdate(revision=0, sha256=stale.sha256, document=stale.document)
        answer = await agent.call(
            "POST", "/astrbot-api/v1/config/update", content=msgspec.json.encode(body)
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_revision")

    @staticmethod
    def _seen(control_plane, channel_id):
        return [
            event.data["state"]
            for event in control_plane.of_type("channel.status")
            if event.data["channel_id"] == str(channel_id) and event.data["state"] != "connecting"
        ]


class TestRejectedUpdate:
    async def test_everything_stays_and_people_hear_where_and_why(
        self, agent, control_plane, revision, web
    ):
        outcome = await agent.update(revision(2, {FIRST: web, SECOND: {"secret": "hunter2"}}))
        assert outcome["outcome"] == "rejected"
        assert outcome["revision"] == 1
        assert [error["path"] for error in outcome["errors"]] == ["/channels/1/settings/secret"]
        await control_plane.until(lambda: control_plane.of_type("config.rejected"))
        told = control_plane.of_type("config.rejected")[0].data
        assert (told["revision"], told["running"]) == (2, 1)
        state = (await agent.call("GET", "/astrbot-api/v1/config")).json()
        assert (state["applied"], state["last_good"], state["rejected"]) == (1, 1, 2)
        assert "hunter2" not in str(outcome)

    async def test_only_the_platform_can_know_that_a_secret_is_wrong(
        self, agent, control_plane, revision, web
    ):
        outcome = await agent.update(revision(2, {FIRST: {"secret": OTHER_SECRET}}))
        assert [(e["path"], e["code"]) for e in outcome["errors"]] == [
            ("/channels/0/settings/secret", "refused")
        ]
        answer = await agent.send(FIRST)
        assert answer.json()["parts"][0]["outcome"] == "sent"

    @pytest.mark.parametrize(
        ("sections", "path", "code"),
        [
            ({"limits": {"spool_max_bytes": 2**60}}, "/limits/spool_max_bytes", "does_not_fit"),
            ({"persona": {"name": ""}}, "/persona/name", "string_too_short"),
            ({"surprise": 1}, "/surprise", "extra_forbidden"),
            (
                {"channels": [{"id": str(SECOND), "kind": "fax", "name": "", "settings": {}}]},
                "/channels/0/kind",
                "unknown_kind",
            ),
            (
                {
                    "channels": [
                        {"id": str(SECOND), "kind": "webchat", "name": "", "settings": settings}
                        for settings in [{"secret": OTHER_SECRET}] * 2
                    ]
                },
                "/channels/1/id",
                "duplicate",
            ),
        ],
    )
    async def test_each_error_has_its_path(self, agent, revision, sections, path, code):
        outcome = await agent.update(revision(2, **sections))
        assert outcome["outcome"] == "rejected"
        assert [(error["path"], error["code"]) for error in outcome["errors"]] == [(path, code)]

    async def test_a_document_that_is_not_the_one_named_is_rejected(self, agent, revision):
        forged = msgspec.structs.replace(revision(2), sha256="0" * 64)
        outcome = await agent.update(forged)
        assert [error["code"] for error in outcome["errors"]] == ["digest_mismatch"]

    async def test_the_next_good_one_clears_the_rejection(self, agent, revision, web):
        await agent.update(revision(2, {FIRST: {"secret": "hunter2"}}))
        await agent.update(revision(3, {FIRST: web}))
        state = (await agent.call("GET", "/astrbot-api/v1/config")).json()
        assert (state["applied"], state["rejected"], state["errors"]) == (3, None, [])


class TestTrial:
    async def test_a_changed_channel_is_good_once_it_held(self, agent, control_plane, revision):
        control_plane.secrets.add(OTHER_SECRET)
        changed = revision(2, {FIRST: {"secret": OTHER_SECRET}})
        assert (await agent.update(changed))["on_trial"] is True
        await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 2)
        assert control_plane.of_type("config.applied")[-1].data["sha256"] == changed.sha256
        state = (await agent.call("GET", "/astrbot-api/v1/config")).json()
        assert (state["last_good"], state["on_trial"]) == (2, False)

    async def test_one_that_was_lost_is_not_tried_by_the_next_start(
        self, agent, agents, control_plane, revision, web
    ):
        agent.terminate()
        await agent.wait()
        control_plane.newest = revision(2, {FIRST: web}, persona={"name": "x"})
        control_plane.refused = [
            DocumentError(path="/channels/0", code="did_not_connect", message="it was shut")
        ]
        second = await agents.start()
        config = (await second.health())["config"]
        assert (config["applied"], config["rejected"]) == (1, 2)
        assert config["errors"][0]["message"] == "it was shut"


class TestBoot:
    async def test_a_bad_newest_leaves_the_bot_on_last_good(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(5, {FIRST: {"secret": "hunter2"}})
        control_plane.last_good = revision(4, {FIRST: web})
        agent = await agents.start()
        await control_plane.until(lambda: control_plane.of_type("config.rejected"))
        told = control_plane.of_type("config.rejected")[0].data
        assert (told["revision"], told["running"]) == (5, 4)
        health = await agent.health()
        assert health["ready"] is True
        assert health["config"]["applied"] == 4

    async def test_its_own_copy_serves_when_the_control_plane_has_none(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(4, {FIRST: web})
        first = await agents.start()
        first.terminate()
        await first.wait()
        control_plane.newest = revision(5, {FIRST: {"secret": "hunter2"}})
        second = await agents.start()
        health = await second.health()
        assert (health["config"]["applied"], health["config"]["rejected"]) == (4, 5)

    async def test_with_nothing_good_it_waits_for_an_update(
        self, agents, control_plane, revision, web
    ):
        control_plane.newest = revision(5, {FIRST: {"secret": "hunter2"}})
        agent = await agents.start()
        assert (await agent.call("GET", "/readyz")).json()["code"] == "not_ready"
        outcome = await agent.update(revision(6, {FIRST: web}))
        assert outcome["outcome"] == "applied"
        assert (await agent.call("GET", "/readyz")).status_code == 200
