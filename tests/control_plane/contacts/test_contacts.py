"""/contacts: found, looked at, written about; and what the audit does not say."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.permissions import Role
from control_plane.contacts import service
from control_plane.contacts.schemas import MAX_FIELDS
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, make_bot, until_blocked

PHONE = "13812345678"


async def contact_of(bot: Bot, conversation: UUID) -> str:
    found: str = (await bot.owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]
    return found


async def names(person: Person, **query: object) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    while True:
        answer = await person.get("/contacts", params=query)
        assert answer.status_code == 200, answer.text
        found += [item["name"] for item in answer.json()["items"]]
        if answer.json()["next"] is None:
            return found
        query["cursor"] = answer.json()["next"]


@pytest.fixture
async def contact(bot: Bot) -> str:
    return await contact_of(bot, await bot.hears("hello", key="lin"))


class TestList:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("wang", ["Wang", "Wangwei"]),
            ("ＷＡＮＧ", ["Wang", "Wangwei"]),
            ("wei", ["Wangwei"]),
            ("老客户", ["Lin"]),
            ("nobody", []),
        ],
    )
    async def test_is_searched_by_name_and_remark(
        self, bot: Bot, contact, monkeypatch, text: str, found: list[str]
    ) -> None:
        await bot.owner.patch(f"/contacts/{contact}", {"remark": "老客户 from Suzhou"})
        for key in ("wangwei", "wang", "mei"):
            await bot.hears("hello", key=key)

        assert await names(bot.owner, text=text) == found
        # However few are looked through at a time.
        monkeypatch.setattr(service, "LOOKED_THROUGH", 1)
        assert await names(bot.owner, text=text) == found

    async def test_is_paged_newest_first(self, bot: Bot) -> None:
        for key in ("a", "b", "c"):
            await bot.hears("hello", key=key)

        assert await names(bot.owner, limit=2) == ["C", "B", "A"]
        assert await names(bot.owner, limit=1, text="b") == ["B"]

    async def test_takes_a_channel_and_a_tag(self, bot: Bot, contact) -> None:
        other = await make_bot(bot.parts, bot.owner)
        await other.hears("hello", key="mei")
        tag = (await bot.owner.post("/tags", {"name": "VIP"})).json()["id"]
        await bot.owner.call("PUT", f"/contacts/{contact}/tags/{tag}")

        assert await names(bot.owner, channel_id=other.channel_id) == ["Mei"]
        assert await names(bot.owner, tag_id=tag) == ["Lin"]
        assert await names(bot.owner, tag_id=tag, text="mei") == []

    async def test_tells_who_is_blocked_from_who_is_not(self, bot: Bot, contact) -> None:
        await bot.hears("hello", key="mei")
        await bot.owner.post("/blacklist", {"contact_id": contact})

        assert await names(bot.owner, blocked=True) == ["Lin"]
        assert await names(bot.owner, blocked=False) == ["Mei"]
        assert await names(bot.owner, blocked=True, text="mei") == []
        assert await names(bot.owner) == ["Mei", "Lin"]

    async def test_finds_no_number_digit_by_digit(self, bot: Bot, contact, colleague) -> None:
        await bot.owner.patch(f"/contacts/{contact}", {"remark": f"call {PHONE}"})
        await bot.owner.patch("/tenant", {"mask_numbers": True})

        assert await names(bot.owner, text="1234") == ["Lin"]
        assert await names(colleague, text="1234") == []
        assert await names(colleague, text="5678") == ["Lin"]


class TestOne:
    async def test_has_its_history(self, bot: Bot, contact) -> None:
        await bot.owner.post("/blacklist", {"contact_id": contact})

        shown = (await bot.owner.get(f"/contacts/{contact}")).json()

        assert (shown["name"], shown["platform_id"], shown["blocked"]) == ("Lin", "lin", True)
        assert (shown["channel_kind"], shown["channel_name"]) == ("webchat", "Site")
        assert [talk["preview"] for talk in shown["conversations"]] == ["hello"]
        assert (shown["remark"], shown["fields"], shown["tags"]) == (None, {}, [])

    async def test_is_called_by_its_remark_wherever_it_stands(self, bot: Bot, contact) -> None:
        await bot.owner.patch(f"/contacts/{contact}", {"remark": "Old Lin"})
        lists = [
            (await bot.owner.get(path)).json()["items"][0]
            for path in ("/conversations", "/messages/search?text=hello", "/contacts")
        ]

        assert [item.get("contact", item)["remark"] for item in lists] == ["Old Lin"] * 3

    async def test_is_masked(self, bot: Bot, contact, colleague) -> None:
        body = {"remark": PHONE, "fields": {"id": PHONE}}
        await bot.owner.patch(f"/contacts/{contact}", body)
        await bot.owner.patch("/tenant", {"mask_numbers": True})

        shown = await colleague.get(f"/contacts/{contact}")

        assert PHONE not in shown.text
        assert shown.json()["fields"] == {"id": "138****5678"}
        assert (await bot.owner.get(f"/contacts/{contact}")).json()["remark"] == PHONE


class TestChange:
    async def test_leaves_what_is_left_out(self, bot: Bot, contact) -> None:
        path = f"/contacts/{contact}"
        for body in (
            {"remark": "Old Lin"},
            {"fields": {"city": "Suzhou", "level": "3"}},
            {"fields": {"city": None, "since": "2020"}},
            {},
        ):
            answer = await bot.owner.patch(path, body)
            assert answer.status_code == 200, answer.text
        shown = (await bot.owner.get(path)).json()

        assert (shown["remark"], shown["fields"]) == ("Old Lin", {"level": "3", "since": "2020"})
        shown = (await bot.owner.patch(path, {"remark": None})).json()
        assert (shown["remark"], len(shown["fields"])) == (None, 2)

    async def test_of_too_many_fields_changes_nothing(self, bot: Bot, contact) -> None:
        path = f"/contacts/{contact}"
        full = {f"f{n}": "x" for n in range(MAX_FIELDS)}
        assert (await bot.owner.patch(path, {"fields": full})).status_code == 200

        answer = await bot.owner.patch(path, {"fields": {"one": "more"}})

        assert (answer.status_code, answer.json()["code"]) == (422, "too_many_fields")
        assert len((await bot.owner.get(path)).json()["fields"]) == MAX_FIELDS

    async def test_is_audited_without_what_was_written(
        self, bot: Bot, contact, superuser: asyncpg.Connection
    ) -> None:
        await bot.owner.patch(f"/contacts/{contact}", {"remark": "xylophone"})
        entry = (await bot.owner.get("/audit")).json()["items"][0]

        assert (entry["action"], entry["after"]) == ("contact.change", {"changed": ["remark"]})
        told = await superuser.fetch("SELECT data FROM stream WHERE type = 'contact.changed'")
        assert len(told) == 1
        assert "xylophone" not in told[0]["data"]

    async def test_is_not_for_viewers(self, bot: Bot, contact, people) -> None:
        viewer = await people.member(bot.tenant_id, Role.VIEWER)

        assert (await viewer.patch(f"/contacts/{contact}", {"remark": "x"})).status_code == 403

    async def test_of_somebody_erased_is_refused(self, bot: Bot, contact) -> None:
        await bot.owner.post(f"/contacts/{contact}/erase")
        tag = (await bot.owner.post("/tags", {"name": "VIP"})).json()["id"]
        for answer in (
            await bot.owner.patch(f"/contacts/{contact}", {"remark": "x"}),
            await bot.owner.post(f"/contacts/{contact}/notes", {"text": "x"}),
            await bot.owner.call("PUT", f"/contacts/{contact}/tags/{tag}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "contact_erased")


class TestErasedMeanwhile:
    async def test_nothing_is_written_about_them_behind_it(
        self, bot: Bot, contact, ground, database_name: str, superuser: asyncpg.Connection
    ) -> None:
        async with ground.connection(None, database_name) as eraser:
            erasing = eraser.transaction()
            await erasing.start()
            await eraser.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", UUID(contact))
            attempts = [
                asyncio.create_task(bot.owner.patch(f"/contacts/{contact}", {"remark": "x"})),
                asyncio.create_task(bot.owner.post(f"/contacts/{contact}/notes", {"text": "x"})),
            ]
            await until_blocked(superuser, len(attempts))
            await eraser.execute(
                "UPDATE contacts SET platform_id = 'erased:' || id WHERE id = $1", UUID(contact)
            )
            await erasing.commit()
            answers = await asyncio.gather(*attempts)

        assert [answer.json()["code"] for answer in answers] == ["contact_erased"] * 2
        for table in ("contact_cards", "notes"):
            assert await superuser.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608

    async def test_what_they_write_waits_for_no_note(
        self, bot: Bot, contact, ground, database_name: str
    ) -> None:
        async with ground.connection(None, database_name) as writer:
            writing = writer.transaction()
            await writing.start()
            await writer.execute(service._STANDING, UUID(contact))

            await bot.hears("again")

            await writing.rollback()
