"""/tags: the list, and who wears them."""

from uuid import UUID

import asyncpg
import pytest

from control_plane.contacts import tags
from control_plane.kit.ids import new_id
from tests.conftest import Person
from tests.control_plane.contacts.test_contacts import contact_of
from tests.control_plane.conversations.scene import Bot


async def made(person: Person, name: str = "VIP", **more: str) -> str:
    answer = await person.post("/tags", {"name": name} | more)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


@pytest.fixture
async def conversation(bot: Bot) -> UUID:
    return await bot.hears("hello")


class TestList:
    async def test_has_each_name_once(self, bot: Bot) -> None:
        first = await made(bot.owner, "VIP", colour="red")
        second = await made(bot.owner, "new")
        answers = [
            await bot.owner.post("/tags", {"name": "VIP"}),
            await bot.owner.patch(f"/tags/{second}", {"name": "VIP"}),
        ]
        kept = await bot.owner.patch(f"/tags/{first}", {"name": "VIP", "colour": "teal"})

        codes = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert codes == [(409, "tag_exists")] * 2
        assert kept.json() == {"id": first, "name": "VIP", "colour": "teal"}
        shown = (await bot.owner.get("/tags")).json()["items"]
        assert [(tag["name"], tag["colour"]) for tag in shown] == [("VIP", "teal"), ("new", "grey")]

    async def test_is_bounded(self, bot: Bot, monkeypatch) -> None:
        monkeypatch.setattr(tags, "MAX_TAGS", 1)
        await made(bot.owner)

        answer = await bot.owner.post("/tags", {"name": "more"})

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_tags")

    async def test_is_read_by_members_and_written_by_admins(self, bot: Bot, colleague) -> None:
        tag = await made(bot.owner)

        assert len((await colleague.get("/tags")).json()["items"]) == 1
        for answer in (
            await colleague.post("/tags", {"name": "mine"}),
            await colleague.patch(f"/tags/{tag}", {"name": "mine"}),
            await colleague.delete(f"/tags/{tag}"),
        ):
            assert answer.status_code == 403


class TestWorn:
    async def test_by_conversations_and_contacts(self, bot: Bot, colleague, conversation) -> None:
        contact = await contact_of(bot, conversation)
        later, sooner = await made(bot.owner, "b"), await made(bot.owner, "a")
        for path in (f"/conversations/{conversation}", f"/contacts/{contact}"):
            for tag in (later, sooner, sooner):
                worn = await colleague.call("PUT", f"{path}/tags/{tag}")
            assert [tag["name"] for tag in worn.json()["items"]] == ["a", "b"]
            assert (await bot.owner.get(path)).json()["tags"] == worn.json()["items"]
            for _ in range(2):
                worn = await colleague.delete(f"{path}/tags/{later}")
            assert [tag["name"] for tag in worn.json()["items"]] == ["a"]

    async def test_is_told_and_audited_when_it_changes(
        self, bot: Bot, conversation, superuser: asyncpg.Connection
    ) -> None:
        tag = await made(bot.owner)
        for method in ("PUT", "PUT", "DELETE", "DELETE"):
            await bot.owner.call(method, f"/conversations/{conversation}/tags/{tag}")

        told = await superuser.fetchval(
            "SELECT count(*) FROM stream WHERE type = 'conversation.tags_changed'"
        )
        audited = await superuser.fetch(
            "SELECT action FROM audit WHERE target_kind = 'conversation' ORDER BY id"
        )
        assert told == 2
        assert [row["action"] for row in audited] == ["conversation.tag", "conversation.untag"]

    async def test_ends_with_the_tag(self, bot: Bot, conversation) -> None:
        tag = await made(bot.owner)
        await bot.owner.call("PUT", f"/conversations/{conversation}/tags/{tag}")
        assert (await bot.owner.delete(f"/tags/{tag}")).status_code == 204

        assert (await bot.owner.get(f"/conversations/{conversation}")).json()["tags"] == []

    async def test_is_bounded(self, bot: Bot, conversation, monkeypatch) -> None:
        monkeypatch.setattr(tags, "MAX_WORN", 1)
        first, second = await made(bot.owner, "a"), await made(bot.owner, "b")
        path = f"/conversations/{conversation}/tags"
        await bot.owner.call("PUT", f"{path}/{first}")

        answer = await bot.owner.call("PUT", f"{path}/{second}")

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_tags")
        shown = (await bot.owner.get(f"/conversations/{conversation}")).json()["tags"]
        assert [tag["id"] for tag in shown] == [first]

    async def test_must_be_on_the_list(self, bot: Bot, conversation) -> None:
        answer = await bot.owner.call("PUT", f"/conversations/{conversation}/tags/{new_id()}")

        assert (answer.status_code, answer.json()["code"]) == (404, "tag_not_found")
