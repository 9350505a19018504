"""`Idempotency-Key`, through a route that creates."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.permissions import Role

KEY = {"idempotency-key": "order-7"}


async def create(person, name: str = "Bot", key: str = "order-7"):
    return await person.post("/instances", {"name": name}, headers={"idempotency-key": key})


async def names(person) -> list[str]:
    return [row["name"] for row in (await person.get("/instances")).json()["items"]]


class TestIdempotencyKey:
    async def test_a_repeat_gets_the_first_answer_and_does_nothing(self, people) -> None:
        owner = await people.owner()
        first, second = await create(owner), await create(owner)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.json() == first.json()
        assert await names(owner) == ["Bot"]

    async def test_another_body_under_the_same_key_is_refused(self, people) -> None:
        owner = await people.owner()
        await create(owner)

        answer = await create(owner, name="Other")

        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert await names(owner) == ["Bot"]

    async def test_another_route_under_the_same_key_is_refused(self, people) -> None:
        owner = await people.owner()
        instance = (await create(owner)).json()["id"]

        answer = await owner.post(f"/instances/{instance}/stop", headers=KEY)

        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")

    async def test_twins_at_the_same_moment_have_one_effect(self, people) -> None:
        owner = await people.owner()

        answers = await asyncio.gather(*(create(owner) for _ in range(8)))

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert await names(owner) == ["Bot"]

    async def test_an_operators_key_is_honoured_too(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner, operator, other = (
            await people.owner(),
            await people.operator(),
            await people.operator(),
        )
        path, body = f"/tenants/{owner.tenant_id}/support", {"reason": "bug", "minutes": 5}
        answers = [await operator.post(path, body, headers=KEY) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert await superuser.fetchval("SELECT count(*) FROM support_grants") == 1
        reused = await operator.post(path, body | {"minutes": 9}, headers=KEY)
        assert reused.json()["code"] == "idempotency_key_reused"
        # A key is a person's own, and no tenant sees the platform's.
        assert (await other.post(path, body, headers=KEY)).json()["id"] != answers[0].json()["id"]
        kept = await superuser.fetch("SELECT tenant_id FROM idempotency")
        assert {row[0] for row in kept} == {UUID(int=0)}

    async def test_a_request_that_failed_keeps_no_key(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        assert (await create(owner, name="")).status_code == 422
        channel = await owner.post(
            f"/instances/{owner.tenant_id}/channels",
            {"kind": "webchat", "name": "Site"},
            headers=KEY,
        )
        assert channel.status_code == 404
        assert await superuser.fetchval("SELECT count(*) FROM idempotency") == 0

        assert (await create(owner)).status_code == 201

    async def test_a_key_belongs_to_the_person_who_used_it(self, people) -> None:
        owner = await people.owner()
        admin = await people.member(owner.tenant_id, Role.ADMIN)
        await create(owner)
        await create(admin, name="Other")

        assert await names(owner) == ["Bot", "Other"]

    async def test_without_a_key_every_request_counts(self, people) -> None:
        owner = await people.owner()
        for _ in range(2):
            await owner.post("/instances", {"name": "Bot"})

        assert await names(owner) == ["Bot", "Bot"]

    @pytest.mark.parametrize("key", ["", "k" * 201])
    async def test_a_key_has_a_sensible_length(self, people, key: str) -> None:
        answer = await create(await people.owner(), key=key)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
