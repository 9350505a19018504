import asyncio
import dataclasses
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import msgspec
import pytest

from adapters import registry
from adapters.base import SendFailed, SendUnknown, Sent
from adapters.model import ConversationKey, Text
from instance_agent.journal import KEPT_S, Entry, Journal
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import PartOutcome, SendRequest
from instance_agent.sender import MAX_RUNNING, UNKNOWN, Sender, settled
from instance_agent.store import Store

SENT = PartOutcome(outcome="sent", platform_message_id="p1")
FAILED = PartOutcome(outcome="failed", error_class="server_busy")
CHANNEL = uuid4()


class Platform:
    """An adapter that does what it is told, one entry of `does` per call."""

    def __init__(self):
        self.keys = []
        self.does = []
        self.refuses = None
        self.preparing, self.ready = asyncio.Event(), asyncio.Event()
        self.ready.set()
        self.called = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    def split(self, segments):
        return [[segment] for segment in segments]

    async def prepare(self, part):
        self.preparing.set()
        await self.ready.wait()
        if self.refuses:
            raise self.refuses
        return partial(self.send, part)

    async def send(self, part):
        self.keys.append(part.idempotency_key)
        self.called.set()
        await self.answer.wait()
        if self.does and (error := self.does.pop(0)):
            raise error
        return Sent(platform_message_id=f"p-{part.idempotency_key}")


class Bench:
    """A sender on a real journal, over a platform that recognises repeats for an hour."""

    def __init__(self, store):
        self.now = 1000.0
        self.noted = []
        self.platform = Platform()
        self.journal = Journal(store)
        self.scope = scope = SimpleNamespace(
            adapter=self.platform,
            spec=SimpleNamespace(kind="hour", id=1),
            barred=None,
            yields=lambda: False,
            note=self.noted.append,
        )
        self.sender = Sender(
            journal=self.journal,
            supervisor=SimpleNamespace(scope={CHANNEL: scope}.get),
            metrics=Metrics(),
            clock=lambda: self.now,
        )

    def request(self, *texts, message_id=None, epoch=1):
        return SendRequest(
            message_id=message_id or uuid4(),
            channel_id=CHANNEL,
            epoch=epoch,
            journal_id=self.journal.id,
            conversation=ConversationKey(type="direct", id="v1"),
            reply_handle={},
            segments=[Text(text=text) for text in texts or ["您好"]],
        )

    async def outcomes(self, request, attempt=1):
        request = msgspec.structs.replace(request, attempt=attempt)
        return [part.outcome for part in (await self.sender.send(request)).parts]


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    hour = dataclasses.replace(registry.kind("webchat"), name="hour", resend_safe_s=3600)
    monkeypatch.setitem(registry._KINDS, "hour", hour)
    store = Store(tmp_path / "agent.db")
    yield Bench(store)
    await store.close()


class TestRoom:
    async def test_parts_beyond_it_are_not_tried(self, bench):
        request = msgspec.structs.replace(bench.request("一", "二", "三", "四"), room=2)
        result = await bench.sender.send(request)
        assert [part.outcome for part in result.parts] == ["sent", "sent", "failed", "failed"]
        assert [part.error_class for part in result.parts[2:]] == [
            "window_count_exceeded",
            "not_tried",
        ]
        assert len(bench.platform.keys) == 2

    async def test_what_an_earlier_attempt_sent_is_not_of_it(self, bench):
        bench.platform.does = [None, SendFailed("rate_limited", "later")]
        request = bench.request("一", "二", "三")
        assert await bench.outcomes(request) == ["sent", "failed", "failed"]
        again = msgspec.structs.replace(request, room=1)
        assert await bench.outcomes(again, attempt=2) == ["sent", "sent", "failed"]

    async def test_a_repeated_attempt_takes_no_more_of_it(self, bench):
        request = msgspec.structs.replace(bench.request("一", "二", "三"), room=2)
        for _ in range(2):
            assert await bench.outcomes(request) == ["sent", "sent", "failed"]
        assert len(bench.platform.keys) == 2


class TestClasses:
    @pytest.mark.parametrize("error_class", ["duplicate_in_flight", "async_audit"])
    async def test_what_the_platform_has_taken_counts_as_sent(self, bench, error_class):
        bench.platform.does = [SendFailed(error_class, "it is on its way")]
        assert await bench.outcomes(bench.request("一", "二")) == ["sent", "sent"]

    async def test_a_barred_account_is_not_tried(self, bench):
        bench.scope.barred = SendFailed("bot_banned", "the bot is banned")
        request = bench.request()
        [part] = (await bench.sender.send(request)).parts
        assert (part.outcome, part.error_class) == ("failed", "bot_banned")
        assert bench.platform.keys == []
        bench.scope.barred = None
        assert await bench.outcomes(request, attempt=2) == ["sent"]

    async def test_a_barred_account_is_tried_for_who_insists_and_has_not_just_done_so(self, bench):
        bench.scope.barred = SendFailed("ip_not_allowed", "the address is not known")
        insisted = msgspec.structs.replace(bench.request(), insist=True)
        assert await bench.outcomes(insisted) == ["failed"]
        bench.scope.yields = lambda: True
        assert await bench.outcomes(bench.request()) == ["failed"]
        assert bench.platform.keys == []
        assert await bench.outcomes(insisted, attempt=2) == ["sent"]

    @pytest.mark.parametrize("before_the_call", [True, False])
    async def test_the_channel_hears_what_came_of_every_try(self, bench, before_the_call):
        refusal = SendFailed("secret_invalid", "the secret is not known")
        if before_the_call:
            bench.platform.refuses = refusal
        else:
            bench.platform.does = [refusal]
        await bench.outcomes(bench.request())
        bench.platform.refuses = None
        await bench.outcomes(bench.request())
        assert [each.error_class for each in bench.noted] == ["secret_invalid", None]


class TestSettled:
    @pytest.mark.parametrize(
        ("state", "outcome", "attempt", "age", "known"),
        [
            ("sent", SENT, 2, 0, SENT),
            ("sent", SENT, 3, 10**6, SENT),
            ("failed", FAILED, 2, 0, FAILED),
            ("failed", FAILED, 3, 0, None),
            ("failed", FAILED, 3, 60, None),
            ("trying", None, 2, 59, None),
            ("trying", None, 3, 59, None),
            ("trying", None, 2, 60, UNKNOWN),
            ("unknown", UNKNOWN, 2, 59, UNKNOWN),
            ("unknown", UNKNOWN, 3, 59, None),
            ("unknown", UNKNOWN, 3, 60, UNKNOWN),
        ],
    )
    def test_only_what_cannot_double_is_tried_again(self, state, outcome, attempt, age, known):
        entry = Entry(state=state, attempt=2, tried_at=1000, outcome=outcome)
        assert settled(entry, attempt, resend_safe_s=60, now=1000 + age) == known

    @pytest.mark.parametrize("now", [400, 1000, 1600])
    @pytest.mark.parametrize("attempt", [1, 2])
    def test_a_platform_without_keys_is_never_sent_to_twice(self, attempt, now):
        """Nor when the clock was set back."""
        entry = Entry(state="trying", attempt=1, tried_at=1000, outcome=None)
        assert settled(entry, attempt, resend_safe_s=0, now=now) == UNKNOWN

    def test_a_clock_that_was_set_back_far_says_nothing_of_what_the_platform_knows(self):
        entry = Entry(state="trying", attempt=1, tried_at=1000, outcome=None)
        assert settled(entry, 1, resend_safe_s=60, now=400) == UNKNOWN


class TestSend:
    async def test_a_repeat_joins_the_one_under_way(self, bench):
        bench.platform.answer.clear()
        request = bench.request()
        first = asyncio.create_task(bench.sender.send(request))
        await bench.platform.called.wait()
        again = asyncio.create_task(bench.sender.send(request))
        await asyncio.sleep(0)
        bench.platform.answer.set()
        assert await first == await again
        assert bench.platform.keys == [f"{request.message_id}:0"]

    async def test_what_fails_before_the_attempt_leaves_nothing_in_doubt(self, bench):
        request = bench.request()
        bench.platform.refuses = SendFailed("secret_invalid", "no token", 5.0)
        [part] = (await bench.sender.send(request)).parts
        assert (part.outcome, part.error_class) == ("failed", "secret_invalid")
        assert await bench.journal.entries(request.message_id) == {}
        for refusal in (ValueError("a bug"), TimeoutError()):
            bench.platform.refuses = refusal
            [part] = (await bench.sender.send(request)).parts
            assert (part.outcome, part.error_class) == ("failed", "server_busy")
        bench.platform.refuses = None
        assert await bench.outcomes(request) == ["sent"]

    async def test_a_death_before_the_attempt_leaves_nothing_in_doubt(self, bench):
        request = bench.request()
        bench.platform.ready.clear()
        sending = asyncio.create_task(bench.sender._send(request, bench.scope))
        await bench.platform.preparing.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        bench.platform.ready.set()
        assert await bench.journal.entries(request.message_id) == {}
        assert await bench.outcomes(request) == ["sent"]

    async def test_what_fails_before_an_attempt_does_not_settle_an_unknown_one(self, bench):
        bench.platform.does = [SendUnknown("cut")]
        request = bench.request()
        assert await bench.outcomes(request) == ["unknown"]
        bench.platform.refuses = SendFailed("server_busy", "away")
        assert await bench.outcomes(request, attempt=2) == ["unknown"]

    async def test_where_the_platform_knows_no_repeats_nothing_is_tried_again(
        self, bench, monkeypatch
    ):
        kind = dataclasses.replace(registry.kind("hour"), resend_safe_in=("direct", "group"))
        monkeypatch.setitem(registry._KINDS, "hour", kind)
        for type_, again in (("channel", "unknown"), ("direct", "sent")):
            bench.platform.does = [SendUnknown("cut")]
            where = ConversationKey(type=type_, id="v1")
            request = msgspec.structs.replace(bench.request(), conversation=where)
            assert await bench.outcomes(request) == ["unknown"]
            assert await bench.outcomes(request, attempt=2) == [again]

    async def test_what_is_unknown_is_tried_again_once_when_a_person_insists(self, bench):
        bench.platform.does = [SendUnknown("cut"), SendUnknown("cut again")]
        request = bench.request()
        assert await bench.outcomes(request) == ["unknown"]
        bench.now += 3600
        assert await bench.outcomes(request, attempt=2) == ["unknown"]
        assert len(bench.platform.keys) == 1

        insisted = msgspec.structs.replace(request, insist=True)
        for _ in range(2):
            assert await bench.outcomes(insisted, attempt=3) == ["unknown"]
        assert len(bench.platform.keys) == 2

    async def test_a_caller_that_hangs_up_does_not_cut_the_call(self, bench):
        bench.platform.answer.clear()
        request = bench.request()
        caller = asyncio.create_task(bench.sender.send(request))
        await bench.platform.called.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        bench.platform.answer.set()
        assert await bench.outcomes(request) == ["sent"]
        assert bench.platform.keys == [f"{request.message_id}:0"]

    async def test_after_a_failed_part_the_later_ones_wait(self, bench):
        bench.platform.does = [None, SendFailed("rate_limited", "slow down", 7.0)]
        request = bench.request("一", "二", "三")
        result = await bench.sender.send(request)
        assert [part.outcome for part in result.parts] == ["sent", "failed", "failed"]
        assert (result.parts[1].error_class, result.parts[1].retry_after_s) == ("rate_limited", 7)
        assert result.parts[2].error_class == "not_tried"
        assert await bench.outcomes(request) == ["sent", "failed", "failed"]
        assert await bench.outcomes(request, attempt=2) == ["sent"] * 3
        sent = [key.rpartition(":")[2] for key in bench.platform.keys]
        assert sent == ["0", "1", "1", "2"]

    @pytest.mark.parametrize("end", [SendUnknown("cut"), ValueError("a bug"), TimeoutError()])
    async def test_an_end_that_nobody_saw_is_unknown_and_resent_while_that_is_safe(
        self, bench, end
    ):
        bench.platform.does = [end]
        request = bench.request()
        assert await bench.outcomes(request) == ["unknown"]
        bench.now += 3599
        assert await bench.outcomes(request) == ["unknown"]
        assert await bench.outcomes(request, attempt=2) == ["sent"]

    async def test_a_refusal_says_nothing_of_an_earlier_try_whose_end_nobody_saw(self, bench):
        bench.platform.does = [SendUnknown("cut"), SendFailed("rate_limited", "slow down", 7.0)]
        request = bench.request()
        assert await bench.outcomes(request) == ["unknown"]
        again = msgspec.structs.replace(request, attempt=2)
        [part] = (await bench.sender.send(again)).parts
        assert (part.outcome, part.error_class, part.retry_after_s) == (
            "unknown",
            "rate_limited",
            7.0,
        )
        bench.now += 3600
        assert await bench.outcomes(request, attempt=3) == ["unknown"]
        assert len(bench.platform.keys) == 2

    async def test_later_it_stays_unknown(self, bench):
        bench.platform.does = [SendUnknown("cut")]
        request = bench.request()
        assert await bench.outcomes(request) == ["unknown"]
        bench.now += 3600
        assert await bench.outcomes(request, attempt=2) == ["unknown"]
        assert len(bench.platform.keys) == 1

    async def test_the_safe_time_counts_from_the_last_refusal(self, bench):
        bench.platform.does = [SendFailed("server_busy", ""), SendUnknown("cut")]
        request = bench.request()
        assert await bench.outcomes(request) == ["failed"]
        bench.now += 3000
        assert await bench.outcomes(request, attempt=2) == ["unknown"]
        bench.now += 3000
        assert await bench.outcomes(request, attempt=3) == ["sent"]

    async def test_too_many_at_once_come_back_later(self, bench):
        bench.platform.answer.clear()
        running = [
            asyncio.create_task(bench.sender.send(bench.request())) for _ in range(MAX_RUNNING)
        ]
        await bench.platform.called.wait()
        with pytest.raises(Refusal) as refused:
            await bench.sender.send(bench.request())
        assert (refused.value.status, refused.value.code) == (429, "busy")
        bench.platform.answer.set()
        assert len(await asyncio.gather(*running)) == MAX_RUNNING

    async def test_an_older_epoch_is_refused_once_a_newer_was_seen(self, bench):
        await bench.sender.send(bench.request(epoch=3))
        with pytest.raises(Refusal) as refused:
            await bench.sender.send(bench.request(epoch=2))
        assert refused.value.code == "stale_epoch"


class TestCleaning:
    async def test_rows_leave_when_their_time_is_over(self, bench):
        request = bench.request()
        await bench.sender.send(request)
        assert await bench.journal.clean(now=bench.now + KEPT_S) == 0
        assert await bench.journal.clean(now=bench.now + KEPT_S + 1) == 1
        assert await bench.journal.entries(request.message_id) == {}
