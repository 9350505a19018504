"""What a platform sent of messages that cannot be carried whole: who sees it, and how long."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from adapters.model import Text, Unsupported
from control_plane.access.permissions import Role
from control_plane.db import leases
from control_plane.fleet import upkeep
from control_plane.ingest import raw
from control_plane.parts import Parts
from control_plane.privacy.retention import Retention
from tests.control_plane.ingest.conftest import Agent, Agents

pytestmark = pytest.mark.usefixtures("writing")

SENT = '{"msgtype": "vote", "phone": "13800138000"}'


@pytest.fixture
async def owner(people: Any) -> Any:
    return await people.owner()


@pytest.fixture
async def agent(agents: Agents, owner: Any) -> Agent:
    return await agents.make(owner=owner)


class Case:
    """A bot that hears what it cannot carry."""

    def __init__(self, agent: Agent, owner: Any, superuser: asyncpg.Connection) -> None:
        self.agent = agent
        self.owner = owner
        self.superuser = superuser

    async def hears(self, key: str = "a", body: str = SENT, **more: Any) -> str:
        """A message with something strange in it; its id."""
        segments = [Text(text="hello"), Unsupported(platform_type="vote")]
        event = self.agent.message(key, segments=segments, raw=body, **more)
        answer = await self.agent.post(event)
        assert answer.json()["results"][0]["status"] == "stored", answer.text
        found = await self.superuser.fetchval(
            "SELECT id FROM messages WHERE platform_id = $1", f"m-{key}"
        )
        return str(found)

    async def shown(self, message_id: str, who: Any = None) -> httpx2.Response:
        answer: httpx2.Response = await (who or self.owner).get(f"/messages/{message_id}/raw")
        return answer

    async def kept(self) -> list[str]:
        rows = await self.superuser.fetch("SELECT body FROM raw_messages ORDER BY message_id")
        return [row["body"] for row in rows]

    async def contact(self) -> str:
        [item] = (await self.owner.get("/conversations")).json()["items"]
        found: str = item["contact"]["id"]
        return found


@pytest.fixture
def case(agent: Agent, owner: Any, superuser: asyncpg.Connection) -> Case:
    return Case(agent, owner, superuser)


class TestReading:
    async def test_shows_what_came_and_is_audited(self, case: Case) -> None:
        message_id = await case.hears()

        answer = await case.shown(message_id)

        assert (answer.status_code, answer.json()["body"]) == (200, SENT)
        entries = (await case.owner.get("/audit?action=message.raw_read")).json()["items"]
        assert [(entry["action"], entry["target_id"]) for entry in entries] == [
            ("message.raw_read", message_id)
        ]

    async def test_is_for_those_who_look_after_the_bot(self, case: Case, people: Any) -> None:
        message_id = await case.hears()
        seen = {}
        for role in (Role.VIEWER, Role.MEMBER, Role.ADMIN):
            person = await people.member(case.owner.tenant_id, role)
            seen[role] = (await case.shown(message_id, person)).status_code

        assert seen == {Role.VIEWER: 403, Role.MEMBER: 403, Role.ADMIN: 200}

    async def test_is_for_an_operator_who_was_let_in(self, case: Case, people: Any) -> None:
        message_id = await case.hears()
        operator = await people.operator()
        path = f"/messages/{message_id}/raw"
        header = {"x-botyard-tenant": str(case.owner.tenant_id)}

        before = await operator.call("GET", path, headers=header)
        await operator.post(
            f"/tenants/{case.owner.tenant_id}/support", {"reason": "asked", "minutes": 60}
        )
        after = await operator.call("GET", path, headers=header)

        assert before.status_code == 404
        assert after.json()["body"] == SENT
        entries = (await case.owner.get("/audit?action=message.raw_read")).json()["items"]
        assert len(entries) == 1

    async def test_shows_no_numbers_to_those_who_may_not_see_them(
        self, case: Case, people: Any
    ) -> None:
        message_id = await case.hears()
        await case.owner.patch("/tenant", {"mask_numbers": True})
        operator = await people.operator()
        await operator.post(
            f"/tenants/{case.owner.tenant_id}/support", {"reason": "asked", "minutes": 60}
        )

        answer = await operator.call(
            "GET",
            f"/messages/{message_id}/raw",
            headers={"x-botyard-tenant": str(case.owner.tenant_id)},
        )

        assert (answer.status_code, answer.json()["body"]) == (200, None)
        assert (await case.shown(message_id)).json()["body"] == SENT

    async def test_of_a_message_that_was_carried_whole_is_nothing(self, case: Case) -> None:
        await case.agent.post(case.agent.message("b"))
        message_id = await case.superuser.fetchval("SELECT id FROM messages")

        answer = await case.shown(message_id)

        assert (answer.status_code, answer.json()["code"]) == (404, "raw_message_not_found")


class TestKeeping:
    async def test_a_redelivery_that_looks_otherwise_is_the_same_message(self, case: Case) -> None:
        await case.hears()
        segments = [Text(text="hello"), Unsupported(platform_type="vote")]
        event = case.agent.message("a", segments=segments, raw='{"seq": 2}')

        [result] = (await case.agent.post(event)).json()["results"]

        assert result["status"] == "duplicate"
        assert await case.kept() == [SENT]

    async def test_is_left_where_the_channel_wants_none(self, case: Case) -> None:
        channel = f"/channels/{case.agent.channel_id}"
        before = (await case.owner.get(channel)).json()["keep_raw"]
        after = (await case.owner.patch(channel, {"keep_raw": False})).json()["keep_raw"]
        message_id = await case.hears()

        assert (before, after) == (True, False)
        assert await case.kept() == []
        assert (await case.shown(message_id)).status_code == 404

    async def test_is_left_where_it_is_longer_than_an_agent_makes_it(self, case: Case) -> None:
        await case.hears(body="x" * (raw.MAX_BODY + 1))

        assert await case.kept() == []

    async def test_takes_what_a_database_cannot(self, case: Case) -> None:
        await case.hears(body='{"text": "a\0b"}')

        assert await case.kept() == ['{"text": "a\ufffdb"}']

    async def test_has_a_bound_for_each_tenant(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(raw, "MAX_KEPT", 2)
        for n in range(4):
            await case.hears(f"k{n}", json.dumps({"n": n}))

        assert await case.kept() == ['{"n": 2}', '{"n": 3}']


class TestForgetting:
    async def test_goes_with_its_contact(self, case: Case) -> None:
        message_id = await case.hears()

        erased = await case.owner.post(f"/contacts/{await case.contact()}/erase")

        assert erased.status_code == 200
        assert await case.kept() == []
        assert (await case.shown(message_id)).status_code == 404

    async def test_is_in_exports(self, case: Case) -> None:
        message_id = await case.hears()
        await case.hears("b", '{"other": 1}', visitor="v2")
        contacts = (await case.owner.get("/conversations")).json()["items"]
        first = contacts[-1]["contact"]["id"]

        found = []
        for path in ("/export", f"/contacts/{first}/export"):
            answer = await case.owner.get(path)
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                found.append(json.loads(archive.read("raw_messages.json")))

        assert [len(rows) for rows in found] == [2, 1]
        assert [(row["message_id"], row["body"]) for row in found[1]] == [(message_id, SENT)]

    async def test_is_kept_no_longer_than_the_plan_says(
        self, case: Case, parts: Parts, clock: Any
    ) -> None:
        await case.hears()
        house = parts.house
        async with house.database.session() as session:
            [lease] = await leases.claim(
                session, upkeep.WORK, owner="test", limit=1, lease=timedelta(hours=1)
            )
        retention = Retention(house.database, clock, at_most=timedelta(days=31))
        await retention.sweep(lease)
        before = await case.kept()

        # Ids tell the real time.
        clock.time = datetime.now(UTC) + timedelta(days=32)
        await retention.sweep(lease)

        assert (before, await case.kept()) == ([SENT], [])
