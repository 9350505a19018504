"""Support access: an operator looks into a tenant for a while, seen by it."""

from datetime import timedelta

import pytest

from tests.conftest import People, Person


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def into(person: Person) -> dict[str, dict[str, str]]:
    return {"headers": {"x-botyard-tenant": str(person.tenant_id)}}


async def grant(operator: Person, owner: Person, minutes: int = 30) -> dict:
    body = {"reason": "ticket 7", "minutes": minutes}
    answer = await operator.post(f"/tenants/{owner.tenant_id}/support", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


class TestSupport:
    async def test_without_a_grant_the_tenant_is_not_there(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()

        answer = await operator.get("/conversations", **into(owner))

        assert code(answer) == (404, "tenant_not_found")

    async def test_with_one_everything_can_be_looked_at_and_nothing_changed(
        self, people: People
    ) -> None:
        owner, operator = await people.owner(), await people.operator()
        await owner.post("/instances", {"name": "Bot"})
        await grant(operator, owner)

        for path in ("/conversations", "/members", "/quota", "/answers"):
            assert (await operator.get(path, **into(owner))).status_code == 200
        seen = (await operator.get("/instances", **into(owner))).json()["items"]
        assert [item["name"] for item in seen] == ["Bot"]
        written = await operator.post("/instances", {"name": "B"}, **into(owner))
        assert code(written) == (403, "forbidden")

    async def test_shows_no_other_tenant(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()
        operator = await people.operator()
        await other.post("/instances", {"name": "Bot"})
        await grant(operator, owner)

        assert (await operator.get("/instances", **into(owner))).json()["items"] == []
        answer = await operator.get("/instances", **into(other))
        assert code(answer) == (404, "tenant_not_found")

    async def test_is_for_the_operator_who_asked_for_it(self, people: People) -> None:
        owner = await people.owner()
        await grant(await people.operator(), owner)

        answer = await (await people.operator()).get("/members", **into(owner))

        assert code(answer) == (404, "tenant_not_found")

    async def test_ends_by_itself(self, people: People, clock) -> None:
        owner, operator = await people.owner(), await people.operator()
        await grant(operator, owner, minutes=10)
        clock.advance(timedelta(minutes=10))

        assert code(await operator.get("/members", **into(owner))) == (404, "tenant_not_found")

    async def test_is_seen_and_ended_by_the_tenant(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        granted = await grant(operator, owner)
        await operator.get("/members", **into(owner))

        [shown] = (await owner.get("/support-access")).json()["items"]
        ended = await owner.delete(f"/support-access/{granted['id']}")

        assert (shown["operator"], shown["reason"]) == (operator.email, "ticket 7")
        assert shown["used_at"] is not None
        assert ended.status_code == 204
        assert code(await operator.get("/members", **into(owner))) == (404, "tenant_not_found")

    async def test_is_ended_by_a_suspended_tenant_too(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        granted = await grant(operator, owner)
        await operator.post(f"/tenants/{owner.tenant_id}/suspend")

        assert (await owner.delete(f"/support-access/{granted['id']}")).status_code == 204

    async def test_is_audited_with_its_first_use(self, people: People, superuser) -> None:
        owner, operator = await people.owner(), await people.operator()
        await grant(operator, owner)
        for _ in range(3):
            await operator.get("/members", **into(owner))

        rows = await superuser.fetch(
            "SELECT action, actor_kind, actor_id FROM audit WHERE action LIKE 'support%'"
            " ORDER BY id"
        )
        assert [tuple(row) for row in rows] == [
            ("support.grant", "operator", operator.identity_id),
            ("support.use", "operator", operator.identity_id),
        ]

    @pytest.mark.parametrize("body", [{"minutes": 10}, {"reason": "x", "minutes": 241}])
    async def test_has_a_reason_and_an_end(self, people: People, body: dict) -> None:
        owner, operator = await people.owner(), await people.operator()

        answer = await operator.post(f"/tenants/{owner.tenant_id}/support", body)

        assert code(answer) == (422, "invalid_request")

    async def test_is_nothing_that_members_can_have(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()
        body = {"reason": "curious", "minutes": 10}

        asked = await owner.post(f"/tenants/{other.tenant_id}/support", body)
        tried = await owner.get("/members", **into(other))

        assert code(asked) == (403, "forbidden")
        assert code(tried) == (404, "tenant_not_found")
        assert (await owner.get("/members", **into(owner))).status_code == 200


class TestOwnLooks:
    async def test_an_operator_sees_their_own_and_ends_them(self, people: People) -> None:
        owner, other = await people.owner(), await people.owner()
        operator, colleague = await people.operator(), await people.operator()
        granted = await grant(operator, owner)
        await grant(colleague, other)

        listed = (await operator.get("/support-access")).json()["items"]
        assert [each["id"] for each in listed] == [granted["id"]]
        assert (await operator.delete(f"/support-access/{granted['id']}")).status_code == 204

        assert code(await operator.get("/members", **into(owner))) == (404, "tenant_not_found")
        [ended] = (await owner.get("/support-access")).json()["items"]
        assert ended["ended_at"] is not None

    async def test_and_no_colleagues(self, people: People) -> None:
        owner = await people.owner()
        operator, colleague = await people.operator(), await people.operator()
        granted = await grant(operator, owner)

        answer = await colleague.delete(f"/support-access/{granted['id']}")

        assert code(answer) == (404, "support_grant_not_found")
