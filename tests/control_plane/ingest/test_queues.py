"""What waits on the whole platform, as operators see it."""

import asyncpg
import pytest

from control_plane.ingest import queue_routes
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Bot, dead_callback, make_bot


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner("Tea House"))


class TestQueues:
    async def test_say_how_much_waits_of_what(
        self, people, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("DELETE FROM work")
        await superuser.execute(
            "INSERT INTO work (kind, key, tenant_id, due_at, attempts, token, expires_at) VALUES"
            " ('lane', gen_random_uuid(), $1, now() - interval '90 s', 0, NULL, NULL),"
            " ('lane', gen_random_uuid(), $1, now() + interval '1 h', 3, NULL, NULL),"
            " ('lane', gen_random_uuid(), $1, now(), 1, gen_random_uuid(), now() + interval '9 s'),"
            " ('turn', gen_random_uuid(), $1, now() + interval '1 h', 0, NULL, NULL)",
            bot.tenant_id,
        )

        answer = await (await people.operator()).get("/queues")

        assert answer.status_code == 200
        lane, turn = answer.json()["work"]
        assert 90 <= lane.pop("age_s") < 3600
        assert lane == {"name": "lane", "depth": 3, "due": 1, "in_hand": 1, "failing": 1}
        assert turn == {
            "name": "turn",
            "depth": 1,
            "due": 0,
            "age_s": None,
            "in_hand": 0,
            "failing": 0,
        }
        assert {each["name"]: each["depth"] for each in answer.json()["queues"]} == {
            "deliveries": 0,
            "unconfirmed": 0,
            "callbacks": 0,
            "dead_callbacks": 0,
            "rejected_events": 0,
            "webhooks": 0,
        }

    async def test_are_no_business_of_tenants(self, bot: Bot) -> None:
        answer = await bot.owner.get("/queues")

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


class TestDeadLetters:
    async def test_are_counted_by_tenant_and_reason_without_a_word_of_them(
        self, parts, people, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        other = await make_bot(parts, await people.owner("Wool Shop"))
        await superuser.execute(
            "INSERT INTO rejected_events"
            " (id, tenant_id, instance_id, event_id, type, reason, body, received_at)"
            " VALUES ($1, $2, $3, $1, 'message.received', 'malformed', 'secret', now())",
            new_id(),
            other.tenant_id,
            other.instance_id,
        )
        for _ in range(2):
            await dead_callback(superuser, bot)

        dead = (await (await people.operator()).get("/queues")).json()["dead_letters"]

        assert [(each["tenant"], each["source"], each["depth"]) for each in dead] == [
            ("Tea House", "callback", 2),
            ("Wool Shop", "event", 1),
        ]
        assert dead[1]["reason"] == "malformed"
        assert dead[0].keys() == queue_routes.DeadLettersOut.model_fields.keys()

    async def test_are_counted_for_operators_alone(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        await dead_callback(superuser, bot)

        async with bot.parts.house.database.session() as session:
            connection = (await (await session.connection()).get_raw_connection()).driver_connection
            assert await connection.fetch("SELECT * FROM dead_letters()") == []

    async def test_are_replayed_for_a_tenant_and_nobody_else(
        self, parts, people, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        operator, other = await people.operator(), await make_bot(parts, await people.owner())
        mine = await dead_callback(superuser, bot)
        theirs = await dead_callback(superuser, other)

        path = f"/tenants/{bot.tenant_id}/dead-letters/replay"
        nothing = await operator.post(path, {"reason": "another"})
        done = await operator.post(path, {})

        assert nothing.json()["items"] == []
        assert [(each["id"], each["became"]) for each in done.json()["items"]] == [
            (str(mine), "waiting")
        ]
        dead = await superuser.fetch("SELECT id FROM callbacks WHERE dead_reason IS NOT NULL")
        assert [str(row["id"]) for row in dead] == [str(theirs)]
        kind = await superuser.fetchval(
            "SELECT actor_kind FROM audit WHERE action = 'dead_letter.replay' AND tenant_id = $1",
            bot.tenant_id,
        )
        assert kind == "operator"
