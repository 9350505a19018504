"""A tenant's stream as this process reads it: each entry once, for everybody who listens.

A listener gets entries in order, none twice and none left out, or is told to load everything
again. Replay and live meet without a gap because a listener joins in the same step of the event
loop in which it has been shown all that the feed has handed out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec import Struct

from control_plane.access import view
from control_plane.access.permissions import Permission
from control_plane.realtime import events, frames
from control_plane.realtime.frames import Form, Position
from control_plane.realtime.outlet import Outlet
from control_plane.stream.log import Placed

# Entries of one read; several go out in one write.
PAGE = 500
# A longer gap is cheaper to load again than to replay.
MAX_REPLAY = 10_000
# Listeners served before others in this process get a turn: about 5 ms.
_TURN = 500


class Page(Struct, frozen=True):
    """Entries behind a position, and where the stream ended just before they were read."""

    head: Position
    entries: Sequence[Placed]


class Ended(Exception):
    """There is no such stream (any more)."""


Read = Callable[[Position | None], Awaitable[Page]]
"""Reads behind a position, or only the head; raises Ended."""


def follows(page: Page, after: Position) -> bool:
    """Whether the page goes on exactly behind `after`, with nothing missing in it."""
    if page.head.epoch != after.epoch or page.head.seq < after.seq:
        return False
    numbers = [entry.seq for entry in page.entries]
    if numbers != list(range(after.seq + 1, after.seq + 1 + len(numbers))):
        return False
    return bool(numbers) or page.head.seq == after.seq


@dataclass(eq=False, frozen=True, slots=True)
class Sight:
    """What a listener may see, and in which form it goes onto their wire."""

    form: Form
    sees: frozenset[Permission]
    masked: bool


# One object for all who see alike: found by what it is, it need not be compared by what it holds.
seeing = lru_cache(maxsize=256)(Sight)


@dataclass(eq=False, kw_only=True, slots=True)
class Listener:
    """Somebody who is told; `at` is the last position that they were shown or passed over."""

    outlet: Outlet
    sight: Sight
    at: Position = frames.NOWHERE

    def reset(self, head: Position) -> None:
        """From here on, everything before `head` is to be loaded again."""
        self.at = head
        self.outlet.push(self.sight.form(frames.reset(head), head))


@dataclass(kw_only=True, slots=True)
class Told:
    """An entry, encoded once for each form of wire, and for who sees numbers masked."""

    at: Position
    seen_with: Permission | None
    entry: Placed
    _forms: dict[tuple[Form, bool], bytes] = field(default_factory=dict)

    def as_(self, form: Form, *, masked: bool) -> bytes:
        known = self._forms.get((form, masked))
        if known is None:
            data = view.shown(self.entry.data, masked=masked)
            payload = frames.event(self.at, self.entry.type, data)
            known = self._forms[form, masked] = form(payload, self.at)
        return known


def tell(entry: Placed) -> Told:
    at = Position(entry.epoch, entry.seq)
    return Told(at=at, seen_with=events.SEEN_WITH.get(entry.type), entry=entry)


def joined(batch: Sequence[Told], sight: Sight, after: Position) -> tuple[bytes, int]:
    """What of a batch may be seen and lies behind `after`, as one piece; of how many frames."""
    pieces = [
        told.as_(sight.form, masked=sight.masked)
        for told in batch
        if told.at > after and told.seen_with in sight.sees
    ]
    return b"".join(pieces), len(pieces)


class Feed:
    """Reads one tenant's stream and hands it out."""

    def __init__(self, read: Read, *, standing_changed: Callable[[], Awaitable[None]]) -> None:
        self._read = read
        self._standing_changed = standing_changed
        self.listeners: set[Listener] = set()
        self.at = frames.NOWHERE

    async def start(self) -> None:
        """Begin at the stream's end."""
        self.at = (await self._read(None)).head

    async def look(self) -> bool:
        """Hand out what is new; whether there may be more."""
        page = await self._read(self.at)
        if not follows(page, self.at):
            self._jump(page.head)
        elif page.entries:
            await self._hand_out([tell(entry) for entry in page.entries])
        if any(entry.type in events.ABOUT_STANDING for entry in page.entries):
            await self._standing_changed()
        return len(page.entries) >= PAGE

    async def join(self, listener: Listener, resume: Position | None) -> None:
        """Show a listener what it missed behind `resume`, then let it listen."""
        listener.at = self.at if resume is None else resume
        if resume is not None:
            await self._replay(listener)
        # Nothing was awaited since the listener had seen as much as everybody else here.
        if listener.outlet.closed is None:
            self.listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)

    async def _replay(self, listener: Listener) -> None:
        while True:
            page = await self._read(listener.at)
            if not follows(page, listener.at) or page.head.seq - listener.at.seq > MAX_REPLAY:
                listener.reset(page.head)
            elif page.entries:
                batch = [tell(entry) for entry in page.entries]
                data, count = joined(batch, listener.sight, listener.at)
                listener.at = batch[-1].at
                if count:
                    listener.outlet.push(data, count)
            if listener.at >= self.at or listener.outlet.closed is not None:
                return
            await listener.outlet.taken()

    async def _hand_out(self, batch: Sequence[Told]) -> None:
        # First of all, so that who joins meanwhile replays up to here.
        before, upto = self.at, batch[-1].at
        self.at = upto
        pieces: dict[Sight, tuple[bytes, int]] = {}
        for n, listener in enumerate(tuple(self.listeners), start=1):
            at, sight = listener.at, listener.sight
            if at == before:
                piece = pieces.get(sight)
                if piece is None:
                    piece = pieces[sight] = joined(batch, sight, before)
            else:
                # Joined since: some of it was in their replay, or all.
                piece = joined(batch, sight, at)
            if at < upto:
                listener.at = upto
            data, count = piece
            if count:
                listener.outlet.push(data, count)
            if n % _TURN == 0:
                await asyncio.sleep(0)

    def _jump(self, head: Position) -> None:
        """The stream does not go on where it was: another epoch, or a piece was cut out."""
        self.at = head
        for listener in tuple(self.listeners):
            if listener.at != head:
                listener.reset(head)
