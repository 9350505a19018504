import asyncio
import contextlib
from random import Random
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest

from adapters import standard_webhooks
from adapters.base import NotAccepted
from instance_agent import reporter as module
from instance_agent.metrics import Metrics
from instance_agent.protocol import (
    MAX_BATCH_EVENTS,
    Bootstrap,
    ConfigState,
    Event,
    EventBatch,
    EventResult,
    EventResults,
    Heartbeat,
)
from instance_agent.reporter import Reporter, new_event
from instance_agent.spool import AHEAD, Spool
from instance_agent.store import Store

NOW = 1_700_000_000.5
SECRET = standard_webhooks.make_secret(b"s" * 32)
SESSION = Bootstrap(
    session_id=uuid4(),
    session_token="-",
    api_token="-",
    webhook_secrets=[SECRET, standard_webhooks.make_secret(b"old" * 10)],
    heartbeat_s=60,
    newest=None,
    last_good=None,
)


class Ingest:
    """Takes batches; with `hold`, each waits to be let through by `let_one_go`."""

    def __init__(self):
        self.batches: list[list[UUID]] = []
        self.ids: list[str] = []
        self.hold = False
        self.answer = lambda batch: [
            EventResult(id=event.id, status="stored") for event in batch.events
        ]
        self.refuses = lambda batch: False
        self.status = 202
        self.fails_once = 0  # the post of this number
        self._gates: list[asyncio.Event] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, request):
        body = await request.aread()
        self.ids.append(standard_webhooks.verify([SECRET], request.headers, body, now=int(NOW)))
        batch = msgspec.json.decode(body, type=EventBatch)
        assert batch.session_id == SESSION.session_id
        self.batches.append([event.id for event in batch.events])
        gate = asyncio.Event()
        self._gates.append(gate)
        async with self._arrived:
            self._arrived.notify_all()
        if self.hold:
            await gate.wait()
        status = 400 if self.refuses(batch) else self.status
        status = 503 if len(self.batches) == self.fails_once else status
        if status != 202:
            return httpx2.Response(status, headers={"retry-after": "0"})
        results = EventResults(results=self.answer(batch))
        return httpx2.Response(202, content=msgspec.json.encode(results))

    async def until(self, count):
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.batches) >= count)

    def let_go(self, index):
        self._gates[index].set()


class Never(Random):
    """Back-off without waiting: full jitter at its best."""

    def uniform(self, a, b):
        return a


@pytest.fixture
def ingest():
    return Ingest()


@pytest.fixture
async def spool(tmp_path):
    store = Store(tmp_path / "agent.db")
    made = Spool(store)
    await made.load()
    yield made
    await store.close()


@pytest.fixture
async def reporter(ingest, spool):
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(ingest)) as http:
        made = Reporter(
            http=http,
            url="http://control/events",
            session_id=SESSION.session_id,
            secret=lambda: SESSION.webhook_secrets[0],
            spool=spool,
            metrics=Metrics(),
            clock=lambda: NOW,
            random=Never(),
        )
        yield made
        await made.close()


def event() -> Event:
    state = ConfigState(applied=None, applied_sha256=None, last_good=None, rejected=None)
    beat = Heartbeat(config=state, channels=[], spool_depth=0, spool_bytes=0)
    return new_event("instance.heartbeat", beat, now=NOW)


class TestReportNow:
    async def test_what_arrives_meanwhile_goes_together_in_the_next_batch(self, reporter, ingest):
        ingest.hold = True
        events = [event() for _ in range(6)]
        async with asyncio.TaskGroup() as callers:
            for index, each in enumerate(events):
                callers.create_task(reporter.report_now([each], keys=[index]))
            await ingest.until(2)
            assert ingest.batches == [[events[0].id], [events[1].id]]
            ingest.hold = False
            ingest.let_go(0)
            await ingest.until(3)
            ingest.let_go(1)
        assert ingest.batches[2:] == [[each.id for each in events[2:]]]
        assert len(set(ingest.ids)) == 3

    async def test_a_conversation_is_never_in_flight_twice(self, reporter, ingest):
        ingest.hold = True
        first, second, other = event(), event(), event()
        async with asyncio.TaskGroup() as callers:
            callers.create_task(reporter.report_now([first], keys=["a"]))
            callers.create_task(reporter.report_now([second], keys=["a"]))
            callers.create_task(reporter.report_now([other], keys=["b"]))
            await ingest.until(2)
            assert ingest.batches == [[first.id], [other.id]]
            ingest.hold = False
            ingest.let_go(1)
            ingest.let_go(0)
        assert ingest.batches[2] == [second.id]

    async def test_a_batch_has_at_most_a_hundred_events(self, reporter, ingest):
        ingest.hold = True
        async with asyncio.TaskGroup() as callers:
            for index in range(MAX_BATCH_EVENTS + 20):
                callers.create_task(reporter.report_now([event()], keys=[index]))
            await ingest.until(2)
            ingest.hold = False
            ingest.let_go(0)
            ingest.let_go(1)
        assert [len(batch) for batch in ingest.batches] == [1, 1, MAX_BATCH_EVENTS, 18]

    @pytest.mark.parametrize("status", [400, 401, 410, 429, 500, 503])
    async def test_any_other_answer_is_not_accepted(self, reporter, ingest, status, spool):
        ingest.status = status
        with pytest.raises(NotAccepted, match=str(status)):
            await reporter.report_now([event()], keys=[])
        assert spool.state.depth == 0
        assert reporter.gone.is_set() == (status == 410)

    async def test_an_answer_that_names_other_events_is_not_accepted(self, reporter, ingest):
        ingest.answer = lambda batch: []
        with pytest.raises(NotAccepted):
            await reporter.report_now([event()], keys=[])

    async def test_a_control_plane_that_hangs_costs_no_more_than_the_deadline(
        self, reporter, ingest, monkeypatch
    ):
        monkeypatch.setattr(module, "DEADLINE_S", 0.01)
        ingest.hold = True
        with pytest.raises(NotAccepted, match="in time"):
            await reporter.report_now([event()], keys=[])

    async def test_too_many_callers_are_told_at_once(self, reporter, ingest, monkeypatch):
        monkeypatch.setattr(module, "MAX_WAITING", 1)
        ingest.hold = True
        callers = [
            asyncio.create_task(reporter.report_now([event()], keys=["a"])) for _ in range(2)
        ]
        await ingest.until(1)
        with pytest.raises(NotAccepted, match="too many"):
            await reporter.report_now([event()], keys=["b"])
        ingest.hold = False
        ingest.let_go(0)
        await asyncio.gather(*callers)

    async def test_closing_lets_no_caller_wait(self, reporter, ingest):
        ingest.hold = True
        callers = [
            asyncio.create_task(reporter.report_now([event()], keys=["a"])) for _ in range(2)
        ]
        await ingest.until(1)
        await reporter.close()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(result) for result in results] == [NotAccepted, NotAccepted]

    async def test_a_rejected_event_is_kept(self, reporter, ingest, spool):
        ingest.answer = lambda batch: [
            EventResult(id=each.id, status="rejected", code="no") for each in batch.events
        ]
        await reporter.report_now([event()], keys=[])
        assert spool.dead_letters == 1

    async def test_a_caller_cancelled_as_its_answer_comes_is_cancelled(self, reporter, ingest):
        ingest.status = 410
        calling = asyncio.create_task(reporter.report_now([event()], keys=["a"]))
        # Set in the step that answers the caller, who has not run since.
        await reporter.gone.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling


class TestPostSpool:
    async def test_is_repeated_until_accepted(self, reporter, ingest, spool):
        ingest.status = 503
        state = ConfigState(applied=1, applied_sha256=None, last_good=1, rejected=None)
        await reporter.record("config.applied", state, subject=None)
        async with posting(reporter):
            await ingest.until(3)
            ingest.status = 202
            await asyncio.wait_for(spool.empty.wait(), 10)
        assert len(set(map(tuple, ingest.batches))) == 1
        # Who hears it twice knows it again.
        assert len(set(ingest.ids)) == 1

    async def test_the_event_that_spoils_a_batch_is_found_and_kept_alone(
        self, reporter, ingest, spool
    ):
        events = [event() for _ in range(4)]
        spoiler = events[2].id
        ingest.refuses = lambda batch: spoiler in [each.id for each in batch.events]
        for each in events:
            await spool.add(each.id, msgspec.json.encode(each), at=NOW)
        async with posting(reporter):
            await asyncio.wait_for(spool.empty.wait(), 10)
        assert spool.dead_letters == 1
        accepted = [
            event_id for batch in ingest.batches if spoiler not in batch for event_id in batch
        ]
        assert accepted == [each.id for each in events if each.id != spoiler]

    async def test_a_backlog_goes_up_in_order_once_and_in_full_batches(
        self, reporter, ingest, spool
    ):
        events = await backlog(spool, AHEAD * MAX_BATCH_EVENTS + MAX_BATCH_EVENTS + 7)
        async with posting(reporter):
            await asyncio.wait_for(spool.empty.wait(), 10)
        assert [event_id for batch in ingest.batches for event_id in batch] == events
        assert [len(batch) for batch in ingest.batches] == [MAX_BATCH_EVENTS] * (AHEAD + 1) + [7]

    async def test_what_comes_meanwhile_goes_behind_it(self, reporter, ingest, spool):
        ingest.hold = True
        events = await backlog(spool, 3)
        async with posting(reporter):
            await ingest.until(1)
            events += await backlog(spool, 2)
            ingest.hold = False
            ingest.let_go(0)
            await asyncio.wait_for(spool.empty.wait(), 10)
        assert ingest.batches == [events[:3], events[3:]]

    async def test_an_event_leaves_only_after_its_result(self, reporter, ingest, spool):
        ingest.hold = True
        events = await backlog(spool, 2 * MAX_BATCH_EVENTS)
        async with posting(reporter):
            await ingest.until(1)
            assert [batch.ids for batch in await spool.head(1)] == [[str(events[0])]]
            ingest.let_go(0)
            await ingest.until(2)
        assert spool.state.depth == MAX_BATCH_EVENTS
        assert [batch.ids for batch in await spool.head(1)] == [[str(events[MAX_BATCH_EVENTS])]]

    async def test_batches_before_a_failure_are_not_posted_again(self, reporter, ingest, spool):
        events = await backlog(spool, 2 * MAX_BATCH_EVENTS)
        ingest.fails_once = 2
        async with posting(reporter):
            await asyncio.wait_for(spool.empty.wait(), 10)
        halves = [events[:MAX_BATCH_EVENTS], events[MAX_BATCH_EVENTS:]]
        assert ingest.batches == [halves[0], halves[1], halves[1]]

    async def test_an_answer_with_a_gap_settles_what_is_before_it(self, reporter, ingest, spool):
        events = await backlog(spool, 5)
        stored = ingest.answer
        ingest.answer = lambda batch: [
            result for result in stored(batch) if result.id != events[2] or len(ingest.batches) > 1
        ]
        async with posting(reporter):
            await asyncio.wait_for(spool.empty.wait(), 10)
        assert ingest.batches == [events, events[2:]]

    async def test_ends_with_the_session_and_keeps_the_rest(self, reporter, ingest, spool):
        ingest.status = 410
        each = event()
        await spool.add(each.id, msgspec.json.encode(each), at=NOW)
        await asyncio.wait_for(reporter.post_spool(), 10)
        assert (spool.state.depth, reporter.gone.is_set()) == (1, True)


async def backlog(spool, count) -> list[UUID]:
    events = [event() for _ in range(count)]
    adding = (spool.add(each.id, msgspec.json.encode(each), at=NOW) for each in events)
    await asyncio.gather(*adding)
    return [each.id for each in events]


@contextlib.asynccontextmanager
async def posting(reporter):
    task = asyncio.create_task(reporter.post_spool())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
