"""Erasing a contact: no word of theirs stays, the numbers do, and it can be broken off."""

import hashlib
import json
from uuid import UUID

import asyncpg
import pytest

from control_plane.access import trail
from control_plane.access.permissions import Role
from control_plane.kit.ids import new_id
from control_plane.privacy import erase as erasing
from control_plane.webchat import store
from control_plane.webchat.store import Place
from tests.control_plane.conversations.scene import Bot

WORD = "xylophone"
NAME = "Zebedee"


async def contact_of(bot: Bot, conversation_id: UUID) -> str:
    return (await bot.owner.get(f"/conversations/{conversation_id}")).json()["contact"]["id"]


async def everything(superuser: asyncpg.Connection) -> str:
    """The whole database as text, but for what says who may sign in."""
    tables = await superuser.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    rows = [
        row[0]
        for (table,) in tables
        for row in await superuser.fetch(f"SELECT t::text FROM {table} AS t")  # noqa: S608
    ]
    return "\n".join(rows)


@pytest.fixture
async def told(bot: Bot) -> UUID:
    """A conversation in which a name and a word occur on both sides."""
    conversation = await bot.hears(f"my {WORD} one", f"my {WORD} two", key=NAME)
    await bot.says(conversation, f"your {WORD}")
    note = {"member_id": str(bot.owner.member_id), "note": f"Their {WORD}"}
    handed = await bot.owner.post(f"/conversations/{conversation}/transfer", note)
    assert handed.status_code == 200
    return conversation


class TestErase:
    async def test_no_word_and_no_name_stays_and_the_numbers_do(
        self, bot, told, superuser: asyncpg.Connection, monkeypatch
    ) -> None:
        monkeypatch.setattr(erasing, "BATCH", 2)
        before = await everything(superuser)
        assert WORD in before
        assert NAME in before
        numbers = [(item["id"], item["number"]) for item in await bot.thread(told)]

        answer = await bot.owner.post(f"/contacts/{await contact_of(bot, told)}/erase")

        assert answer.status_code == 200
        after = await everything(superuser)
        assert WORD not in after
        assert NAME not in after
        thread = await bot.thread(told)
        assert [(item["id"], item["number"]) for item in thread] == numbers
        assert {item["segments"][0]["text"] for item in thread} == {"[erased]"}

    async def test_what_members_wrote_about_them_goes(
        self, bot, told, superuser: asyncpg.Connection
    ) -> None:
        contact_id = await contact_of(bot, told)
        tag = (await bot.owner.post("/tags", {"name": "VIP"})).json()["id"]
        mentions = [str(bot.owner.member_id)]
        card = {"remark": f"the {WORD}", "fields": {"likes": WORD}}
        await bot.owner.patch(f"/contacts/{contact_id}", card)
        for path in (f"/conversations/{told}", f"/contacts/{contact_id}"):
            await bot.owner.call("PUT", f"{path}/tags/{tag}")
        await bot.owner.post(f"/contacts/{contact_id}/notes", {"text": WORD})
        note = {"text": WORD, "mentions": mentions}
        made = await bot.owner.post(f"/conversations/{told}/notes", note)
        await bot.owner.patch(f"/notes/{made.json()['id']}", {"text": f"more {WORD}"})

        proof = (await bot.owner.post(f"/contacts/{contact_id}/erase")).json()

        assert proof["notes"] == 2
        assert WORD not in await everything(superuser)
        for path in (f"/conversations/{told}", f"/contacts/{contact_id}"):
            assert (await bot.owner.get(path)).json()["tags"] == []
        assert (await bot.owner.get("/conversations?view=mentions")).json()["items"] == []

    async def test_the_proof_is_in_the_answer_and_in_the_audit(self, bot, told, database) -> None:
        contact_id = await contact_of(bot, told)
        ids = [UUID(item["id"]) for item in await bot.thread(told)]

        proof = (await bot.owner.post(f"/contacts/{contact_id}/erase")).json()

        assert proof == {
            "contact_id": contact_id,
            "conversations": 1,
            "messages": 3,
            "visitor_messages": 0,
            "media": 0,
            "blacklisted": 0,
            "notes": 0,
            "sha256": hashlib.sha256(b"".join(each.bytes for each in ids)).hexdigest(),
        }
        entry = (await bot.owner.get("/audit")).json()["items"][0]
        assert (entry["action"], entry["target_id"]) == ("contact.erase", contact_id)
        assert entry["after"] == {k: v for k, v in proof.items() if k != "contact_id"}
        assert [v.broken async for v in trail.verify(database)] == [None]

    async def test_what_was_queued_is_never_sent(self, bot, told) -> None:
        await bot.owner.post(f"/contacts/{await contact_of(bot, told)}/erase")

        assert await bot.deliveries(told) == ["withheld"]
        conversation = (await bot.owner.get(f"/conversations/{told}")).json()
        assert conversation["owner"] == "closed"

    async def test_who_writes_again_is_somebody_new(self, bot, told) -> None:
        contact_id = await contact_of(bot, told)
        await bot.owner.post(f"/contacts/{contact_id}/erase")

        again = await bot.hears("hello", key=NAME)

        assert again != told
        assert await contact_of(bot, again) != contact_id

    async def test_others_keep_what_they_said(self, bot, told) -> None:
        other = await bot.hears("mine", key="wang")
        await bot.owner.post(f"/contacts/{await contact_of(bot, told)}/erase")

        assert await bot.texts(other) == [("contact", "mine")]

    async def test_the_web_chats_own_copy_goes_too(
        self, bot, superuser: asyncpg.Connection, clock
    ) -> None:
        place = Place(
            tenant_id=bot.tenant_id, instance_id=bot.instance_id, channel_id=bot.channel_id
        )
        async with bot.session() as session:
            visitor = await store.ensure_visitor(session, place, "secret", now=clock.now())
            for number in range(3):
                await store.add(
                    session,
                    place,
                    visitor,
                    key=f"in:{number}",
                    sender=("visitor", NAME),
                    segments=json.dumps([{"type": "text", "text": WORD}]),
                    now=clock.now(),
                )
        conversation = await bot.hears(WORD, key=str(visitor))

        answer = await bot.owner.post(f"/contacts/{await contact_of(bot, conversation)}/erase")

        assert answer.json()["visitor_messages"] == 3
        assert await superuser.fetchval("SELECT count(*) FROM webchat_visitors") == 0
        assert WORD not in await everything(superuser)

    async def test_broken_off_anywhere_and_repeated_it_ends_the_same(
        self, bot, told, superuser: asyncpg.Connection, monkeypatch
    ) -> None:
        contact_id = await contact_of(bot, told)

        async def killed(*_given) -> None:
            raise ConnectionResetError

        for step in ("_cut_off", "_stream_words"):
            with monkeypatch.context() as patch:
                patch.setattr(erasing, step, killed)
                answer = await bot.owner.post(f"/contacts/{contact_id}/erase")
            assert answer.status_code == 503
        first = (await bot.owner.post(f"/contacts/{contact_id}/erase")).json()
        second = (await bot.owner.post(f"/contacts/{contact_id}/erase")).json()

        assert first == second
        assert first["messages"] == 3
        assert WORD not in await everything(superuser)
        assert NAME not in await everything(superuser)

    async def test_what_is_foreign_or_missing_is_not_there(self, bot, told, people) -> None:
        contact_id = await contact_of(bot, told)
        other = await people.owner()

        for person, target in ((other, contact_id), (bot.owner, new_id())):
            assert (await person.post(f"/contacts/{target}/erase")).status_code == 404
        assert (await bot.texts(told))[0] == ("contact", f"my {WORD} one")

    async def test_needs_the_permission(self, bot, told, people) -> None:
        contact_id = await contact_of(bot, told)
        answers = {
            role: await (await people.member(bot.tenant_id, role)).post(
                f"/contacts/{contact_id}/erase"
            )
            for role in (Role.MEMBER, Role.VIEWER, Role.ADMIN)
        }

        assert [answer.status_code for answer in answers.values()] == [403, 403, 200]
