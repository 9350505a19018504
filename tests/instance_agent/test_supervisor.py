import asyncio
import contextlib
import dataclasses
from random import Random
from typing import ClassVar
from uuid import uuid4

import httpx2
import pytest
from pydantic import BaseModel

from adapters import registry
from adapters.base import ChannelDown, ChannelRefused, Control, NotAccepted
from adapters.model import CallbackAnswer
from adapters.outbound import Door
from instance_agent import supervisor as module
from instance_agent.backoff import Backoff
from instance_agent.holds import ELSEWHERE, Holds
from instance_agent.metrics import Metrics
from instance_agent.protocol import LeaseAnswer, PartOutcome
from instance_agent.supervisor import ChannelSpec, Supervisor, Surroundings

CHANNEL, OTHER = uuid4(), uuid4()


class Settings(BaseModel):
    name: str
    behaviour: str = "connect"


class Account:
    """An adapter that writes down its life."""

    exclusive: ClassVar[bool] = False
    life: ClassVar[list[str]] = []
    hosts: ClassVar[dict[str, object]] = {}
    end: ClassVar[asyncio.Event]
    waiting: ClassVar[asyncio.Event]
    left: ClassVar[list[asyncio.Task]] = []

    def __init__(self, settings, host):
        self.settings, self.host = settings, host
        self.hosts[settings.name] = host

    async def probe(self):
        pass

    async def run(self):
        self.life.append(f"start {self.settings.name}")
        try:
            await self._behave(self.settings.behaviour)
        finally:
            self.life.append(f"stop {self.settings.name}")

    async def _behave(self, behaviour):
        match behaviour:
            case "connect":
                self.host.connected()
                await asyncio.Event().wait()
            case "end":
                self.host.connected()
                await self.end.wait()
            case "raise":
                raise ValueError("with a secret inside")
            case "return":
                return
            case "refuse":
                raise ChannelRefused("/name", "no such account")
            case "down":
                raise ChannelDown("somebody else has the account")
            case "dumb":
                await asyncio.Event().wait()
            case "leave":
                self.left.append(asyncio.create_task(asyncio.Event().wait()))
                self.host.connected()
                await self.end.wait()

    async def callback(self, request, *, verified):
        task = asyncio.create_task(asyncio.Event().wait())
        self.left.append(task)
        if request == "wait":
            self.waiting.set()
            await task
        return CallbackAnswer()


class ExclusiveAccount(Account):
    exclusive: ClassVar[bool] = True

    def account(self):
        return "the one account"


class SocketAccount(Account):
    """Its platform comes to it."""

    def __init__(self, settings, host):
        super().__init__(settings, host)
        self.running = False

    async def run(self):
        self.running = True
        try:
            await super().run()
        finally:
            self.running = False

    async def socket(self, connection):
        if not self.running:
            raise NotAccepted("not now")
        self.life.append(f"socket {self.settings.name}")
        try:
            await connection.receive()
        finally:
            self.life.append(f"socket of {self.settings.name} ends")


class Connection:
    """A socket that says nothing until it is cut."""

    def __init__(self):
        self.cut = asyncio.Event()
        self.used = asyncio.Event()

    async def receive(self):
        self.used.set()
        await self.cut.wait()


async def granted(accounts, number):
    return LeaseAnswer(accounts=dict.fromkeys(accounts, "held"), life_s=60)


@dataclasses.dataclass(frozen=True)
class FakeKind:
    name: str
    type: type
    takes_sockets: bool = False

    def rule(self, _settings):
        return "stored"

    def adapter(self):
        return self.type


class Statuses:
    """What the supervisor reported, to be waited for."""

    def __init__(self):
        self.seen = []
        self._changed = asyncio.Condition()

    async def record(self, status):
        self.seen.append((status.channel_id, status.state, status.reason))
        async with self._changed:
            self._changed.notify_all()

    async def until(self, *wanted):
        await self.until_true(lambda: set(wanted) <= set(self.seen))

    async def until_true(self, true):
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)


class Never(Random):
    """Back-off without waiting: full jitter at its best."""

    def uniform(self, a, b):
        return a


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    for kind in (
        FakeKind("shared", Account),
        FakeKind("single", ExclusiveAccount),
        FakeKind("called", SocketAccount, takes_sockets=True),
    ):
        monkeypatch.setitem(registry._KINDS, kind.name, kind)
    monkeypatch.setattr(Account, "life", [])
    monkeypatch.setattr(Account, "hosts", {})
    monkeypatch.setattr(Account, "left", [])
    monkeypatch.setattr(Account, "end", asyncio.Event(), raising=False)
    monkeypatch.setattr(Account, "waiting", asyncio.Event(), raising=False)


@pytest.fixture
def statuses():
    return Statuses()


class Steady:
    """Seconds that the test sets."""

    now = 500.0

    def __call__(self):
        return self.now


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
async def supervisor(statuses, steady):
    async with httpx2.AsyncClient() as http:
        around = Surroundings(
            http=http,
            control=Control(url="http://control", http=http),
            media=None,
            blacklist=None,
            intake=None,
            metrics=Metrics(),
            clock=lambda: 1000.0,
            random=Never(),
            holds=Holds(granted, every_s=10, clock=lambda: 1000.0),
            door=Door(()),
            steady=steady,
        )
        made = Supervisor(around, statuses.record)
        loops = [
            asyncio.create_task(made.report_states()),
            asyncio.create_task(around.holds.keep()),
        ]
        yield made
        await made.close()
        for loop in loops:
            loop.cancel()


def spec(name, *, kind="shared", behaviour="connect", channel=CHANNEL):
    return ChannelSpec(id=channel, kind=kind, settings=Settings(name=name, behaviour=behaviour))


def restarts(supervisor):
    return supervisor._around.metrics.restarts.labels("shared")._value.get()


async def until(true):
    """For what tells nobody."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


class TestScope:
    @pytest.mark.parametrize(
        ("behaviour", "reason"),
        [
            ("raise", "the adapter raised ValueError"),
            ("return", "the adapter returned"),
            ("refuse", "no such account"),
            ("down", "somebody else has the account"),
        ],
    )
    async def test_an_adapter_that_ends_is_started_again(
        self, supervisor, statuses, behaviour, reason
    ):
        await supervisor.swap([spec("a", behaviour=behaviour)])
        await statuses.until((CHANNEL, "failed", reason))
        await statuses.until_true(lambda: Account.life.count("start a") >= 3)
        assert restarts(supervisor) >= 2
        assert "secret" not in str(statuses.seen)

    async def test_what_a_connected_channel_has_to_tell_is_its_reason(self, supervisor, statuses):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        for _ in range(2):
            Account.hosts["a"].connected("messages may be missing")
        await statuses.until((CHANNEL, "connected", "messages may be missing"))
        assert supervisor._around.metrics.notes.labels("shared")._value.get() == 1

    async def test_a_channel_that_fails_hurts_no_other(self, supervisor, statuses):
        await supervisor.swap([spec("a", behaviour="end"), spec("b", channel=OTHER)])
        await statuses.until((CHANNEL, "connected", None), (OTHER, "connected", None))
        Account.end.set()
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        assert Account.life.count("start b") == 1
        assert "stop b" not in Account.life

    async def test_an_adapter_that_has_ended_is_not_heard(self, supervisor, statuses, monkeypatch):
        monkeypatch.setattr(Never, "uniform", lambda self, a, b: b)
        await supervisor.swap([spec("a", behaviour="return")])
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        Account.hosts["a"].connected()
        assert [status.state for status in supervisor.statuses()] == ["failed"]

    async def test_an_adapter_that_has_ended_moves_no_position(
        self, supervisor, statuses, monkeypatch
    ):
        monkeypatch.setattr(Never, "uniform", lambda self, a, b: b)
        await supervisor.swap([spec("a", behaviour="return")])
        await statuses.until((CHANNEL, "failed", "the adapter returned"))
        with pytest.raises(NotAccepted):
            await Account.hosts["a"].report([], position="7")

    async def test_a_channel_that_was_removed_is_not_heard(self, supervisor, statuses):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.swap([])
        await statuses.until((CHANNEL, "stopped", None))
        Account.hosts["a"].connected()
        assert supervisor.statuses() == []
        assert statuses.seen[-1] == (CHANNEL, "stopped", None)


class TestProofOfLife:
    @pytest.mark.parametrize("kind", ["shared", "single"])
    async def test_a_silent_platform_ends_the_adapter_with_that_reason(
        self, supervisor, statuses, steady, kind
    ):
        await supervisor.swap([spec("a", kind=kind)])
        await statuses.until((CHANNEL, "connected", None))
        steady.now += module.SILENT_AFTER_S - 1
        supervisor.look()
        await asyncio.sleep(0)
        assert "stop a" not in Account.life

        steady.now += 1
        supervisor.look()
        await statuses.until((CHANNEL, "failed", "the platform has been silent for 60 s"))
        # It is started again, as after any other end.
        await statuses.until_true(lambda: Account.life == ["start a", "stop a", "start a"])
        await statuses.until_true(lambda: statuses.seen[-1] == (CHANNEL, "connected", None))

    async def test_every_proof_counts_anew(self, supervisor, statuses, steady):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        for _ in range(5):
            steady.now += module.SILENT_AFTER_S - 1
            Account.hosts["a"].connected()
            supervisor.look()
        await asyncio.sleep(0)
        assert Account.life == ["start a"]

    async def test_a_silent_channel_that_was_replaced_is_ended_too(
        self, supervisor, statuses, steady
    ):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.swap([spec("b", behaviour="dumb")])
        steady.now += module.SILENT_AFTER_S
        supervisor.look()
        # Nobody hears of what was replaced.
        await until(lambda: "stop a" in Account.life)

    async def test_one_that_does_not_end_counts_as_failed_all_the_same(
        self, supervisor, statuses, steady, monkeypatch
    ):
        release = asyncio.Event()

        async def deaf(self, behaviour):
            self.host.connected()
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        monkeypatch.setattr(module, "STOP_S", 0.01)
        monkeypatch.setattr(module, "CLEAR_S", 0.01)
        monkeypatch.setattr(Account, "_behave", deaf)
        await supervisor.swap([spec("a", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        steady.now += module.SILENT_AFTER_S
        supervisor.look()
        await statuses.until((CHANNEL, "failed", module.SILENT))
        assert Account.life == ["start a"]
        release.set()

    async def test_one_that_takes_long_to_connect_says_so_and_goes_on(
        self, supervisor, statuses, steady
    ):
        await supervisor.swap([spec("a", behaviour="dumb")])
        await statuses.until((CHANNEL, "connecting", None))
        steady.now += module.CONNECT_WITHIN_S
        supervisor.look()
        await statuses.until((CHANNEL, "connecting", module.NOT_YET))
        assert Account.life == ["start a"]
        Account.hosts["a"].connected()
        await statuses.until((CHANNEL, "connected", None))

    async def test_silence_is_looked_for_by_itself(self, supervisor, statuses, steady, monkeypatch):
        monkeypatch.setattr(module, "LOOK_EVERY_S", 0)
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        watching = asyncio.create_task(supervisor.watch())
        steady.now += module.SILENT_AFTER_S
        await statuses.until((CHANNEL, "failed", module.SILENT))
        watching.cancel()


def refusal(error_class):
    return PartOutcome(outcome="failed", error_class=error_class, detail="why it is so")


class TestRefusedSends:
    @pytest.mark.parametrize("error_class", sorted(module.BARRING))
    async def test_one_of_the_whole_account_stops_sends_and_shows(
        self, supervisor, statuses, steady, error_class
    ):
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        scope = supervisor.scope(CHANNEL)
        scope.note(refusal(error_class))
        assert scope.barred.error_class == error_class
        await statuses.until((CHANNEL, "connected", "nothing can be sent: why it is so"))

        steady.now += module.BARRED_S
        assert scope.barred is None
        statuses.seen.clear()
        scope.note(PartOutcome(outcome="sent"))
        await statuses.until((CHANNEL, "connected", None))

    async def test_one_of_a_permission_shows_and_stops_no_other_message(self, supervisor, statuses):
        await supervisor.swap([spec("a")])
        scope = supervisor.scope(CHANNEL)
        scope.note(refusal("no_permission"))
        assert scope.barred is None
        await statuses.until((CHANNEL, "connected", "nothing can be sent: why it is so"))

    @pytest.mark.parametrize("error_class", ["recipient_invalid", "rate_limited", "media_failed"])
    async def test_one_of_a_message_is_that_messages_own(self, supervisor, error_class):
        await supervisor.swap([spec("a")])
        scope = supervisor.scope(CHANNEL)
        scope.note(refusal(error_class))
        assert (scope.barred, scope.status.reason) == (None, None)


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


class TestSwap:
    async def test_equal_settings_are_left_alone(self, supervisor, statuses):
        await supervisor.swap([spec("a"), spec("b", channel=OTHER)])
        await statuses.until((CHANNEL, "connected", None), (OTHER, "connected", None))
        await supervisor.swap([spec("a"), spec("c", channel=OTHER)])
        await self.until_retired(supervisor, OTHER, "c")
        assert Account.life.count("start a") == 1
        assert "stop a" not in Account.life
        assert Account.life[-2:] == ["start c", "stop b"]

    async def test_what_is_connected_goes_on_until_its_successor_is(
        self, supervisor, statuses, monkeypatch
    ):
        monkeypatch.setattr(Never, "uniform", lambda self, a, b: b)
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.swap([spec("b", behaviour="refuse")])
        await statuses.until((CHANNEL, "failed", "no such account"))
        await supervisor.retire()
        assert "stop a" not in Account.life

        statuses.seen.clear()
        await supervisor.swap([spec("a")])
        await statuses.until((CHANNEL, "connected", None))
        assert Account.life.count("start a") == 1

    async def test_an_exclusive_channel_stops_before_its_successor_starts(
        self, supervisor, statuses
    ):
        await supervisor.swap([spec("a", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        statuses.seen.clear()
        await supervisor.swap([spec("b", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        assert Account.life == ["start a", "stop a", "start b"]

    async def test_an_exclusive_channel_that_will_not_end_keeps_its_successor_waiting(
        self, supervisor, statuses, monkeypatch
    ):
        release = asyncio.Event()

        async def deaf(self, behaviour):
            self.host.connected()
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        monkeypatch.setattr(module, "STOP_S", 0.01)
        monkeypatch.setattr(Account, "_behave", deaf)
        await supervisor.swap([spec("a", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        statuses.seen.clear()
        try:
            await supervisor.swap([spec("b", kind="single")])
            await statuses.until((CHANNEL, "connecting", None))
            assert Account.life == ["start a"]
        finally:
            release.set()
        await statuses.until((CHANNEL, "connected", None))
        assert Account.life[:3] == ["start a", "stop a", "start b"]

    async def test_two_channels_with_one_exclusive_account_are_told_so(self, supervisor, statuses):
        await supervisor.swap([spec("a", kind="single")])
        await statuses.until((CHANNEL, "connected", None))
        await supervisor.swap([spec("a", kind="single"), spec("b", kind="single", channel=OTHER)])
        await statuses.until((OTHER, "failed", ELSEWHERE))
        assert Account.life == ["start a"]

        await supervisor.swap([spec("b", kind="single", channel=OTHER)])
        await statuses.until((OTHER, "connected", None))
        assert Account.life == ["start a", "stop a", "start b"]

    async def until_retired(self, supervisor, channel, name):
        async with asyncio.timeout(10):
            while not supervisor.scope(channel).connected:
                await supervisor.moved()
        await supervisor.retire()


class TestClose:
    async def test_stops_every_channel_and_says_so(self, supervisor, statuses):
        await supervisor.swap([spec("a"), spec("b", channel=OTHER)])
        await statuses.until((CHANNEL, "connected", None), (OTHER, "connected", None))
        await supervisor.close()
        assert {(CHANNEL, "stopped", None), (OTHER, "stopped", None)} <= set(statuses.seen)
        assert {"stop a", "stop b"} <= set(Account.life)

    async def test_does_not_wait_for_one_that_will_not_end(self, supervisor, monkeypatch):
        begun, release = asyncio.Event(), asyncio.Event()

        async def deaf(self, _):
            begun.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        monkeypatch.setattr(module, "STOP_S", 0.01)
        monkeypatch.setattr(Account, "_behave", deaf)
        await supervisor.swap([spec("a")])
        async with asyncio.timeout(10):
            await begun.wait()
            await supervisor.close()
        assert "stop a" not in Account.life
        release.set()


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
