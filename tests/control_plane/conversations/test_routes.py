"""/conversations over REST: who answers, and answering."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from control_plane.access.permissions import Role
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Bot

ACTIONS = ["take-over", "hand-back", "close"]


def text(words: str) -> dict:
    return {"segments": [{"type": "text", "text": words}]}


async def act(person, conversation: UUID, action: str, version: int | None = None):
    body = None if version is None else {"owner_version": version}
    return await person.post(f"/conversations/{conversation}/{action}", body)


async def say(person, conversation: UUID, words: str = "Hello", **headers: str):
    path = f"/conversations/{conversation}/messages"
    return await person.post(path, text(words), headers=headers)


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestOwner:
    async def test_goes_from_the_bot_to_a_member_and_back(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        seen = []
        for action in ("take-over", "hand-back", "close"):
            answer = (await act(bot.owner, conversation, action)).json()
            seen.append((answer["owner"], answer["owner_member_id"], answer["owner_version"]))

        me = str(bot.owner.member_id)
        assert seen == [("human", me, 2), ("bot", None, 3), ("closed", None, 4)]

    async def test_is_not_taken_from_a_colleague_by_accident(self, bot: Bot, people) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        conversation = await bot.hears("你好")
        await act(colleague, conversation, "take-over")

        for action in ACTIONS:
            assert code(await act(bot.owner, conversation, action)) == (409, "owned_by_other")

    async def test_is_taken_from_a_colleague_on_purpose(self, bot: Bot, people) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        conversation = await bot.hears("你好")
        version = (await act(colleague, conversation, "take-over")).json()["owner_version"]

        answer = await act(bot.owner, conversation, "take-over", version)

        assert answer.json()["owner_member_id"] == str(bot.owner.member_id)
        assert code(await say(colleague, conversation)) == (409, "not_owner")

    async def test_changes_for_one_of_two_who_saw_the_same_version(self, bot: Bot, people) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        conversation = await bot.hears("你好")

        answers = await asyncio.gather(
            *(act(person, conversation, "take-over", 1) for person in (bot.owner, colleague))
        )

        assert sorted(answer.status_code for answer in answers) == [200, 409]
        [refused] = [answer for answer in answers if answer.status_code == 409]
        assert refused.json()["code"] == "owner_changed"

    async def test_taken_twice_by_the_same_member_is_taken_once(
        self, bot: Bot, superuser: asyncpg.Connection
    ) -> None:
        conversation = await bot.hears("你好")
        first, second = [await act(bot.owner, conversation, "take-over") for _ in range(2)]

        assert first.json() == second.json()
        entries = await superuser.fetchval(
            "SELECT count(*) FROM stream WHERE type = 'conversation.owner_changed'"
        )
        audited = await superuser.fetchval(
            "SELECT count(*) FROM audit WHERE action = 'conversation.take-over'"
        )
        assert (entries, audited) == (1, 1)

    async def test_of_a_closed_conversation_cannot_be_the_bot_by_hand(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "close")

        assert code(await act(bot.owner, conversation, "hand-back")) == (409, "conversation_closed")

    async def test_is_the_bot_again_when_a_customer_reopens_it(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "close")
        await bot.hears("还有一个问题")

        shown = (await bot.owner.get(f"/conversations/{conversation}")).json()
        assert (shown["owner"], shown["owner_version"]) == ("bot", 3)


class TestSend:
    async def test_is_for_the_owner_only(self, bot: Bot, people) -> None:
        colleague = await people.member(bot.tenant_id, Role.ADMIN)
        conversation = await bot.hears("你好")
        before = [await say(bot.owner, conversation)]
        await act(bot.owner, conversation, "take-over")
        before.append(await say(colleague, conversation))
        taken = await say(bot.owner, conversation, "您好")
        await act(bot.owner, conversation, "hand-back")
        before.append(await say(bot.owner, conversation))

        assert [code(answer) for answer in before] == [(409, "not_owner")] * 3
        assert taken.status_code == 202
        assert await bot.texts(conversation) == [("contact", "你好"), ("human", "您好")]

    async def test_shows_who_said_it_and_that_it_is_queued(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "take-over")

        answer = (await say(bot.owner, conversation, "您好")).json()

        assert answer["sender"]["kind"] == "human"
        assert answer["sender"]["id"] == str(bot.owner.member_id)
        assert answer["number"] == 2
        assert answer["segments"] == [{"type": "text", "text": "您好"}]
        assert answer["delivery"] == {"state": "queued", "error_class": None, "attempts": 0}

    async def test_twice_under_one_key_is_one_message(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "take-over")
        key = {"idempotency-key": "reply-1"}

        first, second = [await say(bot.owner, conversation, **key) for _ in range(2)]

        assert first.json() == second.json()
        assert await bot.deliveries(conversation) == ["queued"]

    async def test_at_the_same_moment_under_one_key_is_one_message(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "take-over")
        key = {"idempotency-key": "reply-1"}

        answers = await asyncio.gather(*(say(bot.owner, conversation, **key) for _ in range(6)))

        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert await bot.deliveries(conversation) == ["queued"]

    @pytest.mark.parametrize(
        "segments",
        [
            [],
            [{"type": "text", "text": "  "}],
            [{"type": "text", "text": "x" * 20_001}],
            [{"type": "text", "text": "a\0b"}],
            [{"type": "text"}],
            [{"type": "image", "url": "http://127.0.0.1/x.png"}],
            [{"type": "unsupported", "platform_type": "sticker"}],
            [{"type": "text", "text": "x"}] * 51,
        ],
        ids=["none", "blank", "long", "nul", "no text", "unknown", "unsupported", "many"],
    )
    async def test_of_what_cannot_be_sent_is_refused(self, bot: Bot, segments: list) -> None:
        conversation = await bot.hears("你好")
        await act(bot.owner, conversation, "take-over")

        answer = await bot.owner.post(
            f"/conversations/{conversation}/messages", {"segments": segments}
        )

        assert code(answer) == (422, "invalid_request")
        assert await bot.deliveries(conversation) == []


class TestWalls:
    async def test_another_tenants_conversation_does_not_exist(self, bot: Bot, people) -> None:
        stranger = await people.owner("Other House")
        conversation = await bot.hears("你好")
        path = f"/conversations/{conversation}"

        answers = [await stranger.get(path), await stranger.get(f"{path}/messages")]
        answers += [await act(stranger, conversation, action) for action in ACTIONS]
        answers.append(await say(stranger, conversation))
        missing = await stranger.get(f"/conversations/{new_id()}")

        assert {code(answer) for answer in answers} == {(404, "conversation_not_found")}
        assert [answer.json() for answer in answers] == [missing.json()] * 6
        assert (await stranger.get("/conversations")).json()["items"] == []

    async def test_a_viewer_looks_and_touches_nothing(self, bot: Bot, people) -> None:
        viewer = await people.member(bot.tenant_id, Role.VIEWER)
        conversation = await bot.hears("你好")

        looks = [
            await viewer.get(f"/conversations/{conversation}{rest}") for rest in ("", "/messages")
        ]
        touches = [await act(viewer, conversation, action) for action in ACTIONS]
        touches.append(await say(viewer, conversation))

        assert [answer.status_code for answer in looks] == [200, 200]
        assert {code(answer) for answer in touches} == {(403, "forbidden")}

    async def test_an_operator_sees_nothing_of_it(self, bot: Bot, people) -> None:
        operator = await people.operator()
        conversation = await bot.hears("你好")

        assert code(await operator.get(f"/conversations/{conversation}")) == (403, "forbidden")
        assert code(await act(operator, conversation, "take-over")) == (403, "forbidden")
