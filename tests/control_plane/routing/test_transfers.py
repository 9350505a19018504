"""Handing a conversation on: to somebody who is there, to somebody who is not, to a skill."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from control_plane.access.permissions import Role
from tests.conftest import Person
from tests.control_plane.routing.conftest import Desk

TEA = {"key": "tea", "name": "Tea"}


async def hand(person: Person, conversation: UUID, **body: Any) -> Any:
    given = {name: str(v) if isinstance(v, UUID) else v for name, v in body.items()}
    return await person.post(f"/conversations/{conversation}/transfer", given)


@pytest.fixture
async def first(desk: Desk) -> Person:
    return await desk.people.member(desk.bot.tenant_id, Role.MEMBER)


@pytest.fixture
async def conversation(desk: Desk, first: Person) -> UUID:
    """One that `first` answers."""
    conversation = await desk.asks()
    await first.post(f"/conversations/{conversation}/take-over")
    return conversation


class TestToAMember:
    async def test_they_have_it_at_once_and_the_former_owner_does_not(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        second = await desk.hires()
        version = (await desk.shown(conversation))["owner_version"]

        answer = await hand(first, conversation, member_id=second.member_id, note="Likes oolong")

        assert answer.status_code == 200
        assert answer.json()["owner_member_id"] == str(second.member_id)
        assert answer.json()["owner_version"] == version + 1
        refused = await first.post(
            f"/conversations/{conversation}/messages",
            {"segments": [{"type": "text", "text": "Wait"}]},
        )
        assert refused.json()["code"] == "not_owner"

    async def test_it_stands_in_the_thread_with_its_note(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        second = await desk.hires()
        await hand(first, conversation, member_id=second.member_id, note="Likes oolong")
        await hand(second, conversation, member_id=first.member_id)

        page = (await second.get(f"/conversations/{conversation}/transfers")).json()

        assert [(one["note"], one["to_member_id"]) for one in page["items"]] == [
            ("", str(first.member_id)),
            ("Likes oolong", str(second.member_id)),
        ]
        last = (await desk.shown(conversation))["last_number"]
        assert {one["number"] for one in page["items"]} == {last}
        # The customer hears nothing of it.
        assert {kind for kind, _ in await desk.bot.texts(conversation)} == {"contact", "bot"}

    async def test_with_routing_on_an_absent_one_is_waited_for_and_then_anybody_will_do(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes(patience_min=5)
        await desk.says(first, "online")
        absent = await desk.hires("offline")
        await hand(first, conversation, member_id=absent.member_id)
        await desk.router.all()
        assert await desk.who(conversation) == ("waiting", None)
        [wait] = (await desk.owner.get("/routing/queue")).json()["items"]
        assert wait["member_id"] == str(absent.member_id)

        desk.clock.advance(timedelta(minutes=5))
        await desk.look()

        assert await desk.who(conversation) == ("human", first.member_id)

    async def test_one_who_comes_back_in_time_gets_it(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes()
        await desk.says(first, "online")
        absent = await desk.hires("offline")
        await hand(first, conversation, member_id=absent.member_id)
        await desk.router.all()

        await desk.says(absent, "online")
        await desk.router.once()

        assert await desk.who(conversation) == ("human", absent.member_id)

    async def test_one_who_has_enough_already_is_waited_for(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes()
        second = await desk.hires(capacity=1)
        other = await desk.asks("bo")
        await second.post(f"/conversations/{other}/take-over")
        await hand(first, conversation, member_id=second.member_id)
        await desk.router.all()
        before = await desk.who(conversation)
        await second.post(f"/conversations/{other}/close")
        await desk.router.once()

        assert before == ("waiting", None)
        assert await desk.who(conversation) == ("human", second.member_id)


class TestToASkill:
    async def test_whoever_has_it_gets_it_before_all_others_that_wait(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes(skills=[TEA])
        older = await desk.asks("bo")
        desk.clock.advance(timedelta(minutes=1))
        await hand(first, conversation, skill="tea")
        expert = await desk.hires(skills={"tea": 5}, capacity=1)
        await desk.router.all()

        assert await desk.who(conversation) == ("human", expert.member_id)
        assert await desk.who(older) == ("waiting", None)

    async def test_the_bot_says_nothing_while_it_waits(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes(skills=[TEA])
        await hand(first, conversation, skill="tea")
        before = await desk.bot.texts(conversation)
        await desk.asks(text="Hello?")
        await desk.router.all()

        assert await desk.bot.texts(conversation) == [*before, ("contact", "Hello?")]

    async def test_of_one_that_the_bot_has_what_it_queued_is_withheld(
        self, desk: Desk, first: Person
    ) -> None:
        await desk.routes(skills=[TEA])
        conversation = await desk.bot.hears("hello", key="cy")
        await desk.bot.says(conversation, "One moment")
        await hand(first, conversation, skill="tea")

        assert await desk.bot.deliveries(conversation) == ["withheld"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({}, "one_receiver"),
            ({"skill": "tea", "member_id": UUID(int=1)}, "one_receiver"),
            ({"skill": "tea"}, "unknown_skill"),
            ({"member_id": UUID(int=1)}, "member_not_found"),
            ({"member_id": UUID(int=1), "owner_version": 1}, "owner_changed"),
        ],
    )
    async def test_have_codes_of_their_own(
        self, desk: Desk, first: Person, conversation: UUID, body: dict[str, Any], code: str
    ) -> None:
        answer = await hand(first, conversation, **body)

        assert answer.json()["code"] == code
        assert await desk.who(conversation) == ("human", first.member_id)

    async def test_what_a_colleague_has_is_theirs_to_hand_on(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        second = await desk.hires()
        refused = await hand(second, conversation, member_id=second.member_id)
        version = (await desk.shown(conversation))["owner_version"]
        insisted = await hand(
            second, conversation, member_id=second.member_id, owner_version=version
        )
        again = await hand(second, conversation, member_id=second.member_id)

        assert refused.json()["code"] == "owned_by_other"
        assert insisted.status_code == 200
        assert again.json()["code"] == "has_it_already"

    async def test_nobody_without_the_right_to_answer_is_handed_anything(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        viewer = await desk.people.member(desk.bot.tenant_id, Role.VIEWER)

        answer = await hand(first, conversation, member_id=viewer.member_id)

        assert answer.json()["code"] == "member_cannot_answer"

    async def test_a_closed_one_and_a_skill_that_nobody_gives_out(
        self, desk: Desk, first: Person, conversation: UUID
    ) -> None:
        await desk.routes(skills=[TEA], enabled=False)
        off = await hand(first, conversation, skill="tea")
        await first.post(f"/conversations/{conversation}/close")
        closed = await hand(first, conversation, member_id=first.member_id)

        assert off.json()["code"] == "routing_off"
        assert closed.json()["code"] == "conversation_closed"
