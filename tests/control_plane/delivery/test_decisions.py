"""What people decide about deliveries: over REST, against a real agent API."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from adapters import registry
from control_plane.access.permissions import Role
from control_plane.delivery.lanes import MAX_AGE
from tests.conftest import Person
from tests.control_plane.conversations.scene import Bot, Worker
from tests.control_plane.delivery.stand_in import StandIn


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform recognises no repeated send."""
    kind = replace(registry.kind("webchat"), resend_safe_s=0.0)
    monkeypatch.setitem(registry._KINDS, "webchat", kind)


async def listed(bot: Bot, query: str = "", person: Person | None = None) -> list[dict[str, Any]]:
    answer = await (person or bot.owner).get(f"/deliveries{query}")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
async def unconfirmed(bot: Bot, agent: StandIn, worker: Worker, forgetful: None) -> dict[str, Any]:
    """Nobody knows whether the platform sent 一."""
    conversation = await bot.hears("你好")
    await bot.says(conversation, "一")
    agent.then(agent.lose())
    await worker.all()
    [found] = await listed(bot, "?state=unconfirmed")
    return found


class TestList:
    async def test_says_what_was_tried_and_why_it_is_where_it_is(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一", "二")
        agent.then(agent.fail("recipient_invalid"))
        await worker.all()

        second, first = await listed(bot, f"?conversation_id={conversation}")
        assert (first["state"], second["state"]) == ("failed", "sent")
        assert first["reason"] == "The platform does not know the recipient."
        shown = (await bot.owner.get(f"/deliveries/{first['id']}")).json()
        [attempt] = shown["log"]
        assert (attempt["number"], attempt["outcome"]) == (1, "failed")
        assert [part["error_class"] for part in attempt["parts"]] == ["recipient_invalid"]
        assert attempt["started_at"] <= attempt["ended_at"]

    async def test_comes_in_pages_of_one_state(
        self, bot: Bot, agent: StandIn, worker: Worker
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, *"一二三")
        agent.then(agent.fail("chat_gone"), agent.answer, agent.fail("chat_gone"))
        await worker.all()

        page = (await bot.owner.get("/deliveries?state=failed&limit=1")).json()
        rest = await listed(bot, f"?state=failed&limit=1&cursor={page['next']}")

        assert [item["number"] for item in page["items"] + rest] == [4, 2]

    async def test_shows_what_was_withheld(self, bot: Bot) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await bot.owner.post(f"/conversations/{conversation}/take-over")

        [held] = await listed(bot, "?state=withheld")
        assert held["reason"] == "A person took over before it was sent."

    async def test_of_another_tenant_is_empty(self, bot: Bot, people) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        stranger = await people.owner()

        assert (await stranger.get("/deliveries")).json()["items"] == []
        [own] = await listed(bot)
        assert (await stranger.get(f"/deliveries/{own['id']}")).status_code == 404


class TestSettle:
    @pytest.mark.parametrize(
        ("outcome", "state", "error_class"),
        [("sent", "sent", None), ("not_sent", "failed", "not_sent")],
    )
    async def test_decides_what_nobody_knew_and_is_written_down(
        self,
        bot: Bot,
        agent: StandIn,
        unconfirmed: dict[str, Any],
        superuser: asyncpg.Connection,
        outcome: str,
        state: str,
        error_class: str | None,
    ) -> None:
        path = f"/deliveries/{unconfirmed['id']}/settle"
        for _ in range(2):
            answer = await bot.owner.post(path, {"outcome": outcome})
            assert answer.status_code == 200, answer.text
            settled = answer.json()
            assert (settled["state"], settled["error_class"]) == (state, error_class)
            assert settled["decision"]["what"] == outcome
            assert settled["decision"]["member_id"] == str(bot.owner.member_id)

        assert len(agent.calls) == 1
        entries = await superuser.fetch("SELECT 1 FROM audit WHERE action = 'delivery.settle'")
        assert len(entries) == 1
        other = "sent" if outcome == "not_sent" else "not_sent"
        assert (await bot.owner.post(path, {"outcome": other})).json()["code"] == "not_unconfirmed"

    async def test_is_not_for_who_only_looks(
        self, bot: Bot, unconfirmed: dict[str, Any], people
    ) -> None:
        viewer = await people.member(bot.tenant_id, Role.VIEWER)
        path = f"/deliveries/{unconfirmed['id']}/settle"

        assert (await viewer.post(path, {"outcome": "sent"})).status_code == 403

    async def test_of_two_that_disagree_one_wins(
        self, bot: Bot, unconfirmed: dict[str, Any]
    ) -> None:
        path = f"/deliveries/{unconfirmed['id']}/settle"
        answers = await asyncio.gather(
            bot.owner.post(path, {"outcome": "sent"}), bot.owner.post(path, {"outcome": "not_sent"})
        )

        assert sorted(answer.status_code for answer in answers) == [200, 409]


class TestResend:
    async def test_of_an_unconfirmed_one_insists_and_goes_first(
        self, bot: Bot, agent: StandIn, worker: Worker, unconfirmed: dict[str, Any]
    ) -> None:
        await bot.says(UUID(unconfirmed["conversation_id"]), "二")
        path = f"/deliveries/{unconfirmed['id']}/resend"
        answers = await asyncio.gather(*[bot.owner.post(path) for _ in range(3)])
        assert [answer.json()["state"] for answer in answers] == ["queued"] * 3

        await worker.all()

        assert agent.platform == ["一", "二"]
        assert [(call.attempt, call.insist) for call in agent.calls] == [
            (1, False),
            (2, True),
            (1, False),
        ]
        assert [item["state"] for item in await listed(bot)] == ["sent", "sent"]

    async def test_begins_the_count_of_attempts_anew(
        self, bot: Bot, agent: StandIn, worker: Worker, program: Person
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        agent.then(*[agent.fail("server_busy")] * 11)
        for _ in range(10):
            await worker.again(conversation)
            await bot.later(timedelta(minutes=10))
        [failed] = await listed(bot, "?state=failed", program)
        assert failed["attempts"] == 10

        await program.post(f"/deliveries/{failed['id']}/resend")
        await worker.again(conversation)
        assert [item["state"] for item in await listed(bot, "", program)] == ["queued"]
        await bot.later(timedelta(minutes=10))
        await worker.again(conversation)

        assert agent.platform == ["一"]
        assert [call.insist for call in agent.calls[9:]] == [False, True, False]

    async def test_of_an_expired_one_is_as_young_as_the_decision(
        self, bot: Bot, agent: StandIn, worker: Worker, program: Person
    ) -> None:
        conversation = await bot.hears("你好")
        await bot.says(conversation, "一")
        await bot.later(MAX_AGE + timedelta(seconds=1))
        await worker.all()
        [expired] = await listed(bot, "?state=expired", program)
        assert expired["error_class"] == "too_old"

        await program.post(f"/deliveries/{expired['id']}/resend")
        await worker.all()

        assert agent.platform == ["一"]

    async def test_that_may_have_been_sent_stays_unconfirmed_when_somebody_takes_over(
        self, bot: Bot, unconfirmed: dict[str, Any]
    ) -> None:
        await bot.owner.post(f"/deliveries/{unconfirmed['id']}/resend")
        await bot.owner.post(f"/conversations/{unconfirmed['conversation_id']}/take-over")

        assert [item["state"] for item in await listed(bot)] == ["unconfirmed"]

    async def test_is_for_the_one_who_answers_there(
        self, bot: Bot, unconfirmed: dict[str, Any], people
    ) -> None:
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        await colleague.post(f"/conversations/{unconfirmed['conversation_id']}/take-over")
        path = f"/deliveries/{unconfirmed['id']}/resend"

        assert (await bot.owner.post(path)).json()["code"] == "not_owner"
        assert (await colleague.post(path)).status_code == 200

    async def test_is_refused_for_what_was_sent_and_for_what_was_erased(
        self, bot: Bot, agent: StandIn, worker: Worker, unconfirmed: dict[str, Any]
    ) -> None:
        conversation = unconfirmed["conversation_id"]
        await bot.says(UUID(conversation), "二")
        await worker.all()
        [sent] = await listed(bot, "?state=sent")
        contact = (await bot.owner.get(f"/conversations/{conversation}")).json()["contact"]["id"]

        first = await bot.owner.post(f"/deliveries/{sent['id']}/resend")
        assert (await bot.owner.post(f"/contacts/{contact}/erase")).status_code == 200
        second = await bot.owner.post(f"/deliveries/{unconfirmed['id']}/resend")

        assert [first.json()["code"], second.json()["code"]] == ["not_resendable", "contact_erased"]


class TestResendOfMany:
    async def test_takes_those_of_a_class_and_leaves_a_colleagues(
        self, bot: Bot, agent: StandIn, worker: Worker, people
    ) -> None:
        conversations = [await bot.hears("你好", key=key) for key in ("lin", "mei", "wei")]
        agent.then(*[agent.fail("secret_invalid")] * 3, agent.fail("chat_gone"))
        for conversation in conversations:
            await bot.says(conversation, "一")
            await worker.all()
        await bot.says(conversations[0], "二")
        await worker.all()
        colleague = await people.member(bot.tenant_id, Role.MEMBER)
        await colleague.post(f"/conversations/{conversations[1]}/take-over")

        body = {"state": "failed", "error_class": "secret_invalid"}
        answer = await bot.owner.post("/deliveries/resend", body)
        await worker.all()

        assert answer.json() == {"resent": 2, "more": False}
        assert agent.platform == ["一", "一"]
        assert {item["error_class"] for item in await listed(bot, "?state=failed")} == {
            "secret_invalid",
            "chat_gone",
        }
