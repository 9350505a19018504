"""Revisions: configuration as versions, through the whole application."""

import asyncio

import asyncpg
import pytest

from control_plane.db.session import Scope, driver
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from control_plane.revisions import documents
from control_plane.revisions.documents import MAX_DOCUMENT_BYTES
from tests.control_plane.conversations.scene import until_blocked


def named(name: str) -> dict:
    return {"persona": {"name": name}}


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class Bot:
    """An instance and its revisions."""

    def __init__(self, person, instance_id: str) -> None:
        self.person = person
        self.id = instance_id

    async def write(self, document: dict):
        return await self.person.post(f"/instances/{self.id}/revisions", {"document": document})

    async def written(self, document: dict) -> dict:
        answer = await self.write(document)
        assert answer.status_code == 201
        return answer.json()

    async def publish(self, revision: dict):
        return await self.person.post(f"/revisions/{revision['id']}/publish")

    async def roll_back(self, number: int):
        return await self.person.post(f"/instances/{self.id}/rollback", {"number": number})

    async def all(self, **params) -> dict:
        return (await self.person.get(f"/instances/{self.id}/revisions", params=params)).json()


@pytest.fixture
async def bot(people) -> Bot:
    owner = await people.owner()
    return Bot(owner, (await owner.post("/instances", {"name": "Bot"})).json()["id"])


class TestWrite:
    async def test_keeps_a_draft_with_the_defaults_filled_in(self, bot: Bot) -> None:
        revision = await bot.written(named("小茶"))

        assert (revision["number"], revision["state"], revision["published_at"]) == (
            1,
            "draft",
            None,
        )
        assert revision["document"]["persona"]["name"] == "小茶"
        assert revision["document"]["rules"] == documents.default()["rules"]
        assert (await bot.all())["standing"]["desired"] == 0

    async def test_numbers_have_no_gap_when_many_write_at_once(self, bot: Bot) -> None:
        written = await asyncio.gather(*(bot.written(named(f"n{n}")) for n in range(12)))

        assert sorted(revision["number"] for revision in written) == list(range(1, 13))

    async def test_one_that_is_refused_takes_no_number(self, bot: Bot) -> None:
        await bot.write({"persona": {"name": ""}})

        assert (await bot.written({}))["number"] == 1

    async def test_each_error_has_its_path(self, bot: Bot) -> None:
        answer = await bot.write(
            {
                "persona": {"name": "", "mood": "sunny"},
                "rules": {"answer_threshold": 3},
                "speach": {},
                "channels": [],
            }
        )

        assert code(answer) == (422, "invalid_document")
        assert {error["path"]: error["code"] for error in answer.json()["errors"]} == {
            "/persona/name": "string_too_short",
            "/persona/mood": "extra_forbidden",
            "/rules/answer_threshold": "less_than_equal",
            "/speach": "extra_forbidden",
            "/channels": "managed_elsewhere",
        }

    async def test_channels_have_rows_of_their_own(self, bot: Bot) -> None:
        answer = await bot.write({"channels": []})

        assert [(e["path"], e["code"]) for e in answer.json()["errors"]] == [
            ("/channels", "managed_elsewhere")
        ]

    async def test_where_a_bot_may_go_is_its_plans_to_say(self, bot: Bot) -> None:
        answer = await bot.write({"network": {"egress_allow": ["10.0.0.0/8"]}})

        assert [(e["path"], e["code"]) for e in answer.json()["errors"]] == [
            ("/network", "managed_elsewhere")
        ]

    async def test_one_that_is_far_too_large_is_refused(self, bot: Bot) -> None:
        answer = await bot.write({"persona": {"name": "x" * MAX_DOCUMENT_BYTES}})

        assert code(answer) == (422, "document_too_large")


class TestList:
    async def test_has_the_newest_first_in_pages_and_where_the_bot_stands(self, bot: Bot) -> None:
        for n in range(3):
            await bot.written(named(f"n{n}"))

        first = await bot.all(limit=2)
        second = await bot.all(limit=2, cursor=first["next"])

        numbers = [revision["number"] for revision in first["items"] + second["items"]]
        assert numbers == [3, 2, 1]
        assert second["next"] is None
        assert first["standing"] == {
            "desired": 0,
            "delivered": None,
            "applied": None,
            "last_good": None,
            "rejected": None,
            "errors": [],
            "pending_restart": False,
        }


class TestPublish:
    async def test_makes_it_the_desired_one_and_the_instance_due(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        revision = await bot.written(named("小茶"))
        await superuser.execute("DELETE FROM work WHERE kind = 'instance'")

        published = (await bot.publish(revision)).json()

        assert (published["state"], published["published_at"]) == (
            "published",
            "2026-01-01T00:00:00Z",
        )
        assert (await bot.all())["standing"]["desired"] == 1
        assert (
            await superuser.fetchval("SELECT key::text FROM work WHERE kind = 'instance'") == bot.id
        )

    async def test_beside_an_agents_report_never_locks_both_up(
        self, bot: Bot, parts: Parts, superuser: asyncpg.Connection
    ) -> None:
        revision = await bot.written(named("小茶"))
        async with parts.house.database.plain(Scope(tenants=(bot.person.tenant_id,))) as report:
            connection = await driver(report)
            await connection.execute("UPDATE config_states SET last_good = 0")
            publishing = asyncio.create_task(bot.publish(revision))
            await until_blocked(superuser)
            await connection.execute(
                "INSERT INTO timeline (id, tenant_id, instance_id, at, type, message)"
                " SELECT gen_random_uuid(), tenant_id, id, now(), 'config.applied', '-'"
                " FROM instances"
            )

        assert (await publishing).status_code == 200

    async def test_twice_is_once(self, bot: Bot, clock, superuser: asyncpg.Connection) -> None:
        revision = await bot.written({})
        first = await bot.publish(revision)
        second = await bot.publish(revision)

        assert second.json() == first.json()
        for table, column in (("audit", "action"), ("timeline", "type")):
            counted = await superuser.fetchval(
                f"SELECT count(*) FROM {table} WHERE {column} = 'revision.publish'"  # noqa: S608
            )
            assert counted == 1

    async def test_at_the_same_moment_the_last_one_holds(self, bot: Bot) -> None:
        written = [await bot.written(named(f"n{n}")) for n in range(4)]

        await asyncio.gather(*(bot.publish(revision) for revision in written))

        everything = await bot.all()
        assert {revision["state"] for revision in everything["items"]} == {"published"}
        assert everything["standing"]["desired"] in {1, 2, 3, 4}

    async def test_does_not_raise_the_generation(self, bot: Bot) -> None:
        await bot.publish(await bot.written({}))

        shown = (await bot.person.get(f"/instances/{bot.id}")).json()
        assert shown["generation"] == 1


class TestRollBack:
    async def test_publishes_the_old_document_as_a_new_revision(self, bot: Bot) -> None:
        first = await bot.written(named("one"))
        await bot.publish(first)
        await bot.publish(await bot.written(named("two")))

        answer = await bot.roll_back(1)

        assert answer.status_code == 201
        back = answer.json()
        assert (back["number"], back["reverts"], back["state"]) == (3, 1, "published")
        assert back["document"] == first["document"]
        everything = await bot.all()
        assert everything["standing"]["desired"] == 3
        assert [revision["number"] for revision in everything["items"]] == [3, 2, 1]

    async def test_the_built_in_document_is_number_nought(self, bot: Bot) -> None:
        await bot.publish(await bot.written(named("one")))

        assert (await bot.roll_back(0)).json()["document"] == documents.default()

    async def test_to_what_never_was_is_refused(self, bot: Bot) -> None:
        assert code(await bot.roll_back(7)) == (404, "revision_not_found")
        assert (await bot.all())["items"] == []


class TestDiff:
    async def test_is_against_the_one_before(self, bot: Bot) -> None:
        default = documents.default()["rules"]["answer_threshold"]
        await bot.written(named("one"))
        second = await bot.written(named("two") | {"rules": {"answer_threshold": 0.8}})

        answer = await bot.person.get(f"/revisions/{second['id']}/diff")

        assert answer.json() == {
            "number": 2,
            "against": 1,
            "changes": [
                {"path": "/persona/name", "before": "one", "after": "two"},
                {"path": "/rules/answer_threshold", "before": default, "after": 0.8},
            ],
        }

    async def test_or_against_any_other(self, bot: Bot) -> None:
        await bot.written(named("one"))
        second = await bot.written(named("two"))

        answer = await bot.person.get(f"/revisions/{second['id']}/diff", params={"against": 0})

        assert [change["before"] for change in answer.json()["changes"]] == ["Bot"]

    async def test_of_the_first_is_against_the_built_in_one(self, bot: Bot) -> None:
        first = await bot.written({})

        answer = await bot.person.get(f"/revisions/{first['id']}/diff")

        assert answer.json() == {"number": 1, "against": 0, "changes": []}


class TestWalls:
    async def test_a_foreign_revision_is_not_there(self, bot: Bot, people) -> None:
        foreign = await bot.written({})
        mine = await people.owner()

        for revision_id in (foreign["id"], new_id()):
            for answer in (
                await mine.post(f"/revisions/{revision_id}/publish"),
                await mine.get(f"/revisions/{revision_id}/diff"),
            ):
                assert code(answer) == (404, "revision_not_found")
        for answer in (
            await mine.get(f"/instances/{bot.id}/revisions"),
            await mine.post(f"/instances/{bot.id}/revisions", {"document": {}}),
            await mine.post(f"/instances/{bot.id}/rollback", {"number": 0}),
        ):
            assert code(answer) == (404, "instance_not_found")
        assert (await bot.all())["standing"]["desired"] == 0
