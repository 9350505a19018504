"""The life of a tenant: questions before a decision, policy, rest while suspended, and its end."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.access.permissions import WORKS_IN_STATE
from control_plane.app import create_app
from control_plane.db.session import Database, Scope
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from control_plane.kit.errors import Conflict
from control_plane.kit.ids import new_id
from control_plane.parts import build
from control_plane.tenants import life, service
from control_plane.tenants.models import TenantState
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from tests.conftest import PUBLIC_URL, People
from tests.control_plane.conversations.scene import Worker, make_bot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = {"question": "Which shops are yours?"}


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestQuestions:
    async def test_go_to_the_tenant_and_its_answer_comes_back(self, people: People) -> None:
        owner = await people.owner(state=TenantState.PENDING)
        operator = await people.operator()
        path = f"/tenants/{owner.tenant_id}"

        asked = await operator.post(f"{path}/ask", QUESTION)
        seen = await owner.get(path)
        answered = await owner.post(f"{path}/information", {"text": "The one at the station."})
        decided = await operator.post(f"{path}/approve")

        assert asked.json()["state"] == seen.json()["state"] == "needs_information"
        assert seen.json()["reason"] == QUESTION["question"]
        assert answered.json()["state"] == "pending"
        assert answered.json()["information"] == "The one at the station."
        assert decided.json()["state"] == "active"

    async def test_can_be_asked_again_in_other_words(self, people: People, superuser) -> None:
        owner = await people.owner(state=TenantState.PENDING)
        operator = await people.operator()
        for question in ("One?", "One?", "Two?"):
            await operator.post(f"/tenants/{owner.tenant_id}/ask", {"question": question})

        asked = await superuser.fetch(
            "SELECT after->>'reason' FROM audit WHERE action = 'tenant.ask' ORDER BY id"
        )
        assert [row[0] for row in asked] == ["One?", "Two?"]

    async def test_an_answer_to_a_rejection_asks_for_another_look(self, people: People) -> None:
        owner = await people.owner(state=TenantState.REJECTED)

        answer = await owner.post(f"/tenants/{owner.tenant_id}/information", {"text": "But..."})

        assert answer.json()["state"] == "pending"

    async def test_nobody_answers_for_another_tenant(self, people: People) -> None:
        owner = await people.owner(state=TenantState.PENDING)
        other = await people.owner(state=TenantState.PENDING)

        answer = await other.post(f"/tenants/{owner.tenant_id}/information", {"text": "x"})

        assert code(answer) == (404, "tenant_not_found")

    async def test_an_active_tenant_is_asked_nothing(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()

        answer = await operator.post(f"/tenants/{owner.tenant_id}/ask", QUESTION)

        assert code(answer) == (409, "wrong_tenant_state")


class TestPolicy:
    async def test_can_approve_every_registration(
        self, app_url, keys, clock, tmp_path, superuser, storage
    ) -> None:
        parts = build(
            database_url=app_url,
            keys=keys,
            clock=clock,
            public_url=PUBLIC_URL,
            approval="automatic",
            media=storage,
        )
        transport = httpx2.ASGITransport(app=create_app(parts, web_pages=tmp_path))
        body = {"company": "Tea", "email": "a@example.com", "password": "correct horse battery"}
        async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
            answers = [await client.post("/api/v1/auth/register", json=body) for _ in range(2)]
        await parts.close()

        assert [answer.json()["state"] for answer in answers] == ["active", "active"]
        audited = await superuser.fetch("SELECT actor_kind, action FROM audit ORDER BY id")
        assert [tuple(row) for row in audited] == [
            ("system", "tenant.register"),
            ("system", "tenant.approve"),
        ]


class TestChange:
    async def test_is_told_to_the_tenants_stream(self, people: People, superuser) -> None:
        owner, operator = await people.owner(), await people.operator()
        await operator.post(f"/tenants/{owner.tenant_id}/suspend", {"reason": "unpaid"})

        told = await superuser.fetchrow(
            "SELECT data->>'state', data->>'reason' FROM stream WHERE type = 'tenant.changed'"
        )
        assert tuple(told) == ("suspended", "unpaid")

    async def test_takes_effect_at_the_next_request(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        assert (await owner.post("/instances", {"name": "A"})).status_code == 201

        await operator.post(f"/tenants/{owner.tenant_id}/suspend")

        assert code(await owner.post("/instances", {"name": "B"})) == (403, "tenant_not_active")
        assert (await owner.get("/instances")).status_code == 200


class TestSuspended:
    @pytest.fixture
    async def bot(self, parts, people: People) -> Any:
        bot = await make_bot(parts, await people.owner())
        items = [{"question": "Open?", "answer": "Always."}]
        await bot.owner.call("PUT", "/answers", json={"items": items})
        return bot

    async def test_stores_messages_but_begins_no_turn_until_it_is_resumed(
        self, parts, people: People, bot, superuser
    ) -> None:
        operator = await people.operator()
        turning = Turns(parts.house.database, parts.house.keys, parts.house.clock, parts.agents)
        worker = Worker(parts.house.database, turns.WORK, turning.run)
        await operator.post(f"/tenants/{bot.tenant_id}/suspend")

        conversation = await bot.hears("Open?")
        await worker.all()
        assert await bot.texts(conversation) == [("contact", "Open?")]
        assert await superuser.fetchval("SELECT count(*) FROM turns") == 0
        await operator.post(f"/tenants/{bot.tenant_id}/resume")
        await worker.all()

        assert await bot.texts(conversation) == [("contact", "Open?"), ("bot", "Always.")]

    async def test_delivers_nothing_until_it_is_resumed(
        self, parts, people: People, bot, superuser
    ) -> None:
        house, operator = parts.house, await people.operator()
        handler = Lanes(house.database, house.keys, house.clock, parts.agents)
        worker = Worker(house.database, lanes.WORK, handler.deliver)
        conversation = await bot.hears("Open?")
        await bot.says(conversation, "Always.")
        await operator.post(f"/tenants/{bot.tenant_id}/suspend")

        # There is no agent: an active tenant's lane would ask again within seconds.
        assert await worker.once() == service._REST
        assert await worker.claim() is None
        await operator.post(f"/tenants/{bot.tenant_id}/resume")

        assert await worker.claim() is not None
        assert await bot.deliveries(conversation) == ["queued"]


class TestTable:
    def test_says_for_each_state_what_works(self) -> None:
        assert WORKS_IN_STATE.keys() == set(TenantState)

    def test_nothing_leads_out_of_the_end(self) -> None:
        for action in life.MOVES.keys() - {"delete"}:
            for state in life.GONE:
                with pytest.raises(Conflict):
                    life.after(state, action)


class Life(RuleBasedStateMachine):
    """Whatever operators and tenants try, in the database: nothing runs without an approval."""

    database: Database
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.approved = False
        self.ended = False
        self.tenant_id = self.loop.run_until_complete(self._register())

    async def _register(self) -> Any:
        async with self.database.session() as session:
            made = await service.create(
                session,
                company="Tea",
                email=f"{new_id()}@example.com",
                password_hash="x",
                now=NOW,
            )
        return made.tenant_id

    @rule(action=st.sampled_from(sorted(life.MOVES)), reason=st.sampled_from([None, "why"]))
    def move(self, action: str, reason: str | None) -> None:
        before = self.state
        try:
            self.loop.run_until_complete(self._move(action, reason))
        except Conflict:
            assert self.state == before
            return
        self.approved |= action == "approve"
        self.ended |= action == "delete"

    async def _move(self, action: str, reason: str | None) -> None:
        async with self.database.session(Scope(operator=True)) as session:
            await service.move(session, self.tenant_id, action, actor=None, now=NOW, reason=reason)

    @property
    def state(self) -> str:
        return self.loop.run_until_complete(self._state())

    async def _state(self) -> str:
        async with self.database.session(Scope(operator=True)) as session:
            return (await service.get(session, self.tenant_id)).state

    @invariant()
    def runs_only_after_an_approval(self) -> None:
        if not self.approved:
            assert self.state not in {"active", "suspended"}

    @precondition(lambda self: self.ended)
    @invariant()
    def never_comes_back(self) -> None:
        assert self.state == "deleted"


class TestMachine:
    def test_holds(self, app_url: str) -> None:
        loop = asyncio.new_event_loop()
        database = Database(app_url, pool_size=1)
        try:
            run_state_machine_as_test(
                type("LifeHere", (Life,), {"database": database, "loop": loop}),
                settings=settings(
                    max_examples=15,
                    stateful_step_count=12,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            loop.run_until_complete(database.close())
            loop.close()
