"""Control planes of earlier schema versions over today's agent."""

from uuid import UUID

import msgspec
import pytest

from instance_agent.protocol import Bootstrap, Revision
from tests.compat.recorded import VERSIONS, Recorded


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    return Recorded(request.param)


async def test_its_documents_are_applied_refused_and_its_messages_sent_as_then(
    agents, control_plane, recorded: Recorded
) -> None:
    given = msgspec.convert(recorded.named("bootstrap")["answer"], Bootstrap, strict=False)
    control_plane.newest = given.newest
    agent = await agents.start()
    health = await agent.health()
    assert health["config"]["applied_sha256"] == given.newest.sha256

    for name in ("update applied", "update rejected"):
        said = recorded.named(name)
        body = said["body"]
        later = Revision(
            number=given.newest.number + body["revision"] + 1,
            sha256=body["sha256"],
            document=body["document"],
        )
        outcome = await agent.update(later)
        assert outcome["outcome"] == said["answer"]["outcome"]
        assert [e["path"] for e in outcome["errors"]] == [
            e["path"] for e in said["answer"]["errors"]
        ]

    applied = recorded.named("update applied")["body"]
    send = recorded.named("send")
    channel_id = UUID(applied["document"]["channels"][0]["id"])
    kept = {name: send["body"][name] for name in ("conversation", "reply_handle", "segments")}
    answer = await agent.send(channel_id, **kept)
    assert answer.status_code == send["status"]
    assert answer.json()["parts"][0].keys() == send["answer"]["parts"][0].keys()
