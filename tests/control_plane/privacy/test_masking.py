"""Numbers in what people said, for who may see them and for who may not."""

import io
import json
import zipfile
from typing import Any

import pytest

from control_plane.access import view
from control_plane.access.permissions import Permission, Role
from control_plane.kit.ids import new_id
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot

PHONE, ID_CARD, CARD = "13812345678", "11010519491231002X", "4539578763621486"
NUMBERS = (PHONE, ID_CARD, CARD)
SAID = f"call {PHONE}, id {ID_CARD}, card {CARD}"
SEEN = "call 138****5678, id 110***********002X, card ************1486"


async def wish(bot: Bot, mask: bool = True) -> None:
    answer = await bot.owner.patch("/tenant", {"mask_numbers": mask})
    assert answer.status_code == 200, answer.text
    assert answer.json()["mask_numbers"] is mask


async def views(person: Person, conversation_id: Any) -> str:
    """Everything that the person is shown of it."""
    path = f"/conversations/{conversation_id}"
    answers = [await person.get(p) for p in ("/conversations", path, f"{path}/messages")]
    assert {answer.status_code for answer in answers} == {200}
    return "\n".join(answer.text for answer in answers)


class TestViews:
    @pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
    async def test_are_masked_for_who_lacks_the_permission(
        self, bot: Bot, people, role: Role
    ) -> None:
        # The platform's id of the contact is their phone number, and so is their name.
        conversation = await bot.hears(SAID, key=PHONE)
        person = await people.member(bot.tenant_id, role)
        assert SAID in await views(person, conversation)

        await wish(bot)

        shown = await views(person, conversation)
        assert [number for number in NUMBERS if number in shown] == []
        assert shown.count(SEEN) == 3
        assert '"name":"138****5678"' in shown
        assert str(conversation) in shown

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.OWNER])
    async def test_are_whole_for_who_has_it(self, bot: Bot, people, role: Role) -> None:
        conversation = await bot.hears(SAID)
        await wish(bot)
        person = await people.member(bot.tenant_id, role)

        assert SAID in await views(person, conversation)

    async def test_are_masked_for_a_key_and_for_a_supporter(self, bot: Bot, people) -> None:
        conversation = await bot.hears(SAID)
        await wish(bot)
        operator = await people.operator()
        await operator.post(f"/tenants/{bot.tenant_id}/support", {"reason": "bug", "minutes": 5})
        for scopes, masked in (
            ([Permission.CONVERSATIONS_READ], True),
            ([Permission.CONVERSATIONS_READ, Permission.PRIVACY_READ], False),
        ):
            body = {"name": "k", "scopes": scopes}
            key = (await bot.owner.post("/api-keys", body)).json()["key"]
            headers = {"authorization": f"Bearer {key}"}
            shown = await bot.owner.get(f"/conversations/{conversation}", headers=headers)
            assert (PHONE not in shown.text) is masked
        lent = {"x-botyard-tenant": str(bot.tenant_id)}
        shown = await operator.get(f"/conversations/{conversation}", headers=lent)
        assert SEEN in shown.text

    async def test_of_one_reader_are_not_anothers(self, bot: Bot, people) -> None:
        conversation = await bot.hears(SAID)
        await wish(bot)
        member = await people.member(bot.tenant_id, Role.MEMBER)

        for person, words in [(member, SEEN), (bot.owner, SAID)] * 2:
            assert words in await views(person, conversation)

    async def test_do_not_change_what_is_kept(self, bot: Bot, people) -> None:
        conversation = await bot.hears(SAID)
        await wish(bot)
        member = await people.member(bot.tenant_id, Role.MEMBER)
        await member.post(f"/conversations/{conversation}/take-over")
        body = {"segments": [{"type": "text", "text": f"you said {PHONE}"}]}

        sent = await member.post(f"/conversations/{conversation}/messages", body)

        assert PHONE not in sent.text
        texts = [text for _, text in await bot.texts(conversation)]
        assert texts == [SAID, f"you said {PHONE}"]

    async def test_hide_a_number_that_a_list_has_cut(self, bot: Bot, people) -> None:
        await bot.hears("x" * 71 + " " + PHONE)
        await wish(bot)
        member = await people.member(bot.tenant_id, Role.MEMBER)

        [item] = (await member.get("/conversations")).json()["items"]

        assert item["preview"] == "x" * 71 + " ****"


class TestExport:
    async def test_is_masked_for_who_may_export_and_not_see(self, bot: Bot, people, client) -> None:
        await bot.hears(SAID, key=PHONE)
        await wish(bot)
        role = await bot.owner.post(
            "/roles", {"name": "Archivist", "permissions": ["export.read", "members.read"]}
        )
        member = await people.member(bot.tenant_id, Role.MEMBER)
        for person, masked in ((member, True), (bot.owner, False)):
            if masked:
                path = f"/members/{member.member_id}"
                assert (await bot.owner.patch(path, {"role": role.json()["id"]})).is_success
            answer = await person.get("/export")
            archive = zipfile.ZipFile(io.BytesIO(answer.content))
            files = {name: archive.read(name).decode() for name in archive.namelist()}
            said = files["messages.json"] + files["contacts.json"]
            assert (not any(number in said for number in NUMBERS)) is masked
            assert json.loads(files["tenant.json"])[0]["id"] == str(bot.tenant_id)


class TestSetting:
    async def test_is_an_owners_or_admins_and_audited_once(
        self, bot: Bot, people, superuser
    ) -> None:
        member = await people.member(bot.tenant_id, Role.MEMBER)
        refused = await member.patch("/tenant", {"mask_numbers": False})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        await wish(bot)
        await wish(bot)

        rows = await superuser.fetch(
            "SELECT before->>'mask_numbers', after->>'mask_numbers', actor_id FROM audit"
            " WHERE action = 'tenant.change_settings'"
        )
        assert [tuple(row) for row in rows] == [("false", "true", bot.owner.identity_id)]

    async def test_of_another_tenant_is_another(self, bot: Bot, people) -> None:
        other = await people.owner()
        await wish(bot)

        answer = await other.get(f"/tenants/{other.tenant_id}")

        assert answer.json()["mask_numbers"] is False


class TestShown:
    def test_ids_stay_even_where_they_look_like_numbers(self) -> None:
        looks_like_one = "01981234-4539-4578-8636-138123456789"
        given = {
            "id": PHONE,
            "contact_id": looks_like_one,
            "ref": {"via": "media", "id": CARD},
            "anything": looks_like_one,
            "quoted": [{"type": "text", "text": PHONE}],
            "n": 7,
            "ok": True,
            "none": None,
        }

        seen = view.shown(given, masked=True)

        assert seen == given | {"quoted": [{"type": "text", "text": "138****5678"}]}
        assert view.shown(given, masked=False) is given

    @pytest.mark.parametrize("line", ["call 1381234", "id 110105 1949", "+86 138-12"])
    def test_the_beginning_of_a_number_is_hidden_only_where_a_line_was_cut(self, line: str) -> None:
        assert view.shown_line(line, masked=True, cut_at=len(line)).endswith("****")
        assert view.shown_line(line, masked=True, cut_at=len(line) + 1) == line
        assert view.shown_line(line, masked=False, cut_at=1) == line

    def test_a_new_id_is_an_id(self) -> None:
        assert view.shown(str(new_id()), masked=True).count("*") == 0
