"""The loop that makes instances what they should be: look, plan, act, write down how it stands.

Slow work (processes, agents) happens between transactions; every write holds the lease.
"""

import json
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.bus.together import Together
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.fleet import status
from control_plane.fleet.news import News, Stands, write
from control_plane.fleet.plan import (
    Action,
    Activate,
    Destroy,
    EndSessions,
    Observed,
    PushConfig,
    Refit,
    RotateSecrets,
    SessionView,
    Start,
    Starts,
    Stop,
    Want,
    account,
    forgive,
    plan,
)
from control_plane.fleet.provision.base import Provisioner, Workload, WorkloadState
from control_plane.fleet.refits import WAITS_FOR_REFITS, Refits
from control_plane.fleet.view import Digests, View, load, starts_to
from control_plane.instances import rotation, sessions
from control_plane.instances import service as instances
from control_plane.instances.client import AgentAway, AgentClient, AgentRefused, AgentSilent
from control_plane.instances.sessions import DEAD_AFTER
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from instance_agent.protocol import ConfigOutcome, SecretsRenewal

WORK = instances.WORK
# Time for an agent to finish what it has in hand when it is stopped.
GRACE = timedelta(seconds=20)
# Nothing to do but to notice a silent agent: what changes otherwise hints.
_AT_REST = frozenset({"running", "connecting", "degraded"})
# What looks are grouped by: nothing.
_ALL = UUID(int=0)
# Agents that came before the call answer so.
_UNKNOWN_CALL = 404
# An agent's answer to a revision older than one that it has.
_AHEAD = "stale_revision"
_NOW = timedelta(0)
# Looks within one lease: enough for a start to get as far as it can without waiting.
_ROUNDS = 4

_RESTART = "UPDATE config_states SET pending_restart = $2 WHERE instance_id = $1"
_CHANNELS_DOWN = """
UPDATE channels SET state = 'connecting', state_reason = NULL
WHERE instance_id = $1 AND deleted_at IS NULL AND state <> 'connecting'
"""
# A message that comes at this moment finds no agent, and whoever carries it wakes the bot.
_SLEEP = """
UPDATE instances SET asleep_at = $2, updated_at = $2
WHERE id = $1 AND tenant_id = $3 AND asleep_at IS NULL AND generation = $4 AND awake_at <= $5
  AND NOT EXISTS (SELECT FROM conversations AS c
      WHERE c.tenant_id = $3 AND c.instance_id = $1 AND c.last_message_at > $5
        AND c.last_message_hour >= date_bin('1 hour', $5, '2000-01-01 00:00:00+00'::timestamptz))
  AND NOT EXISTS (SELECT FROM deliveries AS d
      WHERE d.tenant_id = $3 AND d.instance_id = $1 AND d.state IN ('queued', 'sending'))
  AND NOT EXISTS (SELECT FROM callbacks AS w JOIN channels AS c ON c.id = w.channel_id
      WHERE c.instance_id = $1 AND w.dead_reason IS NULL)
"""
log = structlog.get_logger()


class Reconciler:
    """Looks at instances, one lease at a time."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        clock: Clock,
        *,
        provisioner: Provisioner,
        agents: AgentClient,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._provisioner = provisioner
        self._agents = agents
        self._digests = Digests()
        self._views: Together[Lease, View | None] = Together("fleet.views", self._read)
        self._news: Together[News, None] = Together("fleet.news", self._write_down)
        self._refits = Refits()

    async def look(self, lease: Lease) -> timedelta | None:
        """Work handler: bring one instance closer to what it should be."""
        before: tuple[Workload, list[Action]] | None = None
        left: Workload | None = None
        for _ in range(_ROUNDS):
            view = await self._views.do(_ALL, lease)
            if view is None:
                return None
            # What a removal says is left, it knows better than who looks for an agent.
            workload = left or (await self._provisioner.observe([lease.key]))[lease.key]
            now = self._clock.now()
            starts = forgive(account(view.starts, workload, now), workload, now)
            answers = await self._answers(view, workload)
            removed = left is not None and left.state == WorkloadState.ABSENT
            seen = view.seen(workload, starts, now, removed=removed, answers=answers)
            actions = plan(view.desired, seen, now)
            room = self._may_refit(view, seen, actions)
            held = status.conditions(view.desired, seen, now)
            phase = status.phase(view.desired, seen, held)
            # A removal that goes on says itself what is left.
            if view.instance.phase != "deleting" or left is not None:
                pushes = room and PushConfig() in actions and (workload, actions) != before
                news = _news(lease, view, seen, held, phase, now, delivers=pushes)
                if news is not None:
                    await self._news.do(_ALL, news)
            if not actions or (workload, actions) == before:
                # Asking again at once would not hurry what takes its time.
                if await self._falls_asleep(lease, view, seen, held, now):
                    continue
                return _next(view, seen, phase, now)
            before = (workload, actions)
            if not room:
                return WAITS_FOR_REFITS
            for action in actions:
                left = await self._act(lease, view, action, workload)
        return timedelta(0)

    async def watch(self) -> None:
        """Turn the provisioner's hints into looks, until cancelled."""
        async for instance_id in self._provisioner.changes():
            try:
                async with self._database.session() as session:
                    await leases.call_key(session, WORK, instance_id)
            except Exception as error:  # it outlives whatever the database does
                # The resync finds what this hint meant.
                log.warning("hint lost", error=type(error).__name__)

    def _scope(self, lease: Lease) -> Scope:
        return Scope(tenants=(lease.tenant_id,))

    async def _read(self, _all: UUID, looks: list[Lease]) -> list[View | None]:
        """What is looked at in the same moment is read together, for all these tenants."""
        bots = [(lease.tenant_id, lease.key) for lease in looks]
        # Not over the few connections that leases are taken over; it writes nothing.
        async with self._database.lone(durable=True) as session:
            now = self._clock.now()
            views = await load(session, self._keys, self._digests, bots, now=now)
        return [views.get(lease.key) for lease in looks]

    async def _write_down(self, _all: UUID, news: list[News]) -> list[None]:
        """What was found in the same moment is written together."""
        scope = Scope(tenants=tuple({each.lease.tenant_id for each in news}))
        async with self._database.plain(scope) as session:
            await write(session, news)
        return [None] * len(news)

    async def _answers(self, view: View, workload: Workload) -> bool:
        """Whether an agent that was not heard for long is there all the same.

        Where every `api` process is away, or our clock has jumped, all look silent.
        """
        active = next((s for s in view.sessions if s.state == "active"), None)
        running = workload.state == WorkloadState.RUNNING and view.desired.want == Want.RUNNING
        if active is None or not running or _due(active, self._clock.now()) > _NOW:
            return False
        if view.agent is None:
            return False
        try:
            await self._agents.health(view.agent)
        except (AgentAway, AgentSilent, AgentRefused):
            return False
        return True

    def _may_refit(self, view: View, seen: Observed, actions: list[Action]) -> bool:
        """Whether there is room for what ends an agent only because its place or plan changed."""
        active = next((s.id for s in seen.sessions if s.state == "active"), None)
        self._refits.seen(view.instance.id, active)
        if Refit() not in actions:
            return True
        now, given = seen.workload.allowance, view.desired.allowance
        resized = now is None or (now.cpu, now.memory) != (given.cpu, given.memory)
        ends = seen.workload.outdated or (resized and not self._provisioner.refits_in_place)
        return not ends or self._refits.begin(view.instance.id, active, self._clock.now())

    async def _act(
        self, lease: Lease, view: View, action: Action, workload: Workload
    ) -> Workload | None:
        """Do it; what a removal has left."""
        match action:
            case Start():
                await self._provisioner.ensure(view.spec)
                await self._started(lease)
            case Refit():
                await self._provisioner.ensure(view.spec)
            case Stop():
                await self._stop(lease, action, workload)
            case Destroy():
                return await self._provisioner.destroy(lease.key)
            case EndSessions():
                async with self._database.session(self._scope(lease)) as session:
                    await sessions.end_others(session, lease.key, keep=list(action.keep))
                    await (await driver(session)).execute(_CHANNELS_DOWN, lease.key)
                    await leases.hold(session, lease)
            case Activate():
                await self._activate(lease, view, action)
            case PushConfig():
                await self._push(lease, view)
            case RotateSecrets():
                await self._rotate(lease, view)
        return None

    async def _started(self, lease: Lease) -> None:
        async with self._database.plain(self._scope(lease)) as session:
            await (await driver(session)).execute(_RESTART, lease.key, False)
            await leases.hold(session, lease)

    async def _stop(self, lease: Lease, action: Stop, workload: Workload) -> None:
        stopped = await self._provisioner.stop(lease.key, grace=GRACE)
        if not action.failure and stopped.state == WorkloadState.EXITED:
            # An end that we asked for is no failure.
            body = json.dumps(starts_to(Starts(ended_ref=stopped.ref or workload.ref)))
            async with self._database.plain(self._scope(lease)) as session:
                await (await driver(session)).execute(
                    "UPDATE instances SET starts = $2 WHERE id = $1", lease.key, body
                )
                await leases.hold(session, lease)

    async def _activate(self, lease: Lease, view: View, action: Activate) -> None:
        async with self._database.session(self._scope(lease)) as session:
            # In the order of all who lock these: lanes, instances, callbacks, the looks at them.
            await leases.call_tenant(session, "lane", lease.tenant_id)
            epoch = await sessions.activate(
                session, instance_id=lease.key, session_id=action.session_id
            )
            _note(session, view, "agent.active", f"agent active, epoch {epoch}", self._clock.now())
            await session.flush()
            await leases.call_tenant(session, "callback", lease.tenant_id)
            await leases.hold(session, lease)

    async def _push(self, lease: Lease, view: View) -> None:
        if view.agent is None:
            return
        try:
            outcome = await self._agents.update_config(view.agent, view.update)
        except (AgentAway, AgentSilent, AgentRefused) as error:
            log.info("configuration not taken", instance=str(lease.key), error=str(error)[:256])
            if not (isinstance(error, AgentRefused) and error.code == _AHEAD):
                raise
            # It runs what we do not know of: a new start takes ours, whatever the numbers.
            outcome = ConfigOutcome(outcome="needs_restart", revision=None)
        await self._news.do(_ALL, News(lease=lease, view=view, outcome=outcome))

    async def _rotate(self, lease: Lease, view: View) -> None:
        if view.agent is None:
            return
        session_id = view.agent.session_id
        async with self._database.session(self._scope(lease)) as session:
            fresh = await rotation.prepare(
                session,
                self._keys,
                instance_id=lease.key,
                session_id=session_id,
                now=self._clock.now(),
            )
            await leases.hold(session, lease)
        if fresh is None:
            return
        renewal = SecretsRenewal(api_token=fresh.api_token, webhook_secrets=fresh.webhook_secrets)
        try:
            await self._agents.renew_secrets(view.agent, renewal)
        except AgentRefused as refused:
            if refused.status != _UNKNOWN_CALL:
                raise
            # An agent of before: its successor gets new ones.
            await self._restart_for_secrets(lease)
            return
        async with self._database.session(self._scope(lease)) as session:
            now = self._clock.now()
            await rotation.taken(
                session, fresh, instance_id=lease.key, session_id=session_id, now=now
            )
            _note(session, view, "agent.secrets", "secrets replaced", now)
            await session.flush()
            await leases.hold(session, lease)

    async def _restart_for_secrets(self, lease: Lease) -> None:
        async with self._database.session(self._scope(lease)) as session:
            await (await driver(session)).execute(_RESTART, lease.key, True)
            await leases.hold(session, lease)

    async def _falls_asleep(
        self, lease: Lease, view: View, seen: Observed, held: list[status.Condition], now: datetime
    ) -> bool:
        """Whether it sleeps from now on, since nobody wrote for as long as its plan says."""
        after = view.sleeps_after
        if after is None or view.desired.want != Want.RUNNING:
            return False
        if view.instance.awake_at + after > now:
            return False
        whole = all(each.status for each in held)
        if not whole or any(each.spool_depth for each in seen.sessions):
            return False
        async with self._database.session(self._scope(lease)) as session:
            slept = await (await driver(session)).execute(
                _SLEEP,
                lease.key,
                now,
                lease.tenant_id,
                view.instance.generation,
                now - after,
            )
            if slept == "UPDATE 1":
                minutes = int(after.total_seconds() // 60)
                _note(session, view, "instance.hibernate", f"no message for {minutes} min", now)
                await session.flush()
                await leases.hold(session, lease)
        return bool(slept == "UPDATE 1")


def _news(
    lease: Lease,
    view: View,
    seen: Observed,
    held: list[status.Condition],
    phase: str,
    now: datetime,
    *,
    delivers: bool,
) -> News | None:
    """How it stands, if that changed; a converged instance costs no write."""
    known = view.instance
    stands = Stands(
        phase=phase,
        conditions=status.merge(known.conditions, held, now),
        starts=starts_to(seen.starts),
        generation=known.generation,
        drift=status.drift(view.desired, seen),
        at=now,
    )
    is_known = (
        stands.phase == known.phase
        and stands.conditions == known.conditions
        and stands.starts == known.starts
        and stands.generation == known.observed_generation
        and stands.drift == known.drift
    )
    if is_known and not delivers:
        return None
    return News(lease=lease, view=view, stands=None if is_known else stands, delivers=delivers)


def _next(view: View, seen: Observed, phase: str, now: datetime) -> timedelta | None:
    """When to look again without a hint."""
    if phase == "deleted":
        return None
    if seen.answers:
        return sessions.HEARTBEAT
    if phase in _AT_REST:
        due = [_due(s, now) for s in view.sessions if s.state == "active"]
        return max(status.UNDER_WAY, min([status.RESYNC, *due]))
    if phase in ("stopped", "hibernated"):
        return status.RESYNC
    if seen.starts.not_before is not None and seen.starts.not_before > now:
        return seen.starts.not_before - now
    return status.UNDER_WAY


def _due(active: SessionView, now: datetime) -> timedelta:
    """When an agent would be taken for silent."""
    return active.seen_at + DEAD_AFTER + timedelta(seconds=1) - now


def _note(session: AsyncSession, view: View, event: str, message: str, now: datetime) -> None:
    instances.note(
        session,
        tenant_id=view.instance.tenant_id,
        instance_id=view.instance.id,
        event=event,
        message=message,
        now=now,
    )
