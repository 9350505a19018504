"""Commands over a socket: the rules of the REST routes, and once per id."""

import asyncio
from uuid import uuid4

import pytest

from control_plane.access.limits import Rates
from control_plane.access.permissions import Role
from control_plane.bus.hints import LocalBus
from control_plane.realtime.notes import LIFE_S, Answering, Board, Note, read
from tests.control_plane.conversations.scene import Bot, make_bot
from tests.control_plane.realtime.conftest import Replica, running

TEXT = [{"type": "text", "text": "您好"}]


@pytest.fixture
async def bot(parts, people) -> Bot:
    return await make_bot(parts, await people.owner())


@pytest.fixture
async def talk(bot: Bot) -> str:
    """A conversation in which a customer has written."""
    return str(await bot.hears("有人吗"))


class TestChanges:
    async def test_a_member_takes_answers_and_hands_back(
        self, replica: Replica, bot: Bot, talk: str
    ) -> None:
        async with replica.desk(bot.owner) as desk:
            taken = await desk.asks("conversation.take_over", "a", conversation_id=talk)
            said = await desk.asks("conversation.reply", "b", conversation_id=talk, segments=TEXT)
            version = taken["data"]["owner_version"]
            back = await desk.asks(
                "conversation.hand_back", "c", conversation_id=talk, owner_version=version
            )
            closed = await desk.asks("conversation.close", "d", conversation_id=talk)

        assert [taken["id"], said["id"], back["id"], closed["id"]] == ["a", "b", "c", "d"]
        assert taken["data"]["owner"] == "human"
        assert said["data"]["segments"] == TEXT
        assert (back["data"]["owner"], closed["data"]["owner"]) == ("bot", "closed")
        assert await bot.texts(bot_id(talk)) == [("contact", "有人吗"), ("human", "您好")]

    async def test_the_same_id_happens_once_also_on_the_next_socket(
        self, replica: Replica, bot: Bot, talk: str
    ) -> None:
        async with replica.desk(bot.owner) as desk:
            await desk.asks("conversation.take_over", "a", conversation_id=talk)
            first = await desk.asks("conversation.reply", "b", conversation_id=talk, segments=TEXT)
        async with replica.desk(bot.owner) as desk:
            again = await desk.asks("conversation.reply", "b", conversation_id=talk, segments=TEXT)
            other = [{"type": "text", "text": "别的"}]
            reused = await desk.asks(
                "conversation.reply", "b", conversation_id=talk, segments=other
            )

        assert again == first
        assert (reused["type"], reused["code"]) == ("error", "idempotency_key_reused")
        assert len(await bot.texts(bot_id(talk))) == 2

    async def test_a_change_comes_as_an_event_to_colleagues(
        self, replica: Replica, people, bot: Bot, talk: str
    ) -> None:
        colleague = await people.member(bot.tenant_id, Role.VIEWER)
        async with replica.desk(colleague) as sees, replica.desk(bot.owner) as desk:
            await desk.asks("conversation.take_over", conversation_id=talk)

            event = (await sees.next("event"))["event"]

        assert event["type"] == "conversation.owner_changed"
        assert event["data"]["owner_member_id"] == str(bot.owner.member_id)

    @pytest.mark.parametrize(
        ("kind", "data", "status", "code"),
        [
            ("conversation.burn", {}, 400, "unknown_command"),
            ("conversation.close", {}, 422, "invalid_command"),
            ("conversation.close", {"conversation_id": "x"}, 422, "invalid_command"),
            ("presence", {"state": "asleep"}, 422, "invalid_command"),
            ("typing", {"conversation_id": str(uuid4())}, 404, "conversation_not_found"),
            (
                "conversation.close",
                {"conversation_id": str(uuid4())},
                404,
                "conversation_not_found",
            ),
        ],
    )
    async def test_what_does_not_fit_is_an_error_and_the_socket_lives_on(
        self, replica: Replica, bot: Bot, kind: str, data, status: int, code: str
    ) -> None:
        async with replica.desk(bot.owner) as desk:
            error = await desk.asks(kind, "x", **data)
            fine = await desk.asks("presence", "y", state="online")

        assert (error["id"], error["status"], error["code"]) == ("x", status, code)
        assert fine["type"] == "ack"

    @pytest.mark.parametrize("frame", ["[", '{"type":"typing"}', '{"type":"typing","id":""}'])
    async def test_a_broken_frame_is_an_error_without_an_id(
        self, replica: Replica, bot: Bot, frame: str
    ) -> None:
        async with replica.desk(bot.owner) as desk:
            await desk.send(frame)
            error = await desk.next()

        assert (error["type"], error["id"], error["status"]) == ("error", None, 400)

    @pytest.mark.parametrize("kind", ["conversation.take_over", "typing", "viewing"])
    async def test_another_tenants_conversation_is_not_found(
        self, replica: Replica, people, talk: str, kind: str
    ) -> None:
        stranger = await people.owner("Other House")
        async with replica.desk(stranger) as desk:
            error = await desk.asks(kind, conversation_id=talk)

        assert (error["status"], error["code"]) == (404, "conversation_not_found")

    async def test_a_viewer_may_look_only(
        self, replica: Replica, people, bot: Bot, talk: str
    ) -> None:
        viewer = await people.member(bot.tenant_id, Role.VIEWER)
        async with replica.desk(viewer) as desk:
            answers = [
                await desk.asks(kind, conversation_id=talk)
                for kind in ("conversation.take_over", "typing", "viewing")
            ]

        assert [answer.get("code", "ack") for answer in answers] == [
            "forbidden",
            "forbidden",
            "ack",
        ]

    class TestWithLittleRoom:
        @pytest.fixture
        def rates(self) -> Rates:
            return Rates(user="3/hour")

        async def test_frames_cost_as_much_as_requests(self, replica: Replica, people) -> None:
            owner = await people.owner()
            async with replica.desk(owner) as desk:
                answers = [await desk.asks("presence", state="online") for _ in range(4)]

            assert [answer.get("code") for answer in answers] == [None, None, None, "rate_limited"]
            assert answers[-1]["retry_after"] > 0


def bot_id(talk: str):
    from uuid import UUID

    return UUID(talk)


class TestNotes:
    async def test_colleagues_see_who_types_and_looks_and_who_left(
        self, replica: Replica, people, bot: Bot, talk: str
    ) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        async with replica.desk(bot.owner) as sees:
            async with replica.desk(colleague) as desk:
                await desk.asks("presence", state="online")
                await desk.asks("viewing", conversation_id=talk)
                await desk.asks("typing", conversation_id=talk)
                heard = [(await sees.next("note"))["event"] for _ in range(3)]
            left = {(await sees.next("note"))["event"]["type"] for _ in range(3)}

        assert [note["type"] for note in heard] == ["presence", "viewing", "typing"]
        assert heard[2]["data"] == {
            "member_id": str(colleague.member_id),
            "name": "Member Lin",
            "state": "on",
            "conversation_id": talk,
            "ttl_s": LIFE_S["typing"],
        }
        assert left == {"presence", "viewing", "typing"}

    async def test_who_comes_later_hears_what_still_holds(
        self, replica: Replica, people, bot: Bot
    ) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        async with replica.desk(colleague) as desk:
            await desk.asks("presence", state="away")
            async with replica.desk(bot.owner) as late:
                note = await late.next("note")

        assert note["event"]["data"]["state"] == "away"

    async def test_no_other_tenant_hears_any(
        self, replica: Replica, people, bot: Bot, append
    ) -> None:
        stranger = await people.owner("Other House")
        async with replica.desk(stranger) as far, replica.desk(bot.owner) as desk:
            await desk.asks("presence", state="online")
            await append(stranger.tenant_id, 1)

            assert (await far.next())["type"] == "event"

    async def test_of_an_answers_words_who_sees_numbers_masked_is_told_nothing(
        self, replica: Replica, people, bot: Bot, talk: str
    ) -> None:
        assert (await bot.owner.patch("/tenant", {"mask_numbers": True})).status_code == 200
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        note = Answering(
            tenant_id=bot.tenant_id,
            conversation_id=bot_id(talk),
            through_number=1,
            text="138001",
        )
        async with replica.desk(bot.owner) as desk, replica.desk(colleague) as masked:
            replica.parts.house.bus.tell(note.written())
            told = await desk.next("note")
            await desk.asks("viewing", conversation_id=talk)
            first_told = await masked.next("note")

        assert [told["event"]["type"], first_told["event"]["type"]] == ["answering", "viewing"]

    async def test_they_reach_another_process(
        self, replica: Replica, parts_of, tmp_path, people, bot: Bot
    ) -> None:
        other = parts_of()
        buses = [asyncio.create_task(parts.house.bus.run()) for parts in (replica.parts, other)]
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        try:
            async with running(other, tmp_path) as away, away.desk(bot.owner) as sees:
                note: asyncio.Task = asyncio.create_task(sees.next("note"))
                async with replica.desk(colleague) as desk:
                    while not note.done():
                        # Said again, as clients do: what was said before the buses were
                        # connected is lost.
                        await desk.asks("presence", state="online")
                assert (await note)["event"]["data"]["member_id"] == str(colleague.member_id)
        finally:
            for bus in buses:
                bus.cancel()
            await asyncio.gather(*buses, return_exceptions=True)
            await other.close()


class TestBoard:
    def test_forgets_what_nobody_repeats_and_what_was_taken_back(self) -> None:
        now = 0.0
        board = Board(lambda: now)
        tenant, lin, wang = uuid4(), uuid4(), uuid4()

        def note(kind: str, member, state: str = "on") -> Note:
            return Note(tenant_id=tenant, kind=kind, member_id=member, name="", state=state)

        board.pin(note("typing", lin))
        board.pin(note("presence", lin))
        board.pin(note("presence", wang))
        now = LIFE_S["typing"] + 1
        board.pin(note("presence", wang, ""))

        assert board.held() == [note("presence", lin)]

    @pytest.mark.parametrize("text", ["", "{", '{"kind":"typing"}', "[]"])
    def test_what_another_version_says_is_left_alone(self, text: str) -> None:
        assert read(text) is None


class TestBus:
    def test_notes_reach_ears_and_wake_nobody(self) -> None:
        bus, heard = LocalBus(), []
        with bus.hear(heard.append):
            bus.tell("hello")
        bus.tell("nobody is there")

        assert heard == ["hello"]
