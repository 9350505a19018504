"""GET /messages/search: what is found, whether it was indexed yet or not, and by whom."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from adapters.model import Text
from control_plane.access.permissions import Role
from control_plane.conversations import search, search_index
from control_plane.conversations import service as conversations
from control_plane.conversations.search_index import SearchIndex
from control_plane.conversations.service import Author
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from tests.control_plane.conversations.scene import BOT, Bot, Worker, make_bot

PHONE = "13812345678"


@pytest.fixture
async def index(bot: Bot, superuser: asyncpg.Connection) -> Worker:
    """The only thing that is to be done: the row that the migration has made."""
    return Worker(bot.database, search_index.WORK, SearchIndex(bot.database).fill)


@pytest.fixture(params=["fresh", "indexed"])
async def settle(request, index: Worker):
    """Whether what was said is in the index when somebody looks."""

    async def now() -> None:
        if request.param == "indexed":
            await index.again(UUID(int=2))

    return now


async def look(person, text: str, **more: object) -> dict:
    answer = await person.get("/messages/search", params={"text": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def words(person, text: str, **more: object) -> list[str]:
    return [item["segments"][0]["text"] for item in (await look(person, text, **more))["items"]]


async def say(bot: Bot, conversation_id: UUID, text: str, author: Author) -> None:
    """Somebody of ours writes, and the stream tells it, as it always does."""
    async with bot.session() as session:
        conversation = await conversations.lock(session, conversation_id)
        now, words = bot.parts.house.clock.now(), [Text(text=text)]
        _id, entry = await conversations.say(
            session, conversation, author=author, segments=words, now=now
        )
        await stream.append(session, bot.tenant_id, [entry])


class TestText:
    @pytest.mark.parametrize(
        ("said", "wanted"),
        [
            ("你们几点开门？", "开门"),
            ("你们几点开门？", "几点开门"),
            ("My order 4711 has not arrived", "order 47"),
            ("My order 4711 has not arrived", "rrive"),
            ("My ORDER", "my order"),
            ("ＡＢＣ　１２３", "abc 123"),
            ("two  \n spaces", "two spaces"),
            ("ça va 👍🏽", "👍🏽"),
            ("50%_off\\", "%_off\\"),
        ],
    )
    async def test_is_found_wherever_it_stands(self, bot: Bot, settle, said, wanted) -> None:
        await bot.hears("nothing of it", said)
        await settle()

        assert await words(bot.owner, wanted) == [said]

    @pytest.mark.parametrize("wanted", ["门开", "关门", "开门了", "order 4712", "ab ba"])
    async def test_is_not_found_where_only_its_pairs_stand(self, bot: Bot, settle, wanted) -> None:
        await bot.hears("你们几点开门", "order 4711", "ab b a ba")
        await settle()

        assert await words(bot.owner, wanted) == []

    async def test_is_found_in_names_and_titles(self, bot: Bot, settle, superuser) -> None:
        conversation = await bot.hears("a file follows")
        segments = json.dumps(
            [
                {"type": "file", "ref": {"via": "x", "id": "y"}, "name": "invoice-May.pdf"},
                {"type": "link", "url": "https://a.example", "title": "Opening hours"},
            ]
        )
        await superuser.execute(
            "UPDATE messages SET segments = $2 WHERE conversation_id = $1", conversation, segments
        )
        await settle()

        for wanted in ("invoice-may", "opening"):
            assert len((await look(bot.owner, wanted))["items"]) == 1
        assert (await look(bot.owner, "a.example"))["items"] == []

    @pytest.mark.parametrize("wanted", ["", "x", " x ", "　好", "x" * 201])
    async def test_that_cannot_be_looked_for_is_refused(self, bot: Bot, wanted) -> None:
        answer = await bot.owner.get("/messages/search", params={"text": wanted})

        assert answer.status_code == 422
        assert answer.json()["code"] in {"invalid_request", "search_too_short"}


class TestFilters:
    @pytest.fixture
    async def said(self, bot: Bot, people, settle) -> dict:
        """Of tea, in two chats of one channel and in one of another: contacts, bot, a member."""
        other = await make_bot(bot.parts, bot.owner)
        lin = await bot.hears("lin wants tea", key="lin")
        await say(bot, lin, "bot has tea", BOT)
        wang = await bot.hears("wang wants tea", key="wang")
        member = Author(kind="human", id=bot.owner.member_id, name="Owner")
        await say(bot, wang, "member has tea", member)
        elsewhere = await other.hears("tea elsewhere", key="lin")
        await settle()
        return {"lin": lin, "wang": wang, "elsewhere": elsewhere, "other": other}

    async def test_all_are_found_newest_first(self, bot: Bot, said) -> None:
        assert await words(bot.owner, "tea") == [
            "tea elsewhere",
            "member has tea",
            "wang wants tea",
            "bot has tea",
            "lin wants tea",
        ]

    async def test_by_channel(self, bot: Bot, said) -> None:
        channel = said["other"].channel_id
        assert await words(bot.owner, "tea", channel_id=channel) == ["tea elsewhere"]

    async def test_by_conversation(self, bot: Bot, said) -> None:
        found = await words(bot.owner, "tea", conversation_id=said["lin"])
        assert found == ["bot has tea", "lin wants tea"]

    async def test_by_member(self, bot: Bot, said) -> None:
        found = await words(bot.owner, "tea", member_id=bot.owner.member_id)
        assert found == ["member has tea"]

    async def test_by_contact(self, bot: Bot, said) -> None:
        shown = (await bot.owner.get(f"/conversations/{said['wang']}")).json()
        found = await look(bot.owner, "tea", contact_id=shown["contact"]["id"])

        assert [item["segments"][0]["text"] for item in found["items"]] == [
            "member has tea",
            "wang wants tea",
        ]
        assert {item["contact"]["name"] for item in found["items"]} == {"Wang"}
        assert {item["conversation_id"] for item in found["items"]} == {str(said["wang"])}

    async def test_by_period(self, bot: Bot, said) -> None:
        # Messages are dated by their ids, and those by the machine.
        now = datetime.now(UTC)
        hour = timedelta(hours=1)
        assert len(await words(bot.owner, "tea", since=(now - hour).isoformat())) == 5
        assert await words(bot.owner, "tea", until=(now - hour).isoformat()) == []
        assert await words(bot.owner, "tea", since=(now + hour).isoformat()) == []
        long_ago = "0001-06-01T00:00:00Z"
        assert len(await words(bot.owner, "tea", since=long_ago)) == 5
        assert await words(bot.owner, "tea", until=long_ago) == []
        assert len(await words(bot.owner, "tea", until="9999-12-01T00:00:00Z")) == 5

    @pytest.mark.parametrize("name", ["channel_id", "conversation_id", "contact_id", "member_id"])
    async def test_by_what_is_not_there_is_nothing(self, bot: Bot, said, name) -> None:
        assert await words(bot.owner, "tea", **{name: str(new_id())}) == []


class TestPages:
    async def test_go_through_all_once(self, bot: Bot, settle) -> None:
        texts = [f"tea number {n}" for n in range(7)]
        await bot.hears(*texts)
        await settle()

        assert await self._through(bot, limit=3) == texts[::-1]

    async def test_that_are_short_of_hits_lead_on(self, bot: Bot, settle, monkeypatch) -> None:
        monkeypatch.setattr(search, "_LEAST", 1)
        monkeypatch.setattr(search, "_PER_ROW", 0)
        texts = ["tea", "te ea", "tea", "te ea", "te ea"]
        await bot.hears(*texts)
        await settle()

        assert await self._through(bot, limit=1) == ["tea", "tea"]

    async def test_lead_past_much_that_is_fresh_and_not_meant(
        self, bot: Bot, index, monkeypatch
    ) -> None:
        monkeypatch.setattr(search, "_LEAST", 1)
        monkeypatch.setattr(search, "_PER_ROW", 0)
        await bot.hears("tea one", "tea two")
        await index.again(UUID(int=2))
        await bot.hears(*["coffee"] * 5)

        assert await self._through(bot, limit=1) == ["tea two", "tea one"]

    async def test_lead_on_over_the_edge_of_what_is_indexed(self, bot: Bot, index) -> None:
        await bot.hears("tea one", "tea two")
        await index.again(UUID(int=2))
        await bot.hears("tea three", "tea four")

        found = await self._through(bot, limit=1)
        assert found == ["tea four", "tea three", "tea two", "tea one"]

    async def _through(self, bot: Bot, limit: int) -> list[str]:
        found, more = [], {}
        while True:
            page = await look(bot.owner, "tea", limit=limit, **more)
            found += [item["segments"][0]["text"] for item in page["items"]]
            if page["next"] is None:
                return found
            more = {"cursor": page["next"]}


class TestWalls:
    async def test_nobody_finds_what_was_said_elsewhere(
        self, bot: Bot, parts, people, settle
    ) -> None:
        other = await make_bot(parts, await people.owner())
        theirs = await other.hears("our secret tea", key="lin")
        await bot.hears("our tea", key="lin")
        await settle()

        assert await words(bot.owner, "tea") == ["our tea"]
        assert await words(bot.owner, "tea", conversation_id=theirs) == []
        assert await words(other.owner, "tea") == ["our secret tea"]

    async def test_a_viewer_may_and_a_role_without_reading_may_not(self, bot: Bot, people) -> None:
        viewer = await people.member(bot.tenant_id, Role.VIEWER)
        role = await bot.owner.post("/roles", {"name": "None", "permissions": []})
        barred = await people.member(bot.tenant_id, Role.VIEWER)
        await bot.owner.patch(f"/members/{barred.member_id}", {"role": role.json()["id"]})
        await bot.hears("tea")

        assert await words(viewer, "tea") == ["tea"]
        answer = await barred.get("/messages/search", params={"text": "tea"})
        assert answer.status_code == 403


class TestMasking:
    @pytest.fixture
    async def viewer(self, bot: Bot, people, settle):
        await bot.owner.patch("/tenant", {"mask_numbers": True})
        await bot.hears(f"call me: {PHONE}", "call him")
        await settle()
        return await people.member(bot.tenant_id, Role.VIEWER)

    async def test_what_is_found_is_masked(self, bot: Bot, viewer) -> None:
        assert await words(viewer, "call me") == ["call me: 138****5678"]
        assert await words(bot.owner, "call me") == [f"call me: {PHONE}"]

    async def test_no_masked_digit_can_be_looked_for(self, bot: Bot, viewer) -> None:
        assert await words(bot.owner, PHONE) == [f"call me: {PHONE}"]
        for hidden in (PHONE, PHONE[:4], PHONE[3:7], "81"):
            page = await look(viewer, hidden, limit=1)
            assert page == {"items": [], "next": None}
        assert await words(viewer, "5678") == ["call me: 138****5678"]


class TestForgetting:
    async def test_nothing_erased_is_found(self, bot: Bot, index, settle, superuser) -> None:
        conversation = await bot.hears("my xylophone", key="lin")
        kept = await bot.hears("another xylophone", key="wang")
        await settle()
        shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
        answer = await bot.owner.post(f"/contacts/{shown['contact']['id']}/erase")
        assert answer.status_code == 200

        for _ in range(2):
            assert await words(bot.owner, "xylophone") == ["another xylophone"]
            await index.again(UUID(int=2))
        grams = "SELECT count(*) FROM message_grams WHERE conversation_id = $1 AND grams @> "
        word = "search_grams(tenant_id, 'xylophone')"
        assert await superuser.fetchval(grams + word, conversation) == 0
        assert await superuser.fetchval(grams + word, kept) == 1


class TestLimit:
    async def test_a_search_that_takes_too_long_is_ended_and_says_so(
        self, bot: Bot, superuser: asyncpg.Connection, monkeypatch
    ) -> None:
        await bot.hears("tea")
        monkeypatch.setattr(search, "_LIMIT", "SELECT set_config('statement_timeout', '50', true)")
        async with superuser.transaction():
            await superuser.execute("LOCK TABLE message_grams IN ACCESS EXCLUSIVE MODE")
            answer = await bot.owner.get("/messages/search", params={"text": "tea"})

        assert (answer.status_code, answer.json()["code"]) == (503, "search_took_too_long")
        assert await words(bot.owner, "tea") == ["tea"]

    async def test_of_too_much_that_is_not_indexed_the_newest_is_found(
        self, bot: Bot, index, monkeypatch
    ) -> None:
        monkeypatch.setattr(search, "MAX_FRESH", 2)
        await bot.hears("tea one", "tea two", "tea three")

        assert await words(bot.owner, "tea") == ["tea three", "tea two"]
        await index.again(UUID(int=2))
        assert len(await words(bot.owner, "tea")) == 3


class TestForm:
    @pytest.mark.parametrize(
        "text", ["ＡＢＣ　１２３", " a\t\n b ", "ﬁne ½", "开门？", "ÄÖÜ ß", "é", "①"]
    )
    async def test_is_the_same_here_and_in_the_database(
        self, superuser: asyncpg.Connection, text
    ) -> None:
        assert await superuser.fetchval("SELECT search_form($1)", text) == search.form(text)
