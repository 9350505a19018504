"""Notes: in the thread's order, for members alone, and no messages."""

import json
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.permissions import Role
from control_plane.contacts import notes
from control_plane.kit.ids import new_id
from tests.conftest import Person
from tests.control_plane.contacts.test_contacts import contact_of
from tests.control_plane.conversations.scene import Bot

_TRAFFIC = """
SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM deliveries),
    (SELECT sum(version) FROM work), (SELECT count(*) FROM message_grams)
"""


async def write(person: Person, path: str, text: str = "look", *members: Person) -> dict:
    body: dict = {"text": text}
    if members:
        body["mentions"] = [str(member.member_id) for member in members]
    answer = await person.post(f"{path}/notes", body)
    assert answer.status_code == 201, answer.text
    found: dict = answer.json()
    return found


async def texts(person: Person, path: str, **query: object) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    while True:
        answer = await person.get(f"{path}/notes", params=query)
        assert answer.status_code == 200, answer.text
        found += [item["text"] for item in answer.json()["items"]]
        if answer.json()["next"] is None:
            return found
        query["cursor"] = answer.json()["next"]


@pytest.fixture
async def conversation(bot: Bot) -> UUID:
    return await bot.hears("hello")


@pytest.fixture
def talk(conversation: UUID) -> str:
    return f"/conversations/{conversation}"


class TestInTheThread:
    async def test_stand_behind_the_message_that_was_last(self, bot: Bot, talk) -> None:
        places = [(await write(bot.owner, talk, "a"))["after_number"]]
        places.append((await write(bot.owner, talk, "b"))["after_number"])
        await bot.hears("two", "three")
        places.append((await write(bot.owner, talk, "c"))["after_number"])

        assert places == [1, 1, 3]
        for limit in (1, 50):
            assert await texts(bot.owner, talk, limit=limit) == ["a", "b", "c"]
            assert await texts(bot.owner, talk, limit=limit, order="desc") == ["c", "b", "a"]
        assert await texts(bot.owner, talk, from_number=2) == ["c"]
        assert await texts(bot.owner, talk, through_number=2) == ["a", "b"]

    async def test_are_neither_messages_nor_deliveries_nor_work(
        self, bot: Bot, talk, conversation, superuser: asyncpg.Connection
    ) -> None:
        before = await superuser.fetchrow(_TRAFFIC)
        await write(bot.owner, talk, "xylophone")

        assert await superuser.fetchrow(_TRAFFIC) == before
        shown = (await bot.owner.get(talk)).json()
        assert (shown["last_number"], shown["preview"]) == (1, "hello")
        told = await superuser.fetchval("SELECT data FROM stream WHERE type = 'note.changed'")
        assert "xylophone" not in told
        assert json.loads(told)["conversation_id"] == str(conversation)

    async def test_call_members_of_the_tenant(self, bot: Bot, talk, colleague, people) -> None:
        stranger = await people.owner("Others")
        note = await write(bot.owner, talk, "look", colleague)

        assert note["mentions"] == [str(colleague.member_id)]
        body = {"text": "x", "mentions": [str(stranger.member_id)]}
        answer = await bot.owner.post(f"{talk}/notes", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "member_not_found")
        assert await texts(bot.owner, talk) == ["look"]

    async def test_are_masked(self, bot: Bot, talk, colleague) -> None:
        note = await write(bot.owner, talk, "call 13812345678")
        await bot.owner.patch("/tenant", {"mask_numbers": True})

        assert await texts(colleague, talk) == ["call 138****5678"]
        assert (await bot.owner.get(f"/notes/{note['id']}")).json()["text"] == "call 13812345678"


class TestOfAContact:
    async def test_are_newest_first_and_apart_from_those_in_threads(
        self, bot: Bot, talk, conversation
    ) -> None:
        path = f"/contacts/{await contact_of(bot, conversation)}"
        for text in ("a", "b", "c"):
            await write(bot.owner, path, text)
        await write(bot.owner, talk, "in the thread")

        assert await texts(bot.owner, path, limit=2) == ["c", "b", "a"]
        assert await texts(bot.owner, talk) == ["in the thread"]

    async def test_are_bounded(self, bot: Bot, talk, conversation, monkeypatch) -> None:
        monkeypatch.setattr(notes, "MAX_NOTES", 1)
        await write(bot.owner, talk)
        path = f"/contacts/{await contact_of(bot, conversation)}"

        answer = await bot.owner.post(f"{path}/notes", {"text": "more"})

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_notes")

    async def test_of_nobody_are_not_found(self, bot: Bot) -> None:
        for path in (f"/contacts/{new_id()}/notes", f"/conversations/{new_id()}/notes"):
            for answer in (await bot.owner.get(path), await bot.owner.post(path, {"text": "x"})):
                assert answer.status_code == 404


class TestChange:
    async def test_is_for_the_author(self, bot: Bot, talk, colleague) -> None:
        note = await write(colleague, talk, "first")
        refused = await bot.owner.patch(f"/notes/{note['id']}", {"text": "mine"})
        changed = (await colleague.patch(f"/notes/{note['id']}", {"text": "second"})).json()

        assert (refused.status_code, refused.json()["code"]) == (403, "not_author")
        assert changed["text"] == "second"
        assert changed["edited_at"] is not None

    async def test_calls_others_and_leaves_who_stays_called(
        self, bot: Bot, talk, conversation, colleague, people, superuser: asyncpg.Connection
    ) -> None:
        third = await people.member(bot.tenant_id, Role.MEMBER)
        note = await write(bot.owner, talk, "look", colleague, bot.owner)
        seen = {"number": 1, "note_id": note["id"]}
        await colleague.call("PUT", f"/conversations/{conversation}/seen", json=seen)
        path = f"/notes/{note['id']}"
        calls = [str(colleague.member_id), str(third.member_id)]

        kept = (await bot.owner.patch(path, {"text": "look again"})).json()
        changed = (await bot.owner.patch(path, {"text": "x", "mentions": calls})).json()

        assert set(kept["mentions"]) == {str(colleague.member_id), str(bot.owner.member_id)}
        assert set(changed["mentions"]) == set(calls)
        read = await superuser.fetch("SELECT member_id, read_at FROM note_mentions")
        assert {row["member_id"] for row in read if row["read_at"]} == {colleague.member_id}

    async def test_of_a_contacts_note_calls_nobody(self, bot: Bot, conversation, colleague) -> None:
        note = await write(bot.owner, f"/contacts/{await contact_of(bot, conversation)}")
        body = {"text": "x", "mentions": [str(colleague.member_id)]}

        answer = await bot.owner.patch(f"/notes/{note['id']}", body)

        assert (answer.status_code, answer.json()["code"]) == (422, "mentions_nobody_sees")


class TestRemove:
    async def test_is_for_the_author_and_for_who_may_erase(
        self, bot: Bot, talk, colleague, people
    ) -> None:
        other = await people.member(bot.tenant_id, Role.MEMBER)
        first, second = [await write(colleague, talk) for _ in range(2)]
        refused = await other.delete(f"/notes/{first['id']}")
        gone = [
            await colleague.delete(f"/notes/{first['id']}"),
            await bot.owner.delete(f"/notes/{second['id']}"),
        ]

        assert (refused.status_code, refused.json()["code"]) == (403, "not_author")
        assert [answer.status_code for answer in gone] == [204, 204]
        assert await texts(bot.owner, talk) == []

    async def test_is_audited_without_the_words(self, bot: Bot, talk) -> None:
        note = await write(bot.owner, talk, "xylophone")
        await bot.owner.delete(f"/notes/{note['id']}")

        audit = await bot.owner.get("/audit")
        assert audit.json()["items"][0]["action"] == "note.delete"
        assert "xylophone" not in audit.text
