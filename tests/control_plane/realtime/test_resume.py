"""Whatever happens between a stream and its readers, each has a gapless piece or was told so."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from control_plane.access.permissions import ROLE_PERMISSIONS, Role
from control_plane.realtime import feed as feeds
from control_plane.realtime.feed import Feed, Listener, Page, follows, seeing
from control_plane.realtime.frames import Position
from control_plane.realtime.outlet import Outlet
from control_plane.stream.log import Placed

SEES = ROLE_PERMISSIONS[Role.VIEWER]
HIDDEN_EVERY = 5
"""Every so many entries, one that nobody may see."""

RARELY = st.integers(0, 3)
"""What ends most stories is not done at each chance."""


class Paper:
    """A wire that keeps what was written; while it is full, bytes wait at the outlet."""

    def __init__(self) -> None:
        self.on_writable = lambda: None
        self.writable = True
        self.lines: list[Any] = []

    def write(self, data: bytes) -> bool:
        if self.writable:
            self.lines += [json.loads(line) for line in data.splitlines()]
        return self.writable

    def close(self, code: int, reason: str) -> None:
        self.lines.append({"type": "closed", "reason": reason})


def line(payload: bytes, _at: Position | None) -> bytes:
    return payload + b"\n"


@dataclass
class History:
    """A tenant's stream as the database has it; pages are short so that there are many."""

    epoch: int = 1
    seq: int = 0
    entries: list[Placed] = field(default_factory=list)

    def append(self, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            kind = "unheard.of" if self.seq % HIDDEN_EVERY == 0 else "message.created"
            self.entries.append(Placed(epoch=self.epoch, seq=self.seq, type=kind, data={}))

    def forget(self, share: float) -> None:
        """Retention takes the oldest."""
        del self.entries[: round(share * len(self.entries))]

    def restore(self, lost: int) -> None:
        """A backup is put back, which lacks so many."""
        self.seq = max(0, self.seq - lost)
        self.epoch += 1

    def behind(self, at: Position) -> list[Placed]:
        return [e for e in self.entries if e.epoch == at.epoch and e.seq > at.seq]

    async def read(self, after: Position | None) -> Page:
        found = [] if after is None else self.behind(after)[: feeds.PAGE]
        return Page(head=Position(self.epoch, self.seq), entries=found)


async def nothing() -> None:
    """Nobody's standing matters here."""


class Client:
    """A page that comes back where it stopped."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.at: Position | None = None
        self.feed: Feed | None = None
        self.paper = Paper()
        self.listener: Listener | None = None

    async def connect(self, feed: Feed) -> None:
        self.feed, self.paper = feed, Paper()
        self.listener = Listener(outlet=Outlet(self.paper), sight=seeing(line, SEES, False))
        if self.at is None:
            self.at = feed.at
        await feed.join(self.listener, self.at)

    def read(self) -> None:
        """Take what came, and insist that nothing is missing."""
        for frame in self.paper.lines:
            at = Position(frame["epoch"], frame["seq"])
            if frame["type"] == "event":
                assert at == self.next(), "a hole, a repeat or the wrong order"
            self.at = at
        self.paper.lines.clear()

    def next(self) -> Position:
        """The next position whose entry may be seen."""
        assert self.at is not None
        seq = self.at.seq + 1
        return Position(self.at.epoch, seq + 1 if seq % HIDDEN_EVERY == 0 else seq)

    def leave(self, *, lose: bool) -> None:
        """Go away, with what was read, and without what was on its way if it is lost."""
        if not lose:
            self.read()
        self.paper.lines.clear()
        if self.feed is not None and self.listener is not None:
            self.feed.leave(self.listener)
        self.feed = self.listener = None


class Resuming(RuleBasedStateMachine):
    """Two replicas, a stream, and a client that comes and goes. Hints may come or not."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = self.make_loop()
        self.history = self.make_history()
        self.feeds = [Feed(self.history.read, standing_changed=nothing) for _ in range(2)]
        for feed in self.feeds:
            self.loop.run_until_complete(feed.start())
        self.clients = [Client(self.history) for _ in range(2)]

    def make_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def make_history(self) -> History:
        return History()

    def teardown(self) -> None:
        self.loop.close()

    @rule(count=st.integers(1, 12), told=st.sampled_from([(), (0,), (1,), (0, 1)]))
    def something_happens(self, count: int, told: tuple[int, ...]) -> None:
        """The replicas that are told look at once; to the others the hint is lost."""
        self.history.append(count)
        for which in told:
            self.look(which)

    @rule(which=st.integers(0, 1))
    def the_poll_looks(self, which: int) -> None:
        self.look(which)

    def look(self, which: int) -> None:
        self.loop.run_until_complete(self.feeds[which].look())

    @rule(who=st.integers(0, 1), which=st.integers(0, 1))
    def a_client_connects(self, who: int, which: int) -> None:
        self.clients[who].leave(lose=False)
        self.loop.run_until_complete(self.clients[who].connect(self.feeds[which]))

    @rule(who=st.integers(0, 1), unread=st.booleans())
    def a_socket_dies(self, who: int, unread: bool) -> None:
        self.clients[who].leave(lose=unread)

    @rule(who=st.integers(0, 1), full=st.booleans())
    def a_wire_fills_or_takes_again(self, who: int, full: bool) -> None:
        paper = self.clients[who].paper
        paper.writable = not full
        if not full:
            paper.on_writable()

    @rule(rarely=RARELY, share=st.floats(0, 1))
    def old_entries_go(self, rarely: int, share: float) -> None:
        if rarely == 0:
            self.history.forget(share)

    @rule(rarely=RARELY, lost=st.integers(0, 3))
    def the_database_is_restored(self, rarely: int, lost: int) -> None:
        if rarely == 0:
            self.history.restore(lost)

    @rule(who=st.integers(0, 1))
    def a_client_reads(self, who: int) -> None:
        self.clients[who].read()

    @rule()
    def all_is_quiet(self) -> None:
        """Once everybody looked and everything was taken, every listener has all there is."""
        for feed in self.feeds:
            while self.loop.run_until_complete(feed.look()) or feed.at != self.head:
                pass
        for client in self.clients:
            if client.feed is None:
                continue
            client.paper.writable = True
            client.paper.on_writable()
            client.read()
            assert client.at is not None
            assert client.next() > self.head

    @property
    def head(self) -> Position:
        return Position(self.history.epoch, self.history.seq)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PAGE", 3)
    monkeypatch.setattr(feeds, "MAX_REPLAY", 20)


@pytest.mark.usefixtures("short_pages")
class TestResuming(Resuming.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


class TestFollows:
    @pytest.mark.parametrize(
        ("head", "numbers", "goes_on"),
        [
            ((1, 5), [4, 5], True),
            ((1, 3), [4, 5], True),
            ((1, 3), [], True),
            ((1, 5), [], False),
            ((1, 5), [5], False),
            ((1, 6), [4, 6], False),
            ((1, 2), [], False),
            ((2, 3), [], False),
        ],
    )
    def test_a_page_goes_on_only_right_behind_the_position(
        self, head: tuple[int, int], numbers: list[int], goes_on: bool
    ) -> None:
        entries = [Placed(epoch=1, seq=n, type="x", data={}) for n in numbers]

        assert follows(Page(head=Position(*head), entries=entries), Position(1, 3)) == goes_on
