"""Group commit: who is written with whom, and what everybody hears."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from control_plane.ingest import commit
from control_plane.ingest.commit import WORTH_JOINING, WRITERS, GroupCommit, Pending, Told
from control_plane.ingest.verify import Proven
from control_plane.kit.errors import Conflict, TooMany, Unavailable
from control_plane.kit.ids import new_id
from instance_agent.protocol import Event, EventBatch, EventResult

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Desk:
    """A group commit whose writes wait until the test lets them go on."""

    def __init__(self) -> None:
        self.commits = GroupCommit(self._write)
        self.errors: dict[str, Exception] = {}
        self.written: list[list[str]] = []
        self.order: list[tuple[str, list[str]]] = []
        self._open: asyncio.Queue[tuple[list[str], asyncio.Future[None]]] = asyncio.Queue()

    def submit(self, name: str, events: int = 1) -> asyncio.Task[list[EventResult]]:
        """A batch that arrives now."""
        batch = EventBatch(session_id=new_id(), events=[self._event() for _ in range(events)])
        proven = Proven(tenant_id=new_id(), instance_id=new_id(), webhook_id=name, sha256=b"")
        return asyncio.create_task(self.commits.submit(proven, batch, NOW))

    async def begun(self) -> tuple[list[str], asyncio.Future[None]]:
        """The next write that begins: who is in it, and what lets it go on."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._open.get()

    async def _write(self, group: Sequence[Pending]) -> Told:
        names = [pending.proven.webhook_id for pending in group]
        self.order.append(("begun", names))
        go_on = asyncio.get_running_loop().create_future()
        self._open.put_nowait((names, go_on))
        await go_on
        for name in names:
            if name in self.errors:
                raise self.errors[name]
        self.written.append(names)

        def told() -> list[list[EventResult]]:
            self.order.append(("told", names))
            if "untold" in names:
                raise ZeroDivisionError
            return [self._result(pending) for pending in group]

        return told

    def _result(self, pending: Pending) -> list[EventResult]:
        return [EventResult(id=event.id, status="stored") for event in pending.batch.events]

    def _event(self) -> Event:
        return Event(id=new_id(), type="message.received", occurred_at=NOW, data={})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    running = asyncio.create_task(desk.commits.run())
    yield desk
    desk.commits.stop()
    async with asyncio.timeout(PATIENCE_S):
        await running


async def keep_both_writers_busy(desk: Desk) -> list[asyncio.Future[None]]:
    """Each has a batch of its own; what comes now waits."""
    held = []
    for n in range(WRITERS):
        desk.submit(f"first {n}", events=WORTH_JOINING)
        _, go_on = await desk.begun()
        held.append(go_on)
    return held


class TestOverlap:
    async def test_the_next_group_is_under_way_before_anybody_hears_of_the_last(
        self, desk: Desk
    ) -> None:
        first = desk.submit("first")
        _, stored = await desk.begun()
        second = desk.submit("second")
        await asyncio.sleep(0)

        stored.set_result(None)
        _, go_on = await desk.begun()
        await first

        assert desk.order == [("begun", ["first"]), ("begun", ["second"]), ("told", ["first"])]
        assert not second.done()
        go_on.set_result(None)
        assert [result.status for result in await second] == ["stored"]

    async def test_nobody_waits_for_ever_for_what_cannot_be_told(self, desk: Desk) -> None:
        untold = desk.submit("untold")
        _, go_on = await desk.begun()
        go_on.set_result(None)

        with pytest.raises(Unavailable):
            await untold


class TestGroups:
    async def test_a_free_writer_waits_for_nobody(self, desk: Desk) -> None:
        answer = desk.submit("a")
        names, go_on = await desk.begun()
        assert (names, answer.done()) == (["a"], False)

        go_on.set_result(None)

        assert [result.status for result in await answer] == ["stored"]

    async def test_a_second_writer_joins_only_for_a_group_of_its_own(self, desk: Desk) -> None:
        desk.submit("first")
        _, go_on = await desk.begun()
        few = desk.submit("few", events=WORTH_JOINING - 1)
        desk.submit("one more")
        names, joined = await desk.begun()
        joined.set_result(None)
        await few
        go_on.set_result(None)

        assert names == ["few", "one more"]

    async def test_what_comes_while_all_write_is_the_next_group(self, desk: Desk) -> None:
        held = await keep_both_writers_busy(desk)
        answers = [desk.submit(name) for name in "abc"]

        held[0].set_result(None)
        names, go_on = await desk.begun()
        go_on.set_result(None)
        await asyncio.gather(*answers)
        held[1].set_result(None)

        assert names == ["a", "b", "c"]

    async def test_a_group_has_so_many_events_but_at_least_one_batch(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commit, "MAX_GROUP_EVENTS", 10)
        held = await keep_both_writers_busy(desk)
        answers = [desk.submit(name, events=n) for name, n in (("a", 11), ("b", 6), ("c", 4))]
        answers.append(desk.submit("d", events=1))

        held[0].set_result(None)
        for _ in range(3):
            _, go_on = await desk.begun()
            go_on.set_result(None)
        await asyncio.gather(*answers)
        held[1].set_result(None)

        assert [group for group in desk.written if "first" not in group[0]] == [
            ["a"],
            ["b", "c"],
            ["d"],
        ]


class TestFailure:
    async def test_one_bad_batch_hurts_nobody_else(self, desk: Desk) -> None:
        held = await keep_both_writers_busy(desk)
        desk.errors = {"b": ValueError("secret detail"), "c": Conflict("reused", "Twice.")}
        answers = [desk.submit(name) for name in "abcd"]

        held[0].set_result(None)
        # All together once, then each alone.
        for _ in range(5):
            _, go_on = await desk.begun()
            go_on.set_result(None)
        a, b, c, d = await asyncio.gather(*answers, return_exceptions=True)
        held[1].set_result(None)

        assert [a[0].status, d[0].status] == ["stored", "stored"]
        assert isinstance(b, Unavailable)
        assert (b.code, b.retry_after_s, "secret" in b.detail) == ("ingest_failed", 1, False)
        assert isinstance(c, Conflict)

    async def test_whoever_hung_up_does_not_stop_the_others(self, desk: Desk) -> None:
        held = await keep_both_writers_busy(desk)
        gone, stays = desk.submit("gone"), desk.submit("stays")
        held[0].set_result(None)
        names, go_on = await desk.begun()

        gone.cancel()
        await asyncio.wait([gone])
        go_on.set_result(None)

        assert names == ["gone", "stays"]
        assert [result.status for result in await stays] == ["stored"]
        held[1].set_result(None)


class TestBounds:
    async def test_only_so_many_may_wait(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(commit, "MAX_WAITING", 2)
        held = await keep_both_writers_busy(desk)
        answers = [desk.submit("a"), desk.submit("b")]

        with pytest.raises(TooMany) as refused:
            await desk.submit("c")

        assert 1 <= refused.value.retry_after_s <= 5
        held[0].set_result(None)
        _, go_on = await desk.begun()
        go_on.set_result(None)
        await asyncio.gather(*answers)
        held[1].set_result(None)


class TestStop:
    async def test_what_waits_is_written_and_nothing_more_is_taken(self) -> None:
        desk = Desk()
        running = asyncio.create_task(desk.commits.run())
        held = await keep_both_writers_busy(desk)
        answers = [desk.submit("a"), desk.submit("b")]
        await asyncio.wait(answers, timeout=0)

        desk.commits.stop()
        with pytest.raises(Unavailable) as refused:
            await desk.submit("late")
        for go_on in held:
            go_on.set_result(None)
        names, go_on = await desk.begun()
        go_on.set_result(None)
        async with asyncio.timeout(PATIENCE_S):
            await running

        assert refused.value.code == "shutting_down"
        assert names == ["a", "b"]
        assert [result.status for answer in answers for result in answer.result()] == [
            "stored",
            "stored",
        ]

    async def test_an_idle_one_ends_at_once(self) -> None:
        desk = Desk()
        running = asyncio.create_task(desk.commits.run())
        await asyncio.wait([running], timeout=0)

        desk.commits.stop()

        async with asyncio.timeout(PATIENCE_S):
            await running
