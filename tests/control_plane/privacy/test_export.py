"""Exports: whole, without secrets, one's own only, and made while they are sent."""

import io
import json
import zipfile

import pytest

from control_plane.access.permissions import Role
from control_plane.kit.ids import new_id
from control_plane.privacy import export
from control_plane.privacy.archive import Files, zipped
from tests.control_plane.conversations.scene import Bot, make_bot

MODEL_KEY = "sk-key-of-the-models"
SECRET = "a-secret-that-nobody-is-to-see-1234567"


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner(), secret=SECRET)


async def no_files() -> Files:
    for none in ():
        yield none


def read(content: bytes) -> dict:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


async def contact_of(bot: Bot, conversation_id) -> str:
    answer = await bot.owner.get(f"/conversations/{conversation_id}")
    return answer.json()["contact"]["id"]


async def handed_on(bot: Bot, conversation_id, note: str) -> None:
    """The owner takes it over, with a note."""
    body = {"member_id": str(bot.owner.member_id), "note": note}
    answer = await bot.owner.post(f"/conversations/{conversation_id}/transfer", body)
    assert answer.status_code == 200, answer.text


class TestTenant:
    async def test_has_everything_but_secrets(self, bot, monkeypatch) -> None:
        monkeypatch.setattr(export, "BATCH", 2)
        first = await bot.hears("one", "two", "three")
        await bot.hears("four", key="wang")
        await bot.says(first, "five")
        await bot.owner.call(
            "PUT", "/answers", json={"items": [{"question": "When?", "answer": "At nine."}]}
        )
        hook = {"url": "https://hooks.example.com", "events": ["message.received"]}
        hook_secret = (await bot.owner.post("/webhooks", hook)).json()["secret"]
        account = {"name": "Models", "kind": "openai", "base_url": "https://models.example.com/v1"}
        made = await bot.owner.post("/providers", account | {"api_key": MODEL_KEY})
        assert made.status_code == 201
        await bot.owner.call("PUT", "/routing/settings", json={"capacity": 3})
        await bot.owner.call("PUT", "/routing/me", json={"state": "busy"})
        await handed_on(bot, first, "Likes oolong")

        await bot.owner.post("/tags", {"name": "VIP"})
        await bot.owner.post("/canned-replies", {"code": "a", "title": "A", "text": "A"})
        await bot.owner.post(f"/conversations/{first}/notes", {"text": "mind"})

        answer = await bot.owner.get("/export")
        files = read(answer.content)

        assert answer.headers["content-type"] == "application/zip"
        assert {name: len(rows) for name, rows in files.items()} == {
            "tenant.json": 1,
            "members.json": 1,
            "instances.json": 1,
            "channels.json": 1,
            "revisions.json": 0,
            "answers.json": 1,
            "webhooks.json": 1,
            "providers.json": 1,
            "blacklist.json": 0,
            "tags.json": 1,
            "canned_replies.json": 1,
            "routing_settings.json": 1,
            "routing_members.json": 1,
            "transfers.json": 1,
            "ratings.json": 0,
            "assists.json": 0,
            "raw_messages.json": 0,
            "contacts.json": 2,
            "notes.json": 1,
            "conversations.json": 2,
            "messages.json": 5,
            "media.json": 0,
            "audit.json": 12,
        }
        texts = [row["segments"][0]["text"] for row in files["messages.json"]]
        assert texts == ["one", "two", "three", "five", "four"]
        assert files["members.json"][0]["email"] == bot.owner.email
        everything = json.dumps(files)
        assert SECRET not in everything
        assert hook_secret not in everything
        assert MODEL_KEY not in everything
        assert files["providers.json"][0].items() >= account.items()
        assert bot.token not in everything

    async def test_is_the_owners_and_written_down(self, bot, people) -> None:
        for role in (Role.ADMIN, Role.MEMBER, Role.VIEWER):
            person = await people.member(bot.tenant_id, role)
            assert (await person.get("/export")).status_code == 403

        await bot.owner.get("/export")

        newest = (await bot.owner.get("/audit")).json()["items"][0]
        assert (newest["action"], newest["actor_id"]) == (
            "tenant.export",
            str(bot.owner.identity_id),
        )

    async def test_has_nothing_of_another_tenant(self, bot, people) -> None:
        await bot.hears("mine")
        other = await people.owner("Noodle Bar")

        files = read((await other.get("/export")).content)

        assert {name for name, rows in files.items() if rows} == {
            "tenant.json",
            "members.json",
            "audit.json",
        }
        assert str(bot.tenant_id) not in json.dumps(files)


class TestContact:
    async def test_has_what_members_wrote_about_them(self, bot) -> None:
        theirs, others = await bot.hears("one"), await bot.hears("two", key="wang")
        contact_id = await contact_of(bot, theirs)
        tag = (await bot.owner.post("/tags", {"name": "VIP"})).json()["id"]
        for path in (f"/conversations/{theirs}", f"/contacts/{contact_id}"):
            await bot.owner.call("PUT", f"{path}/tags/{tag}")
            await bot.owner.post(f"{path}/notes", {"text": path})
        await bot.owner.post(f"/conversations/{others}/notes", {"text": "of another"})
        await bot.owner.patch(f"/contacts/{contact_id}", {"remark": "Li", "fields": {"a": "b"}})

        files = read((await bot.owner.get(f"/contacts/{contact_id}/export")).content)

        [contact] = files["contact.json"]
        assert contact.items() >= {"remark": "Li", "fields": {"a": "b"}, "tags": ["VIP"]}.items()
        assert [row["tags"] for row in files["conversations.json"]] == [["VIP"]]
        assert [row["text"] for row in files["notes.json"]] == [
            f"/conversations/{theirs}",
            f"/contacts/{contact_id}",
        ]

    async def test_has_what_was_said_with_them_only(self, bot) -> None:
        theirs = await bot.hears("one", "two")
        await bot.says(theirs, "three")
        await handed_on(bot, await bot.hears("of another", key="wang"), "Likes tea")
        await handed_on(bot, theirs, "Likes oolong")
        contact_id = await contact_of(bot, theirs)

        answer = await bot.owner.get(f"/contacts/{contact_id}/export")
        files = read(answer.content)

        assert [row["id"] for row in files["contact.json"]] == [contact_id]
        assert [row["id"] for row in files["conversations.json"]] == [str(theirs)]
        assert [row["note"] for row in files["transfers.json"]] == ["Likes oolong"]
        texts = [row["segments"][0]["text"] for row in files["messages.json"]]
        assert texts == ["one", "two", "three"]

    async def test_of_a_group_has_their_own_words_only(self, bot, superuser) -> None:
        theirs = await bot.hears("hello")
        contact_id = await contact_of(bot, theirs)
        group = await bot.hears("of a group", key="group")
        await superuser.execute("UPDATE conversations SET key_type = 'group' WHERE id = $1", group)
        [said] = await bot.says(group, "by somebody else")
        await superuser.execute(
            "UPDATE messages SET sender_id = $1 WHERE conversation_id = $2 AND id <> $3",
            contact_id,
            group,
            said,
        )

        files = read((await bot.owner.get(f"/contacts/{contact_id}/export")).content)

        assert {row["id"] for row in files["conversations.json"]} == {str(theirs), str(group)}
        texts = {row["segments"][0]["text"] for row in files["messages.json"]}
        assert texts == {"hello", "of a group"}

    async def test_that_is_foreign_or_missing_is_not_there(self, bot, people) -> None:
        contact_id = await contact_of(bot, await bot.hears("one"))
        other = await people.owner()

        for person, target in ((other, contact_id), (bot.owner, new_id())):
            assert (await person.get(f"/contacts/{target}/export")).status_code == 404

    @pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
    async def test_needs_the_permission(self, bot, people, role: Role) -> None:
        person = await people.member(bot.tenant_id, role)

        assert (await person.get(f"/contacts/{new_id()}/export")).status_code == 403


class TestZipped:
    async def test_gives_what_it_has_before_the_rows_end(self) -> None:
        asked = []

        async def rows():
            for number in range(50):
                asked.append(number)
                # Too varied to be compressed: each batch has to come out.
                yield [json.dumps("".join(str(new_id()) for _ in range(2000)))]

        sizes, seen = [], []
        async for piece in zipped({"rows.json": rows()}, no_files()):
            sizes.append(len(piece))
            seen.append(len(asked))

        assert seen[0] < 5
        assert max(sizes) < sum(sizes) / 10

    async def test_an_entry_without_rows_is_an_empty_list(self) -> None:
        async def nothing():
            return
            yield []

        content = b"".join([piece async for piece in zipped({"rows.json": nothing()}, no_files())])

        assert read(content) == {"rows.json": []}
