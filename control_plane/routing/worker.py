"""Gives out what waits, tells those who wait on, closes what has gone silent: tenant by tenant.

The row of work is there while the tenant has routing switched on. It is called when something comes
to wait, when somebody gets room or comes back, and when the settings change; besides that it looks
by itself, for what only time brings about. Each change is a transaction that holds the lease.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope
from control_plane.kit.clock import Clock
from control_plane.routing import hours, members, ratings, settings, silence, waiting
from control_plane.routing.choosing import distribute
from control_plane.routing.settings import Kept
from control_plane.routing.waiting import Wait
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import service as tenants
from control_plane.tenants.service import ROUTING

WORK = ROUTING
# Changes in one look, each a transaction of some milliseconds; the rest comes at once after it.
MOST_CHANGES = 50
# Between looks while somebody waits or silence is watched: what only time brings about.
LOOK_EVERY = timedelta(seconds=30)
# With nothing to watch; whatever begins calls.
REST = timedelta(minutes=10)

_AT_ONCE = timedelta(0)


class Router:
    """Works on the queues of tenants."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def look(self, lease: Lease) -> timedelta | None:
        """Work handler: everything of one tenant that is to be done now."""
        async with self._transaction(lease) as session:
            pause = await tenants.rest(session, lease.tenant_id)
            kept = await settings.read(session, lease.tenant_id)
        if not kept.routing.enabled:
            return None
        if pause is not None:
            return pause
        moved = [
            await self._close(lease, kept),
            await self._rate(lease, kept),
            await self._give(lease, kept),
        ]
        if any(moved):
            return _AT_ONCE
        return await self._tell(lease, kept)

    async def _give(self, lease: Lease, kept: Kept) -> bool:
        """Give out what can be; whether anything was taken."""
        now = self._clock.now()
        async with self._transaction(lease) as session:
            await waiting.begin(session, lease.tenant_id, kept, now)
            await leases.hold(session, lease)
            queue = await waiting.queue(session, lease.tenant_id)
            there = await members.present(session, lease.tenant_id, kept, now)
        able = [member.candidate(kept, now) for member in there]
        planned = distribute(waiting.waitings(queue), able, kept.rules, now)[:MOST_CHANGES]
        waits = {wait.waiting: wait for wait in queue}
        given = False
        for chosen, member_id in planned:
            async with self._session(lease) as session:
                entry = await waiting.give(session, kept, waits[chosen], member_id, now)
                await self._written(session, lease, entry)
            given |= entry is not None
        return given

    async def _tell(self, lease: Lease, kept: Kept) -> timedelta:
        """Tell those who wait on; when to look again."""
        now = self._clock.now()
        async with self._transaction(lease) as session:
            queue = await waiting.queue(session, lease.tenant_id)
        closed = not hours.is_open(kept.routing.hours, now)
        told = 0
        for place, wait in enumerate(queue, start=1):
            said = waiting.to_tell(wait, place, kept, now, closed=closed)
            if said is None:
                continue
            if told == MOST_CHANGES:
                return _AT_ONCE
            told += 1
            text, of_closing = said
            async with self._session(lease) as session:
                entry = await waiting.tell(
                    session, wait, text, place=place, closed=of_closing, now=now
                )
                await self._written(session, lease, entry)
        return _next(queue, kept, now)

    async def _close(self, lease: Lease, kept: Kept) -> bool:
        """Warn and close where the customer has gone silent; whether there may be more."""
        now = self._clock.now()
        async with self._transaction(lease) as session:
            silent = await silence.silent(
                session, lease.tenant_id, kept, now=now, limit=MOST_CHANGES
            )
        for one in silent:
            async with self._session(lease) as session:
                entries = await silence.go_on(session, one, kept, now=now)
                await self._written(session, lease, *entries)
        return bool(silent)

    async def _rate(self, lease: Lease, kept: Kept) -> bool:
        """Ask those who were just answered how it was; whether there may be more."""
        async with self._transaction(lease) as session:
            ended = await ratings.ended(session, lease.tenant_id, limit=MOST_CHANGES)
        for one in ended:
            async with self._session(lease) as session:
                entry = await ratings.ask(session, one, kept, now=self._clock.now())
                await self._written(session, lease, entry)
        return bool(ended)

    async def _written(self, session: Any, lease: Lease, *entries: Entry | None) -> None:
        told = [entry for entry in entries if entry is not None]
        await leases.hold(session, lease)
        if told:
            await stream.append(session, lease.tenant_id, told)

    def _transaction(self, lease: Lease) -> Any:
        return self._database.plain(_scope(lease.tenant_id))

    def _session(self, lease: Lease) -> Any:
        return self._database.session(_scope(lease.tenant_id))


def _scope(tenant_id: UUID) -> Scope:
    return Scope(tenants=(tenant_id,))


def _next(queue: Sequence[Wait], kept: Kept, now: datetime) -> timedelta:
    """When time alone may change something: somebody's patience ends, or a look is due."""
    if not queue and not kept.routing.closing.after_min:
        return REST
    ends = [
        wait.waiting.since + kept.rules.patience - now
        for wait in queue
        if wait.waiting.skill is not None or wait.waiting.member_id is not None
    ]
    return min([LOOK_EVERY, *(left for left in ends if left > timedelta(0))])
