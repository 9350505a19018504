"""The queue over a real database: who gets what, when somebody has room, comes back or leaves."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from control_plane.db import leases
from control_plane.db.session import Scope
from control_plane.routing import members, settings, waiting
from control_plane.routing.waiting import Wait
from control_plane.routing.worker import LOOK_EVERY, REST, Router
from control_plane.stream import log as stream
from tests.control_plane.conversations.scene import Gated
from tests.control_plane.routing.conftest import Desk

MINUTE = timedelta(minutes=1)


async def entries(desk: Desk, kind: str) -> list[dict[str, object]]:
    """What the tenant's stream tells of a kind."""
    tenant = desk.bot.tenant_id
    async with desk.bot.session() as session:
        [(epoch, _seq)] = (await stream.heads(session, [tenant])).values()
        found = await stream.read(session, tenant, epoch=epoch, after=0, limit=1000)
    return [entry.data for entry in found if entry.type == kind]


class TestSwitchedOff:
    async def test_nobody_is_given_anything_and_there_is_no_work(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        await desk.hires()
        conversation = await desk.asks()

        assert await desk.who(conversation) == ("waiting", None)
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'routing'") == 0

    async def test_the_work_ends_with_the_next_look(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        await desk.routes()
        await desk.routes(enabled=False)
        await desk.router.all()

        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = 'routing'") == 0


class TestAssigning:
    async def test_what_comes_to_wait_is_given_to_whoever_is_there(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires()
        await desk.router.all()
        conversation = await desk.asks()
        await desk.router.once()

        assert await desk.who(conversation) == ("human", person.member_id)
        changes = await entries(desk, "conversation.owner_changed")
        assert [one["owner"] for one in changes] == ["waiting", "human"]
        assert (await desk.member(person))["load"] == 1
        answer = await person.post(
            f"/conversations/{conversation}/messages",
            {"segments": [{"type": "text", "text": "Here I am"}]},
        )
        assert answer.status_code == 202

    async def test_what_waited_before_is_taken_up_when_it_is_switched_on(self, desk: Desk) -> None:
        conversation = await desk.asks()
        person = await desk.hires()
        await desk.routes()
        await desk.router.all()

        assert await desk.who(conversation) == ("human", person.member_id)

    async def test_nobody_has_more_than_they_take(self, desk: Desk) -> None:
        await desk.routes(capacity=2)
        person = await desk.hires()
        asked = [await desk.asks(key) for key in ("an", "bo", "cy")]
        await desk.router.all()

        assert [await desk.who(one) for one in asked] == [
            ("human", person.member_id),
            ("human", person.member_id),
            ("waiting", None),
        ]
        queue = (await desk.owner.get("/routing/queue")).json()
        assert [one["conversation_id"] for one in queue["items"]] == [str(asked[2])]
        assert queue["more"] is False

    @pytest.mark.parametrize("ending", ["close", "hand-back"])
    async def test_the_queue_moves_as_soon_as_somebody_has_room(
        self, desk: Desk, ending: str
    ) -> None:
        await desk.routes(capacity=1)
        person = await desk.hires()
        first, second = await desk.asks("an"), await desk.asks("bo")
        await desk.router.all()
        assert await desk.who(second) == ("waiting", None)

        await person.post(f"/conversations/{first}/{ending}")
        await desk.router.once()

        assert await desk.who(second) == ("human", person.member_id)

    async def test_it_moves_when_somebody_comes_back(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires("away")
        conversation = await desk.asks()
        await desk.router.all()
        assert await desk.who(conversation) == ("waiting", None)

        await desk.says(person, "online")
        await desk.router.once()

        assert await desk.who(conversation) == ("human", person.member_id)

    async def test_it_moves_when_somebody_may_have_more(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires(capacity=1)
        await desk.asks("an")
        second = await desk.asks("bo")
        await desk.router.all()

        path = f"/routing/members/{person.member_id}"
        await desk.owner.call("PUT", path, json={"capacity": 2})
        await desk.router.once()

        assert await desk.who(second) == ("human", person.member_id)

    async def test_whose_member_left_waits_and_is_given_to_somebody_else(self, desk: Desk) -> None:
        await desk.routes()
        leaver = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()
        stayer = await desk.hires()
        await desk.router.all()

        await desk.owner.delete(f"/members/{leaver.member_id}")
        await desk.router.once()

        assert await desk.who(conversation) == ("human", stayer.member_id)

    async def test_who_may_no_longer_answer_is_given_nothing(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires()
        await desk.owner.patch(f"/members/{person.member_id}", {"role": "viewer"})
        conversation = await desk.asks()
        await desk.router.all()

        assert await desk.who(conversation) == ("waiting", None)

    async def test_a_channel_that_asks_for_a_skill_gets_it(self, desk: Desk) -> None:
        skill = {"key": "tea", "name": "Tea"}
        need = {"channel_id": str(desk.bot.channel_id), "skill": "tea"}
        await desk.routes(skills=[skill], needs=[need], patience_min=5)
        other = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()
        before = await desk.who(conversation)
        expert = await desk.hires(skills={"tea": 3})
        await desk.router.all()

        assert before == ("waiting", None)
        assert await desk.who(conversation) == ("human", expert.member_id)
        assert other.member_id != expert.member_id

    async def test_beyond_the_patience_somebody_without_it_will_do(self, desk: Desk) -> None:
        skill = {"key": "tea", "name": "Tea"}
        need = {"channel_id": str(desk.bot.channel_id), "skill": "tea"}
        await desk.routes(skills=[skill], needs=[need], patience_min=5)
        person = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()

        desk.clock.advance(5 * MINUTE)
        await desk.look()

        assert await desk.who(conversation) == ("human", person.member_id)

    async def test_somebody_who_comes_back_to_a_customer_is_preferred(self, desk: Desk) -> None:
        await desk.routes(weights={"known": 9})
        known, other = await desk.hires(), await desk.hires()
        conversation = await desk.bot.hears("hello")
        await known.post(f"/conversations/{conversation}/take-over")
        await known.post(
            f"/conversations/{conversation}/messages",
            {"segments": [{"type": "text", "text": "Hello"}]},
        )
        await known.post(f"/conversations/{conversation}/close")
        # The other one has been idle for longer.
        await known.post(f"/conversations/{await desk.bot.hears('x', key='x')}/take-over")
        assert await desk.asks() == conversation
        await desk.router.all()

        assert await desk.who(conversation) == ("human", known.member_id)
        assert other.member_id != known.member_id

    async def test_nothing_is_given_out_while_the_tenant_is_suspended(self, desk: Desk) -> None:
        await desk.routes()
        await desk.hires()
        conversation = await desk.asks()
        operator = await desk.people.operator()
        await operator.post(f"/tenants/{desk.bot.tenant_id}/suspend")
        await desk.router.once()
        await operator.post(f"/tenants/{desk.bot.tenant_id}/resume")
        assert await desk.who(conversation) == ("waiting", None)
        await desk.router.once()

        assert (await desk.who(conversation))[0] == "human"

    async def test_it_rests_while_there_is_nothing_to_watch(self, desk: Desk) -> None:
        await desk.routes()

        assert await desk.router.once() == REST
        await desk.asks()
        assert await desk.router.once() == LOOK_EVERY


class TestAbsence:
    async def test_who_shows_no_socket_for_long_is_away(self, desk: Desk) -> None:
        await desk.routes(away_after_min=10)
        person = await desk.hires()
        desk.clock.advance(11 * MINUTE)
        conversation = await desk.asks()
        await desk.router.all()

        assert await desk.who(conversation) == ("waiting", None)
        # Their token has ended meanwhile, and so has the owner's; the table has not.
        async with desk.bot.session() as session:
            kept = await settings.read(session, desk.bot.tenant_id)
            [shown] = await members.present(session, desk.bot.tenant_id, kept, desk.clock.now())
        assert (shown.id, shown.said, shown.state) == (person.member_id, "online", "away")

    async def test_their_socket_brings_them_back_and_the_queue_moves(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires()
        desk.clock.advance(11 * MINUTE)
        conversation = await desk.asks()
        await desk.router.all()

        async with desk.bot.session() as session:
            await members.seen(session, [person.member_id], desk.clock.now())
        await desk.router.once()

        assert await desk.who(conversation) == ("human", person.member_id)

    async def test_whoever_proves_themselves_on_a_socket_is_seen(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        person = await desk.hires()
        desk.clock.advance(2 * MINUTE)

        await desk.bot.parts.realtime.prove(person.token)

        seen = await superuser.fetchval("SELECT seen_at FROM routing_members")
        assert seen == desk.clock.now()

    async def test_whoever_is_seen_all_the_time_costs_nothing(
        self, desk: Desk, superuser: asyncpg.Connection
    ) -> None:
        person = await desk.hires()
        look = "SELECT xmin::text FROM routing_members"
        before = await superuser.fetchval(look)
        desk.clock.advance(timedelta(seconds=19))
        async with desk.bot.session() as session:
            await members.seen(session, [person.member_id], desk.clock.now())

        assert await superuser.fetchval(look) == before


class TestTwoWhoGive:
    async def test_never_give_more_than_a_member_takes(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await desk.routes(capacity=1)
        person = await desk.hires()
        asked = [await desk.asks(key) for key in ("an", "bo")]
        tenant, now = desk.bot.tenant_id, desk.clock.now()
        async with desk.bot.session() as session:
            kept = await settings.read(session, tenant)
            await waiting.begin(session, tenant, kept, now)
            queue = await waiting.queue(session, tenant)
        gate = Gated(waiting.assign)

        async def give(wait: Wait) -> bool:
            async with desk.bot.database.session(Scope(tenants=(tenant,))) as session:
                entry = await waiting.give(session, kept, wait, person.member_id, now)
                return entry is not None

        monkeypatch.setattr(waiting, "assign", gate)
        first = asyncio.create_task(give(queue[0]))
        await gate.wait()
        monkeypatch.undo()
        second = asyncio.create_task(give(queue[1]))
        gate.open.set()

        assert [await first, await second] == [True, False]
        assert [(await desk.who(one))[0] for one in asked] == ["human", "waiting"]

    async def test_a_wait_that_has_ended_is_given_to_nobody(self, desk: Desk) -> None:
        await desk.routes()
        person = await desk.hires()
        conversation = await desk.asks()
        tenant, now = desk.bot.tenant_id, desk.clock.now()
        async with desk.bot.session() as session:
            kept = await settings.read(session, tenant)
            await waiting.begin(session, tenant, kept, now)
            [wait] = await waiting.queue(session, tenant)
        await desk.owner.post(f"/conversations/{conversation}/take-over")

        async with desk.bot.session() as session:
            assert await waiting.give(session, kept, wait, person.member_id, now) is None

        assert await desk.who(conversation) == ("human", desk.owner.member_id)

    async def test_whoever_has_lost_the_lease_changes_nothing(self, desk: Desk) -> None:
        await desk.routes()
        await desk.hires()
        conversation = await desk.asks()
        lease = await desk.router.claim()
        assert lease is not None
        async with desk.bot.database.session() as session:
            await leases.release(session, [lease])

        with pytest.raises(leases.LeaseLost):
            await Router(desk.bot.database, desk.clock).look(lease)

        assert await desk.who(conversation) == ("waiting", None)


class TestWhatCustomersAreTold:
    async def test_their_place_and_not_too_often(self, desk: Desk) -> None:
        await desk.routes(place_text="You are number {place}.", place_every_min=5, capacity=1)
        first, second = await desk.asks("an"), await desk.asks("bo")
        await desk.router.all()
        assert await desk.told(first) == ["You are number 1."]
        assert await desk.told(second) == ["You are number 2."]

        await desk.hires()
        await desk.look()
        assert await desk.told(second) == ["You are number 2."]
        desk.clock.advance(5 * MINUTE)
        await desk.look()
        await desk.look()

        assert await desk.told(second) == ["You are number 2.", "You are number 1."]

    async def test_once_that_nobody_works_now(self, desk: Desk) -> None:
        hours = {"time_zone": "UTC", "week": {}}
        await desk.routes(hours=hours, closed_text="Tomorrow at nine.", place_text="{place}")
        conversation = await desk.asks()
        await desk.router.all()
        desk.clock.advance(10 * MINUTE)
        await desk.bot.hears("Anybody?")
        await desk.look()

        assert await desk.told(conversation) == ["Tomorrow at nine."]

    async def test_nothing_of_that_when_somebody_is_there_all_the_same(self, desk: Desk) -> None:
        await desk.routes(hours={"time_zone": "UTC"}, closed_text="Tomorrow at nine.")
        person = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()

        assert await desk.who(conversation) == ("human", person.member_id)
        assert await desk.told(conversation) == []


class TestSilence:
    async def answered(self, desk: Desk) -> tuple:
        person = await desk.hires()
        conversation = await desk.asks()
        await desk.router.all()
        await person.post(
            f"/conversations/{conversation}/messages",
            {"segments": [{"type": "text", "text": "Is it open?"}]},
        )
        return person, conversation

    async def test_is_warned_of_and_then_ends_the_conversation(self, desk: Desk) -> None:
        closing = {"after_min": 10, "warning": "Still there?", "warn_before_min": 4}
        await desk.routes(closing=closing)
        _person, conversation = await self.answered(desk)
        desk.clock.advance(5 * MINUTE)
        await desk.look()
        assert await desk.told(conversation) == []
        desk.clock.advance(MINUTE)
        await desk.look()
        assert await desk.told(conversation) == ["Still there?"]
        desk.clock.advance(3 * MINUTE)
        await desk.look()
        assert (await desk.who(conversation))[0] == "human"
        desk.clock.advance(MINUTE)
        await desk.look()

        assert await desk.who(conversation) == ("closed", None)
        last = (await entries(desk, "conversation.owner_changed"))[-1]
        assert (last["owner"], last["reason"]) == ("closed", "silent")

    async def test_begins_anew_when_the_customer_answers_the_warning(self, desk: Desk) -> None:
        await desk.routes(closing={"after_min": 10, "warning": "?", "warn_before_min": 4})
        _person, conversation = await self.answered(desk)
        desk.clock.advance(6 * MINUTE)
        await desk.look()
        await desk.bot.hears("Yes")
        desk.clock.advance(30 * MINUTE)
        await desk.look()

        # Now it is us who owe an answer.
        assert (await desk.who_in_table(conversation)) == "human"

    async def test_without_a_warning_it_just_ends(self, desk: Desk) -> None:
        await desk.routes(closing={"after_min": 10})
        _person, conversation = await self.answered(desk)
        desk.clock.advance(10 * MINUTE)
        await desk.look()

        assert await desk.who(conversation) == ("closed", None)

    async def test_makes_room_for_the_next_one(self, desk: Desk) -> None:
        await desk.routes(closing={"after_min": 10}, capacity=1, away_after_min=60)
        person, conversation = await self.answered(desk)
        other = await desk.asks("bo")
        desk.clock.advance(10 * MINUTE)
        await desk.look()

        assert await desk.who(conversation) == ("closed", None)
        assert await desk.who(other) == ("human", person.member_id)
