import asyncio
import dataclasses

import pytest

from adapters.base import NotAccepted
from instance_agent.backoff import Backoff
from instance_agent.holds import ELSEWHERE
from tests.instance_agent.supervisor_world import (
    CHANNEL,
    OTHER,
    Account,
    Connection,
    Never,
    spec,
    until,
)


class TestACutLine:
    async def test_is_told_at_once_with_the_moment_until_which_it_was_there(
        self, supervisor, statuses
    ):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        Account.hosts["a"].disconnected()
        await statuses.until((CHANNEL, "connecting", None))
        assert supervisor.scope(CHANNEL).status.proof_at.timestamp() == 1000.0
        Account.hosts["a"].connected()
        await statuses.until((CHANNEL, "connected", None))

    async def test_of_an_adapter_that_has_ended_is_nobodys(self, supervisor, statuses):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        former = Account.hosts["a"]
        await supervisor.swap([spec("b")])
        await statuses.until((CHANNEL, "connecting", None))
        await statuses.until_true(lambda: supervisor.scope(CHANNEL).connected)
        former.disconnected()
        assert supervisor.scope(CHANNEL).connected

    async def test_says_nothing_of_one_that_has_failed(self, supervisor, statuses):
        await supervisor.swap([spec("a", behaviour="end")])
        await statuses.until((CHANNEL, "connected", None))
        Account.end.set()
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        Account.hosts["a"].disconnected()
        assert (CHANNEL, "connecting", "the adapter returned") not in statuses.seen


class TestBelongings:
    async def test_what_an_adapter_started_ends_with_it(self, supervisor, statuses):
        await supervisor.swap([spec("a", behaviour="leave")])
        await statuses.until((CHANNEL, "connected", None))
        [left] = Account.left
        Account.end.set()
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        assert left.cancelled()

    @pytest.mark.parametrize("kind", ["shared", "single"])
    async def test_what_a_call_started_ends_with_the_channel(self, supervisor, statuses, kind):
        await supervisor.swap([spec("a", kind=kind)])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.scope(CHANNEL).callback("go", verified=True)
        [left] = Account.left
        assert not left.done()
        await supervisor.swap([])
        assert left.cancelled()

    async def test_what_a_call_started_before_the_account_was_ours_ends_as_well(
        self, supervisor, statuses
    ):
        await supervisor.swap([spec("a", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.swap([spec("a", kind="single"), spec("b", kind="single", channel=OTHER)])
        await statuses.until((OTHER, "failed", ELSEWHERE))
        await supervisor.scope(OTHER).callback("go", verified=True)
        await supervisor.swap([])
        assert all(task.cancelled() for task in Account.left)

    async def test_what_a_call_started_after_the_end_ends_before_the_next_start(
        self, supervisor, statuses, monkeypatch
    ):
        monkeypatch.setattr(Never, "uniform", lambda self, a, b: b)
        await supervisor.swap([spec("a", behaviour="return")])
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        await supervisor.scope(CHANNEL).callback("go", verified=True)
        await statuses.until_true(lambda: Account.life.count("start a") == 2)
        assert Account.left[0].cancelled()

    async def test_a_call_that_waits_for_it_is_not_accepted(self, supervisor, statuses):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        calling = asyncio.create_task(supervisor.scope(CHANNEL).callback("wait", verified=True))
        await Account.waiting.wait()
        await supervisor.swap([])
        with pytest.raises(NotAccepted):
            await calling

    async def test_what_the_agent_starts_on_its_behalf_goes_on(self, supervisor, monkeypatch):
        flights = []

        class Intake:
            async def take(self, *_, position):
                flights.append(asyncio.create_task(asyncio.Event().wait()))

        async def reporting(self, behaviour):
            self.host.connected()
            await self.host.report([])
            await asyncio.Event().wait()

        monkeypatch.setattr(Account, "_behave", reporting)
        supervisor._around = dataclasses.replace(supervisor._around, intake=Intake())
        await supervisor.swap([spec("a")])
        await until(lambda: flights)
        await supervisor.swap([])
        assert not flights[0].done()
        flights[0].cancel()


class TestSocket:
    async def test_lasts_as_long_as_the_platform_says(self, supervisor, statuses):
        await supervisor.swap([spec("a", kind="called")])
        await statuses.until((CHANNEL, "connected", None))
        connection = Connection()
        connection.cut.set()

        await supervisor.scope(CHANNEL).socket(connection)

        assert Account.life == ["start a", "socket a", "socket of a ends"]

    async def test_ends_with_its_adapter_before_the_next_begins(self, supervisor, statuses):
        await supervisor.swap([spec("before", kind="called")])
        await statuses.until((CHANNEL, "connected", None))
        connection = Connection()
        serving = asyncio.create_task(supervisor.scope(CHANNEL).socket(connection))
        await connection.used.wait()

        await supervisor.swap([spec("after", kind="called")])

        await serving
        await statuses.until_true(lambda: "start after" in Account.life)
        ends = Account.life.index("socket of before ends"), Account.life.index("stop before")
        assert max(ends) < Account.life.index("start after")

    async def test_that_comes_in_a_pause_ends_the_pause(self, supervisor, statuses, monkeypatch):
        monkeypatch.setattr(Backoff, "next", lambda _: 1e6)
        await supervisor.swap([spec("a", kind="called", behaviour="refuse")])
        await statuses.until((CHANNEL, "failed", "no such account"))

        with pytest.raises(NotAccepted):
            await supervisor.scope(CHANNEL).socket(Connection())

        await statuses.until_true(lambda: Account.life.count("start a") == 2)
