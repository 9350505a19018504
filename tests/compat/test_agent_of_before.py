"""Agents of earlier schema versions under today's control plane."""

import json
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from adapters import standard_webhooks
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from control_plane.revisions.dialects import spoken
from instance_agent.document import SCHEMA_VERSION, Document, digest
from instance_agent.protocol import event_id
from tests.compat.recorded import VERSIONS, Recorded
from tests.conftest import Person

FULL: dict[str, Any] = {
    "llm": {
        "models": [{"provider": str(UUID(int=1)), "model": "m"}],
        "providers": [
            {"id": str(UUID(int=n)), "kind": "openai", "base_url": "https://m.example"}
            for n in (1, 3)
        ],
    },
    "speech": {"provider": str(UUID(int=3)), "model": "whisper-1", "language": "zh"},
    "persona": {"name": "Lin", "instructions": "Be kind."},
    "rules": {"answer_threshold": 0.7, "quiet_s": 2},
    "limits": {"spool_max_bytes": 2**21},
    "network": {"egress_allow": ["erp.example"]},
    "channels": [{"id": str(UUID(int=2)), "kind": "webchat", "name": "Site", "settings": {}}],
}


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    return Recorded(request.param)


def whole(document: dict[str, Any]) -> dict[str, Any]:
    """As it is compiled: with every field that there is."""
    dumped: dict[str, Any] = Document.model_validate(document).model_dump(mode="json")
    return dumped


def test_every_schema_version_before_todays_was_recorded() -> None:
    assert list(range(1, SCHEMA_VERSION)) == VERSIONS


class TestDialect:
    @pytest.mark.parametrize("document", [{}, FULL], ids=["default", "full"])
    def test_is_what_the_agent_of_that_version_takes(
        self, recorded: Recorded, document: dict[str, Any]
    ) -> None:
        told = spoken(whole(document), recorded.version)

        jsonschema.validate(told, recorded.document)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(whole(document), recorded.document)

    def test_keeps_everything_that_the_agent_knows(self, recorded: Recorded) -> None:
        told = spoken(whole(FULL), recorded.version)

        for name, section in recorded.document["properties"].items():
            known = recorded.document["$defs"].get(section.get("$ref", "").split("/")[-1])
            if name not in {"llm", "speech"} and known is not None:
                fields = {field: whole(FULL)[name][field] for field in known["properties"]}
                assert told[name] == fields
        assert told["channels"] == whole(FULL)["channels"]
        if recorded.version == 1:
            assert told["llm"] == {"provider": "none"}
        else:
            # Who hears is nobody's model, and its key goes to no agent that cannot use it.
            providers = whole(FULL)["llm"]["providers"][:1]
            assert told["llm"] == whole(FULL)["llm"] | {"providers": providers}
        assert told["speech"] == {"enabled": False}

    @pytest.mark.parametrize("version", [SCHEMA_VERSION, SCHEMA_VERSION + 1])
    def test_of_today_and_of_newer_agents_is_the_whole_document(self, version: int) -> None:
        assert spoken(whole(FULL), version) == whole(FULL)


class TestAgent:
    async def test_is_given_a_session_and_a_document_in_its_own_words_and_is_heard(
        self, parts: Parts, owner: Person, client, clock, writing, recorded: Recorded
    ) -> None:
        instance_id = (await owner.post("/instances", {"name": "Bot"})).json()["id"]
        made = await owner.post(
            f"/instances/{instance_id}/channels", {"kind": "webchat", "name": "Site"}
        )
        spec = InstanceSpec(instance_id=UUID(instance_id), tenant_id=owner.tenant_id, generation=1)
        given = await client.post(
            f"/api/v1/instances/{instance_id}/bootstrap",
            json=recorded.named("bootstrap")["body"],
            headers={"authorization": f"Bearer {parts.bootstraps.mint(spec)}"},
        )

        assert given.status_code == 200, given.text
        answer = given.json()
        assert answer.keys() >= recorded.named("bootstrap")["answer"].keys()
        newest = answer["newest"]
        assert newest["sha256"] == digest(newest["document"])
        jsonschema.validate(newest["document"], recorded.document)
        for batch in recorded.events():
            body = retold(batch, session_id=answer["session_id"], channel_id=made.json()["id"])
            headers = standard_webhooks.sign(
                answer["webhook_secrets"][0],
                message_id=str(new_id()),
                timestamp=int(clock.now().timestamp()),
                body=body,
            )
            heard = await client.post(
                f"/api/v1/instances/{instance_id}/events", content=body, headers=headers
            )
            assert heard.status_code == 202, heard.text
            assert {result["status"] for result in heard.json()["results"]} == {"stored"}


def retold(batch: dict[str, Any], *, session_id: str, channel_id: str) -> bytes:
    """The recorded batch, as if said by this agent of its channel."""
    events = []
    for event in batch["events"]:
        data = dict(event["data"])
        if "channel_id" in data:
            data["channel_id"] = channel_id
        data["channels"] = [each | {"channel_id": channel_id} for each in data.get("channels", [])]
        if event["type"] != "instance.heartbeat":
            del data["channels"]
        same = event["type"] != "message.received"
        named = event["id"] if same else str(event_id(UUID(channel_id), data["dedupe_key"]))
        events.append(event | {"id": named, "data": data})
    return json.dumps(batch | {"session_id": session_id, "events": events}).encode()
