"""One room for each tenant that somebody of this process listens to: its feed and its notes.

A room's reader looks when a hint says so. One poll for all rooms of the process finds what a lost
hint would have told, so that thousands of quiet tenants cost one statement every two seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from uuid import UUID

import structlog

from control_plane.bus.hints import Bus, Wake
from control_plane.db.session import Database, Scope
from control_plane.kit.metrics import LOOP_FAILURES
from control_plane.realtime import feed as feeds
from control_plane.realtime.feed import Ended, Feed, Page
from control_plane.realtime.frames import Position
from control_plane.realtime.notes import Board
from control_plane.realtime.outlet import FORBIDDEN
from control_plane.stream import log as stream

# Between looks without hint or poll: only for a process whose poll does not run.
_REST_S = 30.0
# Seconds for the first look into a tenant's stream.
_OPEN_WITHIN_S = 5.0
# Tenants of one statement of the poll.
_CHUNK = 500

log = structlog.get_logger()


@dataclass(eq=False, kw_only=True)
class Room:
    """A tenant's listeners in this process."""

    tenant_id: UUID
    feed: Feed
    wake: Wake
    board: Board = field(default_factory=lambda: Board(time.monotonic))
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    ended: bool = False

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class Rooms:
    """Opens a room for its first listener and ends it after the last."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        *,
        standing_changed: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._database = database
        self._bus = bus
        self._standing_changed = standing_changed
        self._rooms: dict[UUID, Room] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, tenant_id: UUID) -> Room | None:
        return self._rooms.get(tenant_id)

    @asynccontextmanager
    async def enter(self, tenant_id: UUID) -> AsyncIterator[Room]:
        """The tenant's room, its feed at work; raises Ended, or TimeoutError without a database."""
        room = self._rooms.get(tenant_id) or self._open(tenant_id)
        room.users += 1
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                await room.ready.wait()
            if room.ended:
                raise Ended
            yield room
        finally:
            room.users -= 1
            if not room.users and self._rooms.get(tenant_id) is room:
                del self._rooms[tenant_id]
                room.end()

    async def poll(self) -> None:
        """Wake the rooms whose streams are not where their feeds are."""
        for chunk in _chunks(self._rooms):
            async with self._database.session(Scope(tenants=tuple(chunk))) as session:
                heads = await stream.heads(session, chunk)
            for tenant_id in chunk:
                room = self._rooms.get(tenant_id)
                if room is not None and heads.get(tenant_id) != room.feed.at:
                    room.wake.set()

    async def stopped(self, timeout_s: float) -> None:
        """Wait for readers whose rooms have ended."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    def _open(self, tenant_id: UUID) -> Room:
        feed = Feed(
            partial(self._read, tenant_id),
            standing_changed=partial(self._standing_changed, tenant_id),
        )
        room = Room(tenant_id=tenant_id, feed=feed, wake=Wake())
        self._rooms[tenant_id] = room
        task = asyncio.create_task(self._look_after(room), name="realtime.room")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return room

    async def _look_after(self, room: Room) -> None:
        with self._bus.listen(stream.topic(room.tenant_id)) as room.wake:
            while not room.ended:
                if not await self._look(room):
                    await room.wake.wait(_REST_S)

    async def _look(self, room: Room) -> bool:
        try:
            if room.ready.is_set():
                return await room.feed.look()
            await room.feed.start()
            room.ready.set()
        except Ended:
            self._close(room)
        except Exception as error:  # it outlives whatever the database does
            LOOP_FAILURES.labels("realtime.room").inc()
            log.warning("a stream could not be read", error=type(error).__name__)
        return False

    def _close(self, room: Room) -> None:
        room.end()
        room.ready.set()
        if self._rooms.get(room.tenant_id) is room:
            del self._rooms[room.tenant_id]
        for listener in tuple(room.feed.listeners):
            listener.outlet.close(FORBIDDEN, "tenant_not_active")

    async def _read(self, tenant_id: UUID, after: Position | None) -> Page:
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            # The head first: what comes in between only makes the page longer.
            head = (await stream.heads(session, [tenant_id])).get(tenant_id)
            if head is None:
                raise Ended
            entries = []
            if after is not None and head != after:
                try:
                    entries = await stream.read(
                        session, tenant_id, epoch=after.epoch, after=after.seq, limit=feeds.PAGE
                    )
                except stream.Forgotten:
                    # A page that does not go on behind `after`: whoever reads it starts over.
                    entries = []
        return Page(head=Position(*head), entries=entries)


def _chunks(rooms: dict[UUID, Room]) -> list[list[UUID]]:
    tenants = iter(tuple(rooms))
    return list(iter(lambda: list(islice(tenants, _CHUNK)), []))
