"""Secrets that are replaced while the agent runs."""

from uuid import UUID, uuid4

import msgspec
import pytest

from adapters import standard_webhooks
from instance_agent.protocol import Bootstrap, SecretsRenewal
from instance_agent.secrets import GRACE_S, Secrets
from tests.instance_agent.conftest import API_TOKEN, WEBHOOK_SECRET

NEW = SecretsRenewal(api_token="new", webhook_secrets=["new secret", "old secret"])


@pytest.fixture
def clock():
    return Clock()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def secrets(clock):
    given = Bootstrap(
        session_id=UUID(int=1),
        session_token="",
        api_token="old",
        webhook_secrets=["old secret"],
        heartbeat_s=10,
        newest=None,
        last_good=None,
    )
    return Secrets(given, clock=clock)


class TestSecrets:
    def test_both_tokens_count_until_the_new_one_was_shown_for_a_while(self, secrets, clock):
        secrets.renew(NEW)
        clock.now += 10**6
        assert secrets.accepts("old")
        assert secrets.accepts("new")
        clock.now += GRACE_S - 1
        assert secrets.accepts("old")
        clock.now += 1
        assert not secrets.accepts("old")
        assert secrets.accepts("new")

    def test_the_same_again_changes_nothing(self, secrets, clock):
        secrets.renew(NEW)
        secrets.renew(NEW)
        assert secrets.accepts("old")
        assert secrets.signing == "new secret"

    def test_nothing_else_is_taken(self, secrets):
        assert not secrets.accepts("")
        assert not secrets.accepts("new")
        secrets.renew(NEW)
        assert not secrets.accepts("old secret")


async def test_a_running_agent_goes_on_with_the_new_ones(agents, control_plane, revision, web):
    channel = uuid4()
    control_plane.newest = revision(1, {channel: web})
    agent = await agents.start()
    signed = standard_webhooks.make_secret(b"n" * 32)
    renewal = SecretsRenewal(api_token="new", webhook_secrets=[signed, WEBHOOK_SECRET])
    answer = await agent.call(
        "POST", "/astrbot-api/v1/secrets", content=msgspec.json.encode(renewal)
    )
    assert answer.status_code == 200, answer.text
    control_plane.webhook_secrets = [signed]
    outcome = await agent.update(revision(2, {channel: web}, persona={"name": "Mei"}))
    assert outcome["outcome"] == "applied"
    await control_plane.until(lambda: len(control_plane.of_type("config.applied")) == 2)

    for token, status in (("new", 200), (API_TOKEN, 200), ("other", 401)):
        answer = await agent.call(
            "GET", "/astrbot-api/v1/config", headers={"authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status
