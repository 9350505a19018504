"""What operators find in the fleet and do about a bot, whoever's it is."""

from typing import Any

import asyncpg
import pytest

from tests.conftest import People, Person
from tests.control_plane.instances.test_routes import code, create

RELEASED = """
WITH made AS (
    INSERT INTO releases (id, number, created_at) VALUES (gen_random_uuid(), 7, now()) RETURNING id
)
UPDATE instances SET release_id = made.id FROM made WHERE instances.id = $1::uuid
"""


@pytest.fixture
async def operator(people: People) -> Person:
    return await people.operator()


async def names(person: Person, **query: Any) -> list[str]:
    answer = await person.get("/instances", params=query)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


class TestFilters:
    async def test_take_what_the_row_says(
        self, people: People, operator: Person, superuser: asyncpg.Connection
    ) -> None:
        owner, other = await people.owner("Tea House"), await people.owner("100% Wool_Shop")
        desk, shop = await create(owner, "Desk"), await create(owner, "Shop")
        lab = await create(other, "Lab")
        change = "UPDATE instances SET {} WHERE id = $1::uuid"
        await superuser.execute(
            change.format("phase = 'running', observed_generation = 1"), desk["id"]
        )
        await superuser.execute(
            change.format("drift = '{configuration}', observed_generation = 1"), shop["id"]
        )
        await superuser.execute(RELEASED, lab["id"])

        assert await names(operator) == ["Desk", "Shop", "Lab"]
        assert await names(operator, phase="running") == ["Desk"]
        assert await names(operator, tenant_id=str(other.tenant_id)) == ["Lab"]
        assert await names(operator, release=7) == ["Lab"]
        assert await names(operator, release=0) == ["Desk", "Shop"]
        assert await names(operator, release=8) == []
        assert await names(operator, drift="any") == ["Shop", "Lab"]
        assert await names(operator, drift="configuration") == ["Shop"]
        assert await names(operator, drift="generation") == ["Lab"]
        assert await names(operator, drift="objects") == []
        assert await names(operator, named=" desk ") == ["Desk"]
        # The name of a tenant finds its bots, and is no pattern.
        assert await names(operator, named="wool_") == ["Lab"]
        assert await names(operator, named="%") == ["Lab"]
        assert await names(operator, named="house", phase="pending") == ["Shop"]

    async def test_hold_on_every_page(self, people: People, operator: Person) -> None:
        owner = await people.owner()
        for name in ("Desk 1", "Shop", "Desk 2"):
            await create(owner, name)

        query = {"named": "desk", "limit": 1}
        first = (await operator.get("/instances", params=query)).json()
        second = (await operator.get("/instances", params=query | {"cursor": first["next"]})).json()

        assert [item["name"] for item in first["items"] + second["items"]] == ["Desk 1", "Desk 2"]
        assert second["next"] is None

    async def test_show_members_nothing_of_others(self, people: People) -> None:
        owner, other = await people.owner("Tea House"), await people.owner("Wool Shop")
        await create(other, "Lab")

        assert await names(owner, tenant_id=str(other.tenant_id)) == []
        assert await names(owner, named="wool") == []

    @pytest.mark.parametrize(
        "query", [{"phase": "deleted"}, {"drift": "none"}, {"release": -1}, {"release": 2**31}]
    )
    async def test_are_words_that_there_are(self, operator: Person, query: dict[str, Any]) -> None:
        assert code(await operator.get("/instances", params=query)) == (422, "invalid_request")


class TestCounts:
    async def test_are_of_what_one_may_see(
        self, people: People, operator: Person, superuser: asyncpg.Connection
    ) -> None:
        owner, other = await people.owner(), await people.owner()
        await create(owner, "Desk")
        shop, lab = await create(owner, "Shop"), await create(other, "Lab")
        await superuser.execute(RELEASED, lab["id"])
        await superuser.execute(
            "UPDATE instances SET phase = 'running', observed_generation = 1 WHERE id = $1::uuid",
            shop["id"],
        )
        await operator.post(f"/fleet/{shop['id']}/suspend", {"reason": "spam"})

        assert (await operator.get("/fleet")).json() == {
            "total": 3,
            "drifted": 2,
            "suspended": 1,
            "phases": [{"phase": "pending", "count": 2}, {"phase": "running", "count": 1}],
            "releases": [{"release": None, "count": 2}, {"release": 7, "count": 1}],
        }
        assert (await owner.get("/fleet")).json()["total"] == 2


class TestActions:
    async def test_are_in_the_tenants_audit_and_timeline_by_whom(
        self, people: People, operator: Person, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        bot = await create(owner)

        restarted = await operator.post(f"/fleet/{bot['id']}/restart")
        looked = await operator.post(f"/fleet/{bot['id']}/reconcile")

        assert (restarted.status_code, looked.status_code) == (202, 202)
        assert (restarted.json()["generation"], looked.json()["generation"]) == (2, 2)
        audited = await superuser.fetch(
            "SELECT action, actor_kind FROM audit WHERE tenant_id = $1 AND actor_id = $2"
            " ORDER BY id",
            owner.tenant_id,
            operator.identity_id,
        )
        assert [tuple(row) for row in audited] == [
            ("instance.restart", "operator"),
            ("instance.reconcile", "operator"),
        ]
        timeline = (await owner.get(f"/instances/{bot['id']}/timeline")).json()["items"]
        assert [line["type"] for line in timeline][:2] == ["instance.reconcile", "instance.restart"]

    async def test_operators_see_what_happened_to_the_agent_and_no_more(
        self, people: People, operator: Person
    ) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        revision = await owner.post(f"{path}/revisions", {"document": {}})
        await owner.post(f"/revisions/{revision.json()['id']}/publish")

        async def types(person: Person) -> list[str]:
            items = (await person.get(f"{path}/timeline")).json()["items"]
            return [item["type"] for item in items]

        assert await types(operator) == ["instance.create"]
        assert "revision.publish" in await types(owner)

    async def test_a_suspended_bot_rests_whatever_its_tenant_wants(
        self, people: People, operator: Person
    ) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        steer = path.replace("/instances", "/fleet")

        suspended = await operator.post(f"{steer}/suspend", {"reason": "It sends spam."})

        assert suspended.status_code == 202
        seen = (await owner.get(path)).json()
        assert (seen["suspended_reason"], seen["desired"]) == ("It sends spam.", "running")
        for action in ("start", "restart", "hibernate"):
            assert code(await owner.post(f"{path}/{action}")) == (409, "instance_suspended")
        assert code(await operator.post(f"{steer}/restart")) == (409, "instance_suspended")
        assert (await owner.post(f"{path}/stop")).status_code == 202

        resumed = (await operator.post(f"{steer}/resume")).json()

        assert (resumed["suspended_at"], resumed["suspended_reason"]) == (None, None)
        assert (await owner.post(f"{path}/start")).status_code == 202

    async def test_twice_asked_is_once(
        self, people: People, operator: Person, superuser: asyncpg.Connection
    ) -> None:
        bot = await create(await people.owner())

        for action, body in (("suspend", {"reason": "spam"}), ("resume", None)):
            for _ in range(2):
                assert (await operator.post(f"/fleet/{bot['id']}/{action}", body)).is_success

        told = "SELECT count(*) FROM audit WHERE action IN ('instance.suspend', 'instance.resume')"
        assert await superuser.fetchval(told) == 2

    @pytest.mark.parametrize("action", ["restart", "reconcile", "resume"])
    async def test_are_for_operators_alone(self, people: People, action: str) -> None:
        owner = await people.owner()
        bot = await create(owner)

        assert code(await owner.post(f"/fleet/{bot['id']}/{action}")) == (403, "forbidden")

    async def test_need_a_bot(self, people: People, operator: Person) -> None:
        answer = await operator.post(f"/fleet/{operator.identity_id}/restart")

        assert code(answer) == (404, "instance_not_found")
