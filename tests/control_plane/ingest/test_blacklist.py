"""What agents pull of the blacklist, what their heartbeats bring about, and what they count."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from control_plane.channels import blacklist
from control_plane.ingest.dispatch import Dispatcher
from control_plane.kit.ids import new_id
from instance_agent.protocol import (
    BlacklistPage,
    BlacklistRequest,
    BlockedHits,
    MessageBlocked,
)
from tests.conftest import Person

pytestmark = pytest.mark.usefixtures("writing")

HEAD = "SELECT version FROM blacklists"
CALLED = "SELECT count(*) FROM work WHERE kind = 'blacklist'"


@pytest.fixture
async def owner(people) -> Person:
    return await people.owner()


@pytest.fixture
async def agent(agents, owner):
    return await agents.make(owner=owner)


async def listed(owner: Person, name: str = "v1", **more) -> UUID:
    made = await owner.post("/blacklist", {"platform_id": name, **more})
    assert made.status_code == 201, made.text
    return UUID(made.json()["id"])


async def pull(agent, after=None) -> BlacklistPage:
    body = msgspec.json.encode(BlacklistRequest(after=after))
    answer = await agent.client.post(
        f"/api/v1/instances/{agent.instance_id}/blacklist",
        content=body,
        headers=agent.headers(body),
    )
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=BlacklistPage)


def hits(agent, entry_id=None, count=1, **more) -> BlockedHits:
    at = agent.clock.now()
    given = {"count": count, "first_at": at, "last_at": at, "entry_id": entry_id}
    return BlockedHits(**given | more)


def blocked(agent, *all_hits: BlockedHits, channel_id=None):
    data = MessageBlocked(channel_id=channel_id or agent.channel_id, hits=list(all_hits))
    return agent.event("message.blocked", data)


class TestPull:
    async def test_is_whole_page_by_page_under_one_version(
        self, agent, owner, superuser, monkeypatch
    ):
        monkeypatch.setattr(blacklist, "MAX_BLACKLIST_PAGE", 2)
        assert await pull(agent) == BlacklistPage(version=0, entries=[])
        for n in range(5):
            await listed(owner, f"v{n}")

        pages = [await pull(agent)]
        while pages[-1].next:
            pages.append(await pull(agent, pages[-1].next))

        assert [len(page.entries) for page in pages] == [2, 2, 1]
        assert [e.platform_id for page in pages for e in page.entries] == [
            f"v{n}" for n in range(5)
        ]
        assert {page.version for page in pages} == {await superuser.fetchval(HEAD)}

    async def test_holds_what_concerns_the_instance_and_has_not_ended(
        self, agent, agents, owner, clock
    ):
        other = await agents.make(owner=owner)
        await listed(owner, "mine", channel_id=str(agent.channel_id))
        await listed(owner, "theirs", instance_id=str(other.instance_id))
        ends = clock.now() + timedelta(minutes=1)
        await listed(owner, "soon over", expires_at=ends.isoformat())
        [mine, soon] = (await pull(agent)).entries

        clock.advance(timedelta(minutes=1))

        assert (mine.platform_id, mine.kind, mine.channel_id) == (
            "mine",
            "webchat",
            agent.channel_id,
        )
        assert soon.expires_at == ends
        assert [e.platform_id for e in (await pull(agent)).entries] == ["mine"]
        assert [e.platform_id for e in (await pull(other)).entries] == ["theirs"]

    async def test_is_for_the_tenants_own_agents(self, agent, agents, owner):
        await listed(owner)
        stranger = await agents.make()
        assert (await pull(stranger)).entries == []

        body = b"{}"
        url = f"/api/v1/instances/{agent.instance_id}/blacklist"
        answer = await agent.client.post(url, content=body, headers=stranger.headers(body))

        assert answer.status_code == 401

    async def test_refuses_what_it_cannot_read(self, agent):
        body = b'{"after": 1}'
        url = f"/api/v1/instances/{agent.instance_id}/blacklist"
        answer = await agent.client.post(url, content=body, headers=agent.headers(body))

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


class TestHeartbeat:
    @pytest.mark.parametrize("known", [0, 1, 2**62])
    async def test_of_another_version_has_the_agent_told(self, agent, owner, superuser, known):
        await listed(owner)
        await superuser.execute("DELETE FROM work WHERE kind = 'blacklist'")

        assert (await agent.post(agent.beat(blacklist=known))).status_code == 202

        assert await superuser.fetchval(CALLED) == 1

    async def test_of_the_same_or_of_an_agent_of_before_changes_nothing(
        self, agent, owner, superuser
    ):
        assert (await agent.post(agent.beat(blacklist=0))).status_code == 202
        await listed(owner)
        version = await superuser.fetchval(HEAD)
        await superuser.execute("DELETE FROM work WHERE kind = 'blacklist'")

        for known in (None, version):
            assert (await agent.post(agent.beat(blacklist=known))).status_code == 202

        assert await superuser.fetchval(CALLED) == 0


class TestCounts:
    async def test_are_added_to_their_entries_and_told(self, agent, owner, superuser):
        entry_id = await listed(owner)
        first = hits(agent, entry_id, 40)
        event = blocked(agent, first, hits(agent, count=2))

        assert (await agent.post(event)).status_code == 202

        entry = (await owner.get(f"/blacklist/{entry_id}")).json()
        assert (entry["hits"], entry["hit_at"]) == (40, "2026-01-01T00:00:00Z")
        told = await superuser.fetchval("SELECT data FROM stream WHERE type = 'message.blocked'")
        assert msgspec.json.decode(told)["count"] == 42
        assert await superuser.fetchval("SELECT count(*) FROM messages") == 0

    async def test_are_added_once_however_often_they_come(self, agent, owner):
        entry_id = await listed(owner)
        event = blocked(agent, hits(agent, entry_id, 3))
        for _ in range(3):
            assert (await agent.post(event)).json()["results"][0]["status"] == "stored"

        assert (await owner.get(f"/blacklist/{entry_id}")).json()["hits"] == 3

    async def test_of_anothers_channel_or_entry_change_nothing(
        self, agents, agent, owner, parts, superuser
    ):
        entry_id = await listed(owner)
        stranger = await agents.make()
        events = (
            blocked(stranger, hits(agent, entry_id), channel_id=agent.channel_id),
            blocked(stranger, hits(agent, entry_id)),
        )
        mine = agent.pending(agent.message("m1"))

        # One group speaks for both tenants.
        await Dispatcher(parts.house.database).write([mine, stranger.pending(*events)])

        assert (await owner.get(f"/blacklist/{entry_id}")).json()["hits"] == 0
        told = "SELECT tenant_id FROM stream WHERE type = 'message.blocked'"
        assert [row[0] for row in await superuser.fetch(told)] == [stranger.tenant_id]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"hits": []},
            {"hits": [{"count": 0}]},
            {"hits": [{"count": 2**40}]},
            {"hits": [{"first_at": "2026-01-01T00:00:00"}]},
            {"hits": [{}] * 101},
        ],
        ids=["nothing", "zero", "absurd", "no zone", "too many"],
    )
    async def test_that_are_none_are_rejected_and_harm_no_other(self, agent, wrong):
        good = msgspec.to_builtins(hits(agent))
        data = {"hits": [good | each for each in wrong["hits"]]}
        event = agent.event("message.blocked", {"channel_id": str(agent.channel_id)} | data)

        answer = await agent.post(event, agent.message("m1"))

        assert [each["status"] for each in answer.json()["results"]] == ["rejected", "stored"]

    async def test_of_an_entry_that_is_gone_are_told_all_the_same(self, agent, superuser):
        answer = await agent.post(blocked(agent, hits(agent, new_id(), 5)))

        assert answer.json()["results"][0]["status"] == "stored"
        told = await superuser.fetchval("SELECT data FROM stream WHERE type = 'message.blocked'")
        assert msgspec.json.decode(told)["count"] == 5
