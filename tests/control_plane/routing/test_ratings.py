"""The question how it was: asked behind an end, answered with a number, or not answered."""

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.routing.ratings import score
from tests.conftest import Person
from tests.control_plane.routing.conftest import Desk

HOW = "How was it, 1 to 5?"


async def ends(desk: Desk, key: str = "lin") -> tuple[Person, UUID]:
    """Somebody answers a customer and ends it; routing asks how it was."""
    person = await desk.hires()
    conversation = await desk.asks(key)
    await desk.router.all()
    assert await desk.who(conversation) == ("human", person.member_id)
    assert (await person.post(f"/conversations/{conversation}/close")).status_code == 200
    await desk.says(person, "offline")
    await desk.router.all()
    return person, conversation


class TestScore:
    @pytest.mark.parametrize(
        ("text", "given"),
        [("5", 5), (" 4 ", 4), ("３", 3), ("5分", 5), ("1.", 1), ("4 星", 4), ("2!", 2)],
    )
    def test_is_a_number_however_it_is_written(self, text: str, given: int) -> None:
        assert score(text) == given

    @pytest.mark.parametrize(
        ("text", "given"),
        [("★★★★★", 5), ("★☆☆☆☆", 1), ("★★★", 3), ("★★★★☆\nquick and kind", 4), (" ★★ \r\n5", 2)],
    )
    def test_is_as_many_as_the_full_stars_in_the_first_line(self, text: str, given: int) -> None:
        assert score(text) == given

    @pytest.mark.parametrize(
        "text", ["☆☆☆☆☆", "★★★★★★", "★★★★★☆", "☆★", "★★ nice", "nice\n★★", "5\nbottles"]
    )
    def test_is_not_what_only_looks_like_stars(self, text: str) -> None:
        assert score(text) is None

    @pytest.mark.parametrize("text", ["", "0", "6", "55", "1 or 2", "five", "5 bottles", "٥٥", "½"])
    def test_is_nothing_else(self, text: str) -> None:
        assert score(text) is None


class TestQuestion:
    async def test_is_asked_once_behind_the_end(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW})
        _person, conversation = await ends(desk)
        await desk.look()

        assert await desk.told(conversation) == [HOW]
        assert await desk.who(conversation) == ("closed", None)

    async def test_is_not_asked_unless_the_tenant_asks_it(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        await desk.routes()
        _person, conversation = await ends(desk)

        assert await desk.told(conversation) == []
        assert await superuser.fetchval("SELECT count(*) FROM routing_endings") == 0

    async def test_is_not_asked_of_who_goes_on_talking(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW})
        person = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()
        await person.post(f"/conversations/{conversation}/close")
        await desk.says(person, "offline")
        await desk.asks(text="One more thing")
        await desk.router.all()

        assert await desk.told(conversation) == []

    async def test_leaves_nothing_behind_where_routing_is_off(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        conversation = await desk.asks()
        await desk.owner.post(f"/conversations/{conversation}/take-over")
        await desk.owner.post(f"/conversations/{conversation}/close")

        assert await superuser.fetchval("SELECT count(*) FROM routing_endings") == 0


class TestAnswer:
    async def test_is_kept_with_who_it_is_about_and_begins_no_turn(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        await desk.routes(rating={"question": HOW, "thanks": "Thank you!"})
        person, conversation = await ends(desk)
        turns = await superuser.fetchval("SELECT count(*) FROM turns")
        await desk.asks(text="5")

        assert await desk.who(conversation) == ("closed", None)
        assert (await desk.bot.texts(conversation))[-2:] == [
            ("contact", "5"),
            ("system", "Thank you!"),
        ]
        assert await superuser.fetchval("SELECT count(*) FROM turns") == turns
        [rating] = (await desk.owner.get("/routing/ratings")).json()["items"]
        assert (rating["score"], rating["member_id"], rating["conversation_id"]) == (
            5,
            str(person.member_id),
            str(conversation),
        )
        # The thread has no hole, and what comes next is an ordinary message.
        numbers = [one["number"] for one in await desk.bot.thread(conversation)]
        assert numbers == [*range(1, len(numbers) + 1)]
        await desk.asks(text="5")
        assert (await desk.who(conversation))[0] == "waiting"

    async def test_is_the_next_thing_they_say_or_none(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW})
        _person, conversation = await ends(desk)
        await desk.asks(text="How many cups?")
        await desk.owner.post(f"/conversations/{conversation}/hand-back")
        await desk.asks(text="5")

        [rating] = (await desk.owner.get("/routing/ratings")).json()["items"]
        assert rating["score"] is None

    async def test_with_more_behind_it_is_taken_and_the_rest_is_answered(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW, "thanks": "Thank you!"})
        _person, conversation = await ends(desk)
        await desk.bot.hears("4", "But when do you open?")
        await desk.turns.all()

        [rating] = (await desk.owner.get("/routing/ratings")).json()["items"]
        assert rating["score"] == 4
        assert (await desk.who(conversation))[0] == "waiting"
        assert "Thank you!" not in await desk.told(conversation)

    async def test_comes_too_late_after_its_time(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW, "within_h": 1})
        _person, conversation = await ends(desk)
        desk.clock.advance(timedelta(hours=1))
        await desk.asks(text="5")

        assert await desk.who_in_table(conversation) == "waiting"


class TestAverage:
    async def test_is_of_a_period_and_of_each(self, desk: Desk) -> None:
        await desk.routes(rating={"question": HOW})
        first, _ = await ends(desk, "an")
        await desk.asks("an", "5")
        second, _ = await ends(desk, "bo")
        await desk.asks("bo", "2")
        await ends(desk, "cy")

        shown = (await desk.owner.get("/routing/ratings/average")).json()
        before = {"until": "2025-12-31T00:00:00Z"}
        earlier = (await desk.owner.get("/routing/ratings/average", params=before)).json()

        assert shown[0] == {"member_id": None, "asked": 3, "answered": 2, "average": 3.5}
        of = {one["member_id"]: one["average"] for one in shown[1:]}
        assert of[str(first.member_id)] == 5
        assert of[str(second.member_id)] == 2
        assert earlier == [{"member_id": None, "asked": 0, "answered": 0, "average": None}]
