"""/canned-replies: everybody's and one's own."""

import asyncpg
import pytest

from control_plane.access.permissions import Permission
from control_plane.contacts import canned
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot

HOURS = {"code": "hours", "title": "Opening hours", "text": "{contact}, we open at nine. {member}"}


async def made(person: Person, path: str = "", **more: str) -> str:
    answer = await person.post(f"/canned-replies{path}", HOURS | more)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


async def codes(person: Person, **query: object) -> list[str]:
    answer = await person.get("/canned-replies", params=query)
    assert answer.status_code == 200, answer.text
    return [item["code"] for item in answer.json()["items"]]


class TestList:
    async def test_has_everybodys_and_ones_own(self, bot: Bot, colleague) -> None:
        await made(bot.owner)
        await made(bot.owner, "/own", code="mine")
        await made(colleague, "/own", code="theirs")

        assert await codes(bot.owner) == ["hours", "mine"]
        assert await codes(colleague) == ["hours", "theirs"]

    @pytest.mark.parametrize("text", ["HOUR", "opening  hours", "营业", "ＮＩＮＥ", "{contact}"])
    async def test_is_searched_by_code_title_and_text(self, bot: Bot, text: str) -> None:
        await made(bot.owner, title="Opening hours 营业时间")
        await made(bot.owner, code="bye", title="Bye", text="Bye")

        assert await codes(bot.owner, text=text) == ["hours"]
        assert await codes(bot.owner, text="%") == []

    async def test_of_a_key_is_everybodys(self, bot: Bot) -> None:
        await made(bot.owner)
        await made(bot.owner, "/own", code="mine")
        body = {"name": "k", "scopes": [Permission.CONVERSATIONS_READ]}
        key = (await bot.owner.post("/api-keys", body)).json()["key"]

        assert await codes(bot.owner) == ["hours", "mine"]
        answer = await bot.owner.get("/canned-replies", headers={"authorization": f"Bearer {key}"})
        assert [item["code"] for item in answer.json()["items"]] == ["hours"]


class TestChange:
    async def test_of_everybodys_is_for_admins(self, bot: Bot, colleague) -> None:
        reply = await made(bot.owner)
        for answer in (
            await colleague.post("/canned-replies", HOURS | {"code": "x"}),
            await colleague.patch(f"/canned-replies/{reply}", {"title": "x"}),
            await colleague.delete(f"/canned-replies/{reply}"),
        ):
            assert answer.status_code == 403
        changed = await bot.owner.patch(f"/canned-replies/{reply}", {"title": "Hours"})
        assert (changed.json()["title"], changed.json()["code"]) == ("Hours", "hours")
        assert (await bot.owner.delete(f"/canned-replies/{reply}")).status_code == 204
        assert await codes(bot.owner) == []

    async def test_of_ones_own_is_for_nobody_else(self, bot: Bot, colleague) -> None:
        reply = await made(colleague, "/own")
        shared = await made(bot.owner)
        for answer in (
            await bot.owner.patch(f"/canned-replies/own/{reply}", {"title": "x"}),
            await bot.owner.patch(f"/canned-replies/{reply}", {"title": "x"}),
            await bot.owner.delete(f"/canned-replies/own/{reply}"),
            await bot.owner.post(f"/canned-replies/{reply}/use"),
            await bot.owner.patch(f"/canned-replies/own/{shared}", {"title": "x"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "canned_reply_not_found")
        changed = await colleague.patch(f"/canned-replies/own/{reply}", {"code": "open"})
        assert changed.json()["code"] == "open"
        assert (await colleague.delete(f"/canned-replies/own/{reply}")).status_code == 204

    async def test_keeps_codes_apart(self, bot: Bot) -> None:
        await made(bot.owner)
        own = await made(bot.owner, "/own")
        await made(bot.owner, "/own", code="bye")
        answers = [
            await bot.owner.post("/canned-replies", HOURS),
            await bot.owner.post("/canned-replies/own", HOURS),
            await bot.owner.patch(f"/canned-replies/own/{own}", {"code": "bye"}),
        ]

        found = [(answer.status_code, answer.json()["code"]) for answer in answers]
        assert found == [(409, "code_taken")] * 3

    async def test_is_bounded(self, bot: Bot, monkeypatch) -> None:
        monkeypatch.setattr(canned, "MAX_SHARED", 1)
        await made(bot.owner)

        answer = await bot.owner.post("/canned-replies", HOURS | {"code": "x"})

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_canned_replies")


class TestUse:
    async def test_is_counted_once_for_a_repeated_request(self, bot: Bot, colleague) -> None:
        reply = await made(bot.owner)
        key = {"idempotency-key": "use-1"}
        for headers in (key, key, {}):
            path = f"/canned-replies/{reply}/use"
            assert (await colleague.post(path, headers=headers)).status_code == 204

        [item] = (await bot.owner.get("/canned-replies")).json()["items"]
        assert item["uses"] == 2
        assert item["used_at"] is not None

    async def test_ends_with_the_member(
        self, bot: Bot, colleague, superuser: asyncpg.Connection
    ) -> None:
        await made(colleague, "/own")
        await bot.owner.delete(f"/members/{colleague.member_id}")

        assert await superuser.fetchval("SELECT count(*) FROM canned_replies") == 0
