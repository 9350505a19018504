"""The inbox over REST: views and their counts, what was seen, who waits, and late answers."""

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.permissions import Permission, Role
from control_plane.conversations import inbox
from control_plane.kit.ids import new_id
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, make_bot

HANDED_OVER = "UPDATE conversations SET owner = 'waiting', owner_version = 2 WHERE id = $1"


async def listed(person: Person, query: str = "") -> list[UUID]:
    answer = await person.get(f"/conversations{query}")
    assert answer.status_code == 200, answer.text
    return [UUID(item["id"]) for item in answer.json()["items"]]


async def shown(person: Person, conversation: UUID) -> dict:
    found: dict = (await person.get(f"/conversations/{conversation}")).json()
    return found


async def act(person: Person, conversation: UUID, action: str) -> None:
    answer = await person.post(f"/conversations/{conversation}/{action}")
    assert answer.status_code == 200, answer.text


async def say(person: Person, conversation: UUID, words: str = "Hello", **more: object):
    body = {"segments": [{"type": "text", "text": words}]} | more
    return await person.post(f"/conversations/{conversation}/messages", body)


async def see(person: Person, conversation: UUID, **body: object):
    return await person.call("PUT", f"/conversations/{conversation}/seen", json=body)


async def note(person: Person, conversation: UUID, *members: Person) -> str:
    body = {"text": "look", "mentions": [str(member.member_id) for member in members]}
    answer = await person.post(f"/conversations/{conversation}/notes", body)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


@pytest.fixture
async def colleague(bot: Bot, people) -> Person:
    return await people.member(bot.tenant_id, Role.MEMBER)


@pytest.fixture
async def talks(bot: Bot, colleague: Person, superuser: asyncpg.Connection) -> dict[str, UUID]:
    """One conversation of each kind, each a second younger than the one before."""
    names = ("bot", "waiting", "mine", "theirs", "closed")
    found = {}
    for name in names:
        found[name] = await bot.hears("hello", key=name)
        bot.parts.house.clock.advance(timedelta(seconds=1))
    await superuser.execute(HANDED_OVER, found["waiting"])
    await act(bot.owner, found["mine"], "take-over")
    await say(bot.owner, found["mine"])
    await act(colleague, found["theirs"], "take-over")
    await act(bot.owner, found["closed"], "close")
    return found


class TestViews:
    @pytest.mark.parametrize(
        ("view", "names"),
        [
            ("all", ["mine", "closed", "theirs", "waiting", "bot"]),
            ("mine", ["mine"]),
            ("unassigned", ["waiting"]),
            # A colleague has taken it and not answered yet.
            ("waiting", ["theirs", "waiting"]),
            ("bot", ["bot"]),
            ("closed", ["closed"]),
            ("mentions", ["bot"]),
        ],
    )
    async def test_have_what_their_names_say(
        self, bot: Bot, colleague, talks, view: str, names: list[str]
    ) -> None:
        await note(colleague, talks["bot"], bot.owner)

        found = await listed(bot.owner, f"?view={view}")

        assert found == [talks[name] for name in names]
        counts = (await bot.owner.get("/conversations/counts")).json()
        assert counts[view] == len(names)

    async def test_of_one_member_are_not_anothers(self, bot: Bot, colleague, talks) -> None:
        await note(bot.owner, talks["bot"], bot.owner)

        assert await listed(colleague, "?view=mine") == [talks["theirs"]]
        assert await listed(colleague, "?view=mentions") == []

    async def test_are_empty_for_a_key_where_they_are_ones_own(self, bot: Bot, talks) -> None:
        body = {"name": "k", "scopes": [Permission.CONVERSATIONS_READ]}
        key = (await bot.owner.post("/api-keys", body)).json()["key"]
        headers = {"authorization": f"Bearer {key}"}
        counts = (await bot.owner.get("/conversations/counts", headers=headers)).json()

        assert (counts["mine"], counts["mentions"], counts["all"]) == (0, 0, 5)

    @pytest.mark.parametrize("order", ["newest", "waiting"])
    async def test_are_paged_without_a_gap(self, bot: Bot, superuser, order: str) -> None:
        ids = [await bot.hears("hello", key=f"c{n}") for n in range(5)]
        for conversation in ids:
            await superuser.execute(HANDED_OVER, conversation)
        # Two of them at the same moment.
        await superuser.execute(
            "UPDATE conversations SET waiting_since = now(), last_message_at = now()"
            " WHERE id = ANY ($1::uuid[])",
            ids[1:3],
        )
        found, query = [], f"?order={order}&limit=2"
        while True:
            page = (await bot.owner.get(f"/conversations{query}")).json()
            found += [UUID(item["id"]) for item in page["items"]]
            if page["next"] is None:
                break
            query = f"?order={order}&limit=2&cursor={page['next']}"

        assert len(found) == 5
        assert set(found) == set(ids)

    async def test_by_waiting_have_the_longest_first(self, bot: Bot, talks, superuser) -> None:
        await superuser.execute(
            "UPDATE conversations SET waiting_since = now() + interval '1 hour' WHERE id = $1",
            talks["waiting"],
        )

        assert await listed(bot.owner, "?order=waiting") == [talks["theirs"], talks["waiting"]]

    async def test_are_counted_up_to_a_hundred(self, bot: Bot, monkeypatch) -> None:
        for n in range(3):
            await bot.hears("hello", key=f"c{n}")
        monkeypatch.setattr(inbox, "COUNTED", 2)

        counts = (await bot.owner.get("/conversations/counts")).json()

        assert (counts["all"], counts["bot"], counts["closed"]) == (2, 2, 0)

    async def test_take_a_channel_a_contact_and_a_tag(self, bot: Bot, talks) -> None:
        other = await make_bot(bot.parts, bot.owner)
        elsewhere = await other.hears("hello")
        contact = (await shown(bot.owner, talks["bot"]))["contact"]["id"]
        tag = (await bot.owner.post("/tags", {"name": "VIP"})).json()["id"]
        await bot.owner.call("PUT", f"/conversations/{talks['mine']}/tags/{tag}")

        assert await listed(bot.owner, f"?channel_id={other.channel_id}") == [elsewhere]
        assert await listed(bot.owner, f"?contact_id={contact}") == [talks["bot"]]
        assert await listed(bot.owner, f"?tag_id={tag}") == [talks["mine"]]
        assert await listed(bot.owner, f"?tag_id={new_id()}") == []
        assert await listed(bot.owner, f"?tag_id={tag}&view=bot") == []

    async def test_say_where_the_stream_stands(self, bot: Bot, talks, superuser) -> None:
        head = await superuser.fetchrow("SELECT epoch, seq FROM stream_heads")

        for path in ("/conversations", "/conversations/counts"):
            answer = (await bot.owner.get(path)).json()
            assert answer["position"] == dict(head)


class TestRow:
    async def test_has_what_a_list_shows(self, bot: Bot, colleague, talks) -> None:
        row = await shown(bot.owner, talks["theirs"])

        assert row["channel_kind"] == "webchat"
        assert row["owner_name"] == "Member Lin"
        assert row["contact"]["name"] == "Theirs"
        assert (row["unread"], row["seen_number"], row["mentioned"]) == (1, 0, False)


class TestSeen:
    async def test_is_each_members_own(self, bot: Bot, colleague) -> None:
        conversation = await bot.hears("one", "two", "three")
        answer = await see(bot.owner, conversation, number=2)

        assert answer.json() == {"number": 2}
        mine, theirs = [await shown(who, conversation) for who in (bot.owner, colleague)]
        assert (mine["seen_number"], mine["unread"]) == (2, 1)
        assert (theirs["seen_number"], theirs["unread"]) == (0, 3)

    async def test_counts_what_the_contact_said_only(self, bot: Bot) -> None:
        conversation = await bot.hears("one")
        await bot.says(conversation, "two", "three")
        await bot.hears("four")

        assert (await shown(bot.owner, conversation))["unread"] == 2

    async def test_never_goes_back_nor_beyond_the_end(self, bot: Bot) -> None:
        conversation = await bot.hears("one", "two")
        numbers = [
            (await see(bot.owner, conversation, number=number)).json()["number"]
            for number in (1, 9, 0)
        ]

        assert numbers == [1, 2, 2]

    async def test_is_told_once(self, bot: Bot, superuser) -> None:
        conversation = await bot.hears("one", "two")
        for number in (1, 1, 0):
            await see(bot.owner, conversation, number=number)

        told = await superuser.fetch("SELECT data FROM stream WHERE type = 'conversation.seen'")
        assert len(told) == 1
        assert str(bot.owner.member_id) in told[0]["data"]

    async def test_of_a_mention_goes_up_to_the_note_that_was_seen(
        self, bot: Bot, colleague
    ) -> None:
        conversation = await bot.hears("one")
        first = await note(colleague, conversation, bot.owner)
        second = await note(colleague, conversation, bot.owner)

        async def standing() -> tuple[bool, int, int]:
            counts = (await bot.owner.get("/conversations/counts")).json()
            mentioned = (await shown(bot.owner, conversation))["mentioned"]
            return mentioned, counts["mentions"], counts["unread_mentions"]

        await see(bot.owner, conversation, number=1)
        assert await standing() == (True, 1, 1)
        await see(bot.owner, conversation, number=1, note_id=first)
        assert await standing() == (True, 1, 1)
        await see(bot.owner, conversation, number=1, note_id=second)
        assert await standing() == (False, 1, 0)

    async def test_of_a_note_elsewhere_is_refused(self, bot: Bot) -> None:
        conversation, other = await bot.hears("one"), await bot.hears("one", key="wang")
        elsewhere = await note(bot.owner, other)

        answer = await see(bot.owner, conversation, number=1, note_id=elsewhere)

        assert (answer.status_code, answer.json()["code"]) == (404, "note_not_found")

    async def test_is_for_members(self, bot: Bot) -> None:
        conversation = await bot.hears("one")
        body = {"name": "k", "scopes": [Permission.CONVERSATIONS_WRITE]}
        key = (await bot.owner.post("/api-keys", body)).json()["key"]
        answer = await bot.owner.call(
            "PUT",
            f"/conversations/{conversation}/seen",
            json={"number": 1},
            headers={"authorization": f"Bearer {key}"},
        )

        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_person")

    async def test_goes_with_the_member(self, bot: Bot, colleague, superuser) -> None:
        conversation = await bot.hears("one")
        await see(colleague, conversation, number=1)
        await note(bot.owner, conversation, colleague)

        answer = await bot.owner.delete(f"/members/{colleague.member_id}")

        assert answer.status_code == 204
        for table in ("read_marks", "note_mentions"):
            assert await superuser.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


class TestWaiting:
    async def since(self, bot: Bot, conversation: UUID) -> str | None:
        found: str | None = (await shown(bot.owner, conversation))["waiting_since"]
        return found

    async def test_begins_when_nobody_answers_and_ends_with_the_answer(
        self, bot: Bot, superuser
    ) -> None:
        conversation = await bot.hears("one")
        assert await self.since(bot, conversation) is None
        await superuser.execute(HANDED_OVER, conversation)
        began = await self.since(bot, conversation)
        assert began is not None
        await bot.hears("two")
        await act(bot.owner, conversation, "take-over")
        assert await self.since(bot, conversation) == began

        await say(bot.owner, conversation)

        assert await self.since(bot, conversation) is None

    async def test_begins_again_with_the_first_message_behind_the_answer(self, bot: Bot) -> None:
        conversation = await bot.hears("one")
        await act(bot.owner, conversation, "take-over")
        await say(bot.owner, conversation)
        await bot.hears("two")
        began = await self.since(bot, conversation)
        await bot.hears("three")

        assert began is not None
        assert await self.since(bot, conversation) == began

    async def test_is_over_when_the_bot_has_it_or_it_is_closed(self, bot: Bot) -> None:
        for action in ("hand-back", "close"):
            conversation = await bot.hears("one", key=action)
            await act(bot.owner, conversation, "take-over")
            assert await self.since(bot, conversation) is not None
            await act(bot.owner, conversation, action)
            assert await self.since(bot, conversation) is None

    async def test_of_somebody_whom_the_bot_answered_does_not_begin(self, bot: Bot) -> None:
        conversation = await bot.hears("one")
        await bot.says(conversation, "two")
        await act(bot.owner, conversation, "take-over")

        assert await self.since(bot, conversation) is None


class TestStaleView:
    @pytest.fixture
    async def conversation(self, bot: Bot, colleague: Person) -> UUID:
        """A colleague has answered, then one has taken over."""
        conversation = await bot.hears("one")
        await act(colleague, conversation, "take-over")
        await say(colleague, conversation, "two")
        version = (await shown(bot.owner, conversation))["owner_version"]
        path = f"/conversations/{conversation}/take-over"
        await bot.owner.post(path, {"owner_version": version})
        return conversation

    async def test_stops_an_answer_and_says_who_was_faster(self, bot: Bot, conversation) -> None:
        answer = await say(bot.owner, conversation, seen_number=1)

        assert (answer.status_code, answer.json()["code"]) == (409, "stale_view")
        assert answer.json()["detail"].startswith("Member Lin answered meanwhile, at 2026-01-01T")
        assert len(await bot.thread(conversation)) == 2

    async def test_is_none_for_who_has_seen_it_or_did_not_ask(self, bot: Bot, conversation) -> None:
        for more in ({"seen_number": 2}, {}, {"seen_number": 2}):
            # Between them only oneself and the contact have spoken.
            assert (await say(bot.owner, conversation, **more)).status_code == 202
            await bot.hears("and?")
