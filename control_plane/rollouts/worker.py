"""Brings a rollout on: look how it stands, take the steps, each in a transaction of its own.

Nothing is remembered between looks but what is in the rows, so whoever gets the lease goes on. A
step is written only while the rollout is in the state for which it was thought of.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver, hint
from control_plane.instances import service as instances
from control_plane.instances.models import Instance
from control_plane.kit.clock import Clock
from control_plane.kit.errors import NotFound
from control_plane.kit.ids import new_id
from control_plane.rollouts import service, standing
from control_plane.rollouts.advance import (
    End,
    GoBack,
    Member,
    MemberState,
    Move,
    NextWave,
    Pass,
    RollBack,
    State,
    Step,
    Talk,
    Terms,
    advance,
)
from control_plane.rollouts.models import Member as MemberRow
from control_plane.rollouts.models import Rollout

WORK = service.WORK
# Between looks while somebody is watched, and while nothing can happen by itself.
LOOK = timedelta(seconds=5)
AT_REST = timedelta(seconds=30)
# Steps of one look: each is a transaction, and a process that stops waits for the look to end.
STEPS_A_LOOK = 50
# Talks are counted anew after this; a release is watched for minutes.
TALKS_EVERY = timedelta(seconds=30)

_NEWCOMERS = "UPDATE releases SET newcomers = true WHERE id = $1"
_NO_NEWCOMERS = "UPDATE releases SET newcomers = false WHERE newcomers AND id <> $1"
_NUMBER = "SELECT number FROM releases WHERE id = $1"


class Turned(Exception):
    """An operator has said something else meanwhile: look again."""


class Rollouts:
    """Works on the one rollout that has not ended."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._talks: dict[UUID, Talk] = {}
        self._counted_at: datetime | None = None

    async def bring_on(self, lease: Lease) -> timedelta | None:
        """Work handler: take the steps that are due now."""
        now = self._clock.now()
        async with self._database.session(Scope(operator=True)) as session:
            rollout = await service.get(session, lease.key)
            members, watched = await standing.members(session, lease.key)
        if rollout.ended_at is not None:
            self._talks.clear()
            return None
        talks = await self._count(watched, now)
        seen = [replace(each, talk=talks.get(each.id, Talk())) for each in members]
        state = State(rollout.state)
        steps = advance(state, rollout.wave, _terms(rollout), seen, now)
        try:
            for step in steps[:STEPS_A_LOOK]:
                await self._take(lease, state, seen, step)
        except Turned:
            return timedelta(0)
        if steps:
            return timedelta(0)
        return LOOK if watched or state is State.RUNNING else AT_REST

    async def _count(
        self, watched: dict[UUID, tuple[UUID, UUID]], now: datetime
    ) -> dict[UUID, Talk]:
        """The talks of those who are watched; counted again when they are old."""
        if self._counted_at is None or now - self._counted_at >= TALKS_EVERY:
            self._talks.clear()
            self._counted_at = now
        self._talks = {each: self._talks[each] for each in watched if each in self._talks}
        missing = {each: how for each, how in watched.items() if each not in self._talks}
        stuck_before = standing.earlier(new_id(), standing.STUCK_AFTER)
        self._talks |= await standing.talks(self._database, missing, stuck_before)
        return self._talks

    async def _take(self, lease: Lease, state: State, members: list[Member], step: Step) -> None:
        tenants: tuple[UUID, ...] = ()
        if isinstance(step, Move | Pass | GoBack):
            tenants = tuple(each.tenant_id for each in members if each.id == step.member)
        async with self._database.session(Scope(tenants=tenants, operator=True)) as session:
            # Before all else, and in the order of operators' calls: the rollout, then its work.
            rollout = await service.get(session, lease.key, lock=True)
            if rollout.state != state or rollout.ended_at is not None:
                raise Turned
            await leases.hold(session, lease)
            await self._write(session, rollout, step)

    async def _write(self, session: AsyncSession, rollout: Rollout, step: Step) -> None:
        now = self._clock.now()
        match step:
            case Move():
                await _move(session, rollout, step, now)
            case GoBack():
                await _go_back(session, rollout, step, now)
            case Pass():
                member = await _row(session, rollout, step.member)
                member.state, member.updated_at = MemberState.GOOD.value, now
            case NextWave():
                rollout.wave = step.wave
                rollout.began = [*rollout.began, now.isoformat()]
                rollout.updated_at = now
                service.note(session, rollout, "wave", now=now)
            case RollBack():
                rollout.state, rollout.reason = State.ROLLING_BACK.value, step.reason
                rollout.updated_at = now
                service.note(session, rollout, "roll_back", now=now)
            case End():
                await _end(session, rollout, step, now)
        session.add(rollout)
        hint(session, instances.FLEET)


async def _move(session: AsyncSession, rollout: Rollout, step: Move, now: datetime) -> None:
    member = await _row(session, rollout, step.member)
    instance = await _instance(session, step.member)
    if instance is None:
        return
    member.before_id, member.before_phase = instance.release_id, instance.phase
    member.state, member.mark = MemberState.MOVED.value, new_id()
    member.moved_at = member.updated_at = now
    await _release(session, instance, rollout.release_id, f"rollout {rollout.number}", now)


async def _go_back(session: AsyncSession, rollout: Rollout, step: GoBack, now: datetime) -> None:
    member = await _row(session, rollout, step.member)
    member.state, member.reason, member.updated_at = step.state.value, step.reason, now
    instance = await _instance(session, step.member)
    if instance is not None and instance.release_id == rollout.release_id:
        await _release(session, instance, member.before_id, step.reason, now)


async def _end(session: AsyncSession, rollout: Rollout, step: End, now: datetime) -> None:
    if step.state is State.DONE:
        if await service.enrol(session, rollout, now=now, last=True):
            # Some came while it went on.
            return
        connection = await driver(session)
        await connection.execute(_NO_NEWCOMERS, rollout.release_id)
        await connection.execute(_NEWCOMERS, rollout.release_id)
    rollout.state = step.state.value
    rollout.ended_at = rollout.updated_at = now
    service.note(session, rollout, "end", now=now)


async def _row(session: AsyncSession, rollout: Rollout, instance_id: UUID) -> MemberRow:
    member = await session.get_one(MemberRow, (rollout.id, instance_id))
    session.add(member)
    return member


async def _instance(session: AsyncSession, instance_id: UUID) -> Instance | None:
    try:
        return await instances.get(session, instance_id, lock=True)
    except NotFound:  # deleted meanwhile
        return None


async def _release(
    session: AsyncSession, instance: Instance, release_id: UUID | None, reason: str, now: datetime
) -> None:
    number = await (await driver(session)).fetchval(_NUMBER, release_id)
    await instances.release(session, instance.id, release_id, number=number, reason=reason, now=now)


def _terms(rollout: Rollout) -> Terms:
    return Terms(
        waves=len(rollout.waves),
        budget_percent=rollout.budget_percent,
        ready_within=timedelta(seconds=rollout.ready_within_s),
        watch=timedelta(seconds=rollout.watch_s),
        at_once=rollout.at_once,
    )
