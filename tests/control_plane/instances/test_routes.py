"""Instances: what people want to run, through the whole application."""

import asyncio

import asyncpg
import pytest

from control_plane.kit.ids import new_id

MAX_INSTANCES = 20
"""What the plan of the tests' tenants gives."""


async def create(person, name: str = "Bot") -> dict:
    answer = await person.post("/instances", {"name": name})
    assert answer.status_code == 201
    return answer.json()


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestCreate:
    async def test_asks_for_a_bot_that_runs(self, people) -> None:
        owner = await people.owner()

        instance = await create(owner, " Tea bot ")

        assert {name: instance[name] for name in instance if name != "id"} == {
            "tenant_id": str(owner.tenant_id),
            "tenant": "Tea House",
            "name": "Tea bot",
            "desired": "running",
            "generation": 1,
            "observed_generation": 0,
            "phase": "pending",
            "release": None,
            "drift": ["generation"],
            "conditions": [],
            "asleep_at": None,
            "suspended_at": None,
            "suspended_reason": None,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }
        assert (await owner.get(f"/instances/{instance['id']}")).json() == instance

    async def test_calls_the_fleet_tells_the_stream_and_the_audit(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        instance = await create(owner)

        work = await superuser.fetchrow(
            "SELECT kind, key::text, tenant_id FROM work WHERE kind = 'instance'"
        )
        told = await superuser.fetchrow("SELECT seq, type, data->>'instance_id' FROM stream")
        audited = await superuser.fetchrow(
            "SELECT actor_kind, actor_id, target_id::text FROM audit"
            " WHERE action = 'instance.create'"
        )
        assert tuple(work) == ("instance", instance["id"], owner.tenant_id)
        assert tuple(told) == (1, "instance.changed", instance["id"])
        assert tuple(audited) == ("person", owner.identity_id, instance["id"])

    async def test_a_tenant_has_so_many_and_no_more(self, people) -> None:
        owner, other = await people.owner(), await people.owner()
        await create(other)

        # All at once: the tenant's row lock makes the count true.
        answers = await asyncio.gather(
            *(owner.post("/instances", {"name": f"Bot {n}"}) for n in range(MAX_INSTANCES + 3))
        )

        refused = [answer for answer in answers if answer.status_code != 201]
        assert [code(answer) for answer in refused] == [(409, "quota_exceeded")] * 3

    async def test_a_deleted_one_makes_room(self, people) -> None:
        owner = await people.owner()
        made = [await create(owner) for _ in range(MAX_INSTANCES)]
        await owner.delete(f"/instances/{made[0]['id']}")

        await create(owner)

    @pytest.mark.parametrize("body", [{}, {"name": " "}, {"name": "B", "desired": "stopped"}])
    async def test_what_does_not_fit_is_refused(self, people, body: dict) -> None:
        answer = await (await people.owner()).post("/instances", body)

        assert code(answer) == (422, "invalid_request")


class TestList:
    async def test_has_ones_own_oldest_first_in_pages(self, people) -> None:
        owner, other = await people.owner(), await people.owner()
        made = [(await create(owner))["id"] for _ in range(3)]
        await create(other)

        first = (await owner.get("/instances", params={"limit": 2})).json()
        second = (
            await owner.get("/instances", params={"limit": 2, "cursor": first["next"]})
        ).json()

        assert [item["id"] for item in first["items"] + second["items"]] == made
        assert second["next"] is None

    async def test_operators_have_everybodys(self, people) -> None:
        made = [(await create(await people.owner()))["id"] for _ in range(2)]

        page = (await (await people.operator()).get("/instances")).json()

        assert [item["id"] for item in page["items"]] == made


class TestWant:
    async def test_every_change_is_a_new_generation_and_repeating_it_is_none(self, people) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        steps = []
        for action in ("start", "stop", "stop", "start", "start"):
            answer = await owner.post(f"{path}/{action}")
            assert answer.status_code == 202
            steps.append((answer.json()["desired"], answer.json()["generation"]))

        assert steps == [
            ("running", 1),
            ("stopped", 2),
            ("stopped", 2),
            ("running", 3),
            ("running", 3),
        ]

    async def test_deleting_is_final_and_repeatable(self, people) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"

        answers = [await owner.delete(path) for _ in range(2)]

        assert [(a.status_code, a.json()["desired"], a.json()["generation"]) for a in answers] == [
            (202, "deleted", 2)
        ] * 2
        for action in ("start", "stop"):
            assert code(await owner.post(f"{path}/{action}")) == (409, "instance_deleting")
        assert code(await owner.post(f"{path}/restart")) == (409, "instance_not_running")

    async def test_what_is_gone_is_not_there(self, people, superuser: asyncpg.Connection) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        await superuser.execute("UPDATE instances SET desired = 'deleted', phase = 'deleted'")

        assert code(await owner.get(path)) == (404, "instance_not_found")
        assert (await owner.get("/instances")).json()["items"] == []


class TestRestart:
    async def test_is_a_new_generation_each_time_and_forgets_failures(
        self, people, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        await superuser.execute("""UPDATE instances SET starts = '{"failures": 3}'""")

        generations = [(await owner.post(f"{path}/restart")).json()["generation"] for _ in range(2)]

        assert generations == [2, 3]
        assert await superuser.fetchval("SELECT starts->>'failures' FROM instances") is None

    async def test_what_is_stopped_must_be_started(self, people) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        await owner.post(f"{path}/stop")

        assert code(await owner.post(f"{path}/restart")) == (409, "instance_not_running")


class TestTimeline:
    async def test_tells_what_happened_newest_first(self, people) -> None:
        owner = await people.owner()
        path = f"/instances/{(await create(owner))['id']}"
        for action in ("stop", "start", "restart"):
            await owner.post(f"{path}/{action}")

        first = (await owner.get(f"{path}/timeline", params={"limit": 3})).json()
        rest = (await owner.get(f"{path}/timeline", params={"cursor": first["next"]})).json()

        assert [entry["type"] for entry in first["items"] + rest["items"]] == [
            "instance.restart",
            "instance.start",
            "instance.stop",
            "instance.create",
        ]


class TestWalls:
    async def test_a_foreign_instance_is_not_there(self, people) -> None:
        mine, theirs = await people.owner(), await people.owner()
        foreign = (await create(theirs))["id"]

        for instance_id in (foreign, new_id()):
            path = f"/instances/{instance_id}"
            answers = [
                await mine.get(path),
                await mine.get(f"{path}/timeline"),
                await mine.delete(path),
                *[await mine.post(f"{path}/{action}") for action in ("start", "stop", "restart")],
            ]
            assert {code(answer) for answer in answers} == {(404, "instance_not_found")}
        assert (await theirs.get(f"/instances/{foreign}")).json()["generation"] == 1
