"""The reconciler when the whole fleet is concerned: nobody is heard, or its place has changed."""

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from control_plane.fleet import refits
from control_plane.fleet.plan import SILENT_AFTER, START_WITHIN
from control_plane.fleet.refits import REFIT_WITHIN, WAITS_FOR_REFITS
from control_plane.instances import client

SECOND = timedelta(seconds=1)


class TestAnAgentThatIsNotHeard:
    """Whoever cannot be reached may be we ourselves."""

    async def test_is_left_alone_while_it_answers_however_long_every_api_is_away(
        self, fleet, stand_in
    ) -> None:
        instance_id, given = await fleet.run()
        before = fleet.place.get(instance_id)
        stand_in.answers = True

        pauses = []
        for _ in range(12):
            fleet.clock.advance(timedelta(seconds=10))
            pauses.append(await fleet.look(instance_id))
        shown = await fleet.condition(instance_id, "AgentConnected")
        phase = await fleet.phase(instance_id)
        versions = await fleet.versions()
        await fleet.look(instance_id)

        assert fleet.place.get(instance_id) == before
        assert fleet.place.calls["stop"] == 0
        assert (shown["status"], shown["reason"]) == (False, "cut_off")
        assert shown["message"].startswith("it answers, but cannot reach the control plane")
        assert phase == "degraded"
        # It is asked as often as it would have reported, and nothing is written meanwhile.
        assert pauses[3:] == [timedelta(seconds=10)] * 9
        assert await fleet.versions() == versions

        await fleet.beat(instance_id, given)
        await fleet.look(instance_id)
        assert await fleet.phase(instance_id) == "running"

    async def test_is_replaced_when_it_hangs(
        self, fleet, stand_in, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "HEALTH_TIMEOUT", timedelta(milliseconds=50))
        instance_id, _ = await fleet.run()
        before = fleet.place.get(instance_id)
        stand_in.answers = stand_in.hangs = True

        fleet.clock.advance(SILENT_AFTER + SECOND)
        await fleet.look(instance_id)

        assert stand_in.asked >= 1
        assert fleet.place.get(instance_id).ref != before.ref
        assert fleet.place.calls["stop"] == 1

    async def test_is_not_asked_while_it_is_heard(self, fleet, stand_in) -> None:
        instance_id, given = await fleet.run()
        for _ in range(6):
            fleet.clock.advance(timedelta(seconds=20))
            await fleet.beat(instance_id, given)
            await fleet.look(instance_id)

        assert stand_in.asked == 0

    async def test_gets_time_for_a_session_of_which_a_restored_database_knows_nothing(
        self, fleet, superuser: asyncpg.Connection
    ) -> None:
        instance_id, _ = await fleet.run()
        before = fleet.place.get(instance_id)
        fleet.clock.advance(timedelta(hours=1))
        await superuser.execute("DELETE FROM agent_sessions")

        await fleet.look(instance_id)
        fleet.clock.advance(START_WITHIN)
        await fleet.look(instance_id)
        held = fleet.place.get(instance_id)
        fleet.clock.advance(SECOND)
        await fleet.look(instance_id)

        assert held == before
        assert fleet.place.get(instance_id).ref != before.ref


class TestAPlaceThatChanged:
    async def test_takes_a_few_agents_away_at_a_time(
        self, fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refits, "REFITS_AT_ONCE", 2)
        bots = [(await fleet.run(channel=False))[0] for _ in range(4)]
        refs = {each: fleet.place.get(each).ref for each in bots}

        def old() -> list[UUID]:
            return [each for each in bots if fleet.place.get(each).ref == refs[each]]

        fleet.place.image = "2"
        pauses = [await fleet.look(each) for each in bots]
        first = old()
        await fleet.look(bots[2])
        still = old()
        # One comes back, and makes room for one.
        given = await fleet.bootstrap(bots[0])
        await fleet.look(bots[0])
        await fleet.beat(bots[0], given)
        await fleet.look(bots[0])
        await fleet.look(bots[2])
        await fleet.look(bots[3])

        assert first == still == bots[2:]
        assert pauses[2:] == [WAITS_FOR_REFITS] * 2
        assert old() == bots[3:]

    async def test_is_not_held_up_for_ever_by_those_that_do_not_come_back(
        self, fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refits, "REFITS_AT_ONCE", 1)
        one, other = [(await fleet.run(channel=False))[0] for _ in range(2)]
        before = fleet.place.get(other).ref
        fleet.place.image = "2"
        await fleet.look(one)
        await fleet.look(other)
        held = fleet.place.get(other).ref
        fleet.clock.advance(REFIT_WITHIN)
        await fleet.look(other)

        assert held == before
        assert fleet.place.get(other).ref != before
