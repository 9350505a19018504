import asyncio
import contextlib

import pytest

from adapters.base import NotAccepted
from instance_agent import supervisor as module
from instance_agent.holds import ELSEWHERE
from instance_agent.protocol import PartOutcome
from tests.instance_agent.supervisor_world import (
    CHANNEL,
    OTHER,
    Account,
    Never,
    restarts,
    spec,
    until,
)


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

    async def test_who_insists_need_not_wait_one_message_at_a_time(self, supervisor, steady):
        await supervisor.swap([spec("a")])
        scope = supervisor.scope(CHANNEL)
        scope.note(refusal("ip_not_allowed"))
        assert [scope.yields(), scope.yields()] == [True, False]
        steady.now += module.INSIST_S
        assert scope.yields()

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
