"""The parts of a process, wired once: what each command runs is a choice among them."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import structlog

from adapters.egress import Network
from adapters.outbound import Outbound
from control_plane.access import reseal
from control_plane.access.http import House
from control_plane.access.limits import Limiter, LocalLimiter, Rates
from control_plane.access.limits_redis import RedisLimiter
from control_plane.access.mail import make_mailer
from control_plane.access.providers import Providers
from control_plane.access.reseal import Resealer
from control_plane.bus.hints import PostgresBus, SharedBus
from control_plane.bus.loop import Handler, LoopSettings, WorkLoop
from control_plane.bus.queues import Queues
from control_plane.bus.redis import RedisBus
from control_plane.channels import blacklist, callbacks
from control_plane.channels.blacklist_push import BlacklistPush
from control_plane.channels.callbacks import Callbacks
from control_plane.channels.relays import Relays
from control_plane.conversations import search_index
from control_plane.conversations.search_index import SearchIndex
from control_plane.db.session import Database
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from control_plane.fleet import orphans, reconcile, upkeep
from control_plane.fleet.bootstrap import Bootstraps
from control_plane.fleet.orphans import Orphans
from control_plane.fleet.provision.base import Provisioner
from control_plane.fleet.reconcile import Reconciler
from control_plane.fleet.upkeep import Leader, Round
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.dispatch import Dispatcher
from control_plane.ingest.verify import Verifier
from control_plane.instances.authority import Authority
from control_plane.instances.client import AgentClient
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.media import service as media_service
from control_plane.media.removal import Removal
from control_plane.media.storage import Storage
from control_plane.media.transfer import Transfers
from control_plane.media.voices import Voices
from control_plane.privacy import retention
from control_plane.privacy.retention import RETENTION_MAX_DAYS, Retention
from control_plane.realtime.aloud import Aloud
from control_plane.realtime.connections import Connections
from control_plane.realtime.limits import SocketLimits
from control_plane.rollouts import worker as rollouts
from control_plane.rollouts.figures import Figures
from control_plane.rollouts.worker import Rollouts
from control_plane.routing import worker as routing
from control_plane.routing.worker import Router
from control_plane.speech import worker as speech
from control_plane.speech.offline import LANGUAGE, Offline
from control_plane.speech.worker import Speech
from control_plane.tenants import life
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from control_plane.webchat.sockets import Sockets
from control_plane.webhooks import worker as webhooks
from control_plane.webhooks.worker import Webhooks

# What a stopping process waits for each group of parts before it goes on without them.
STOP_WITHIN_S = 12.0
# Voices that one worker waits for at a time; each has a provider that takes its time.
VOICES_AT_ONCE = 32
# Endpoints that are called at the same time: with what each may have in flight, about as many as
# there are outgoing connections.
WEBHOOKS_AT_ONCE = 24

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class AtOnce:
    """How much one worker has in hand at a time; more processes have more.

    Most turns wait for models: the default is four tenants' share of them. Lanes wait for agents
    and platforms.
    """

    turns: int = 64
    lanes: int = 16


class Stoppable(Protocol):
    """A background part: `run` returns soon after `stop`."""

    name: str

    async def run(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(kw_only=True)
class Parts:
    """Everything that the commands put together."""

    house: House
    bus: SharedBus
    agents: AgentClient
    callbacks: Callbacks
    relays: Relays
    sockets: Sockets
    realtime: Connections
    verifier: Verifier
    commits: GroupCommit
    bootstraps: Bootstraps
    retention: Retention
    storage: Storage
    transfers: Transfers
    at_once: AtOnce
    offline_speech: bool = False
    provisioner: Provisioner | None = None

    def api(self) -> list[Stoppable]:
        """What stands behind the HTTP application."""
        return [self.commits, self.realtime, self.relays]

    def workers(self) -> list[Stoppable]:
        """Turns, deliveries, callbacks that wait, webhooks."""
        house = self.house
        aloud = Aloud(self.bus)
        turn = Turns(house.database, house.keys, house.clock, self.agents, aloud.reading)
        offline = Offline(house.database, self.storage) if self.offline_speech else None
        hearing = Speech(house.database, house.keys, house.clock, self.agents, offline)
        lane = Lanes(house.database, house.keys, house.clock, self.agents)
        webhook = Webhooks(house.database, house.keys, house.clock, house.outbound)
        voices = Voices(house.database, self.storage, house.clock)
        removal = Removal(house.database, self.storage, house.clock)
        router = Router(house.database, house.clock)
        listed = BlacklistPush(house.database, house.keys, self.agents)
        return [
            Queues(house.database),
            aloud,
            self._loop(media_service.WORK, removal.remove, LoopSettings(concurrency=2)),
            self._loop(media_service.VOICE, voices.convert, LoopSettings(concurrency=2)),
            self._loop(life.REMOVAL, removal.sweep, LoopSettings(concurrency=1)),
            self._loop(turns.WORK, turn.run, LoopSettings(concurrency=self.at_once.turns)),
            self._loop(speech.WORK, hearing.run, LoopSettings(concurrency=VOICES_AT_ONCE)),
            self._loop(lanes.WORK, lane.deliver, LoopSettings(concurrency=self.at_once.lanes)),
            self._loop(routing.WORK, router.look, LoopSettings(concurrency=4)),
            self._loop(callbacks.WORK, self.callbacks.pass_on),
            self._loop(blacklist.WORK, listed.push),
            self._loop(webhooks.WORK, webhook.follow, LoopSettings(concurrency=WEBHOOKS_AT_ONCE)),
            self._loop(
                search_index.WORK, SearchIndex(house.database).fill, LoopSettings(concurrency=1)
            ),
            self._loop(
                reseal.WORK,
                Resealer(house.database, house.keys).reseal,
                LoopSettings(concurrency=1),
            ),
        ]

    def controllers(self, provisioner: Provisioner, cell: str) -> list[Stoppable]:
        """The fleet: reconcile, the provisioner's hints, rollouts, timed upkeep."""
        house = self.house
        reconciler = Reconciler(
            house.database,
            house.keys,
            house.clock,
            provisioner=provisioner,
            agents=self.agents,
        )
        forget = Round(every=retention.EVERY, run=self.retention.sweep)
        orphaned = Orphans(house.database, house.clock, provisioner=provisioner, cell=cell)
        found = Round(every=orphans.EVERY, run=orphaned.call)
        leader = Leader(house.database, house.clock, {"retention": forget, "orphans": found})
        return [
            self._loop(reconcile.WORK, reconciler.look, LoopSettings(cell=cell)),
            self._loop(orphans.WORK, orphaned.look, LoopSettings(concurrency=1, cell=cell)),
            Background("fleet.hints", reconciler.watch()),
            self._loop(
                rollouts.WORK,
                Rollouts(house.database, house.clock).bring_on,
                LoopSettings(concurrency=1),
            ),
            Figures(house.database, house.clock),
            Led(leader, self._loop(upkeep.WORK, leader.lead, LoopSettings(concurrency=1))),
        ]

    def _loop(self, kind: str, handler: Handler, settings: LoopSettings | None = None) -> WorkLoop:
        return WorkLoop(
            kind,
            handler,
            database=self.house.database,
            bus=self.bus,
            settings=settings or LoopSettings(),
        )

    async def close(self) -> None:
        await self.agents.close()
        await self.house.limiter.close()
        await self.house.outbound.close()
        await self.house.database.close()


def build(
    *,
    database_url: str,
    keys: Keyring,
    clock: Clock,
    public_url: str,
    media: Storage,
    smtp_url: str | None = None,
    approval: str = "manual",
    redis_url: str | None = None,
    rates: Rates | None = None,
    outbound_allow: Sequence[Network] = (),
    retention_max_days: int = RETENTION_MAX_DAYS,
    sockets: SocketLimits | None = None,
    at_once: AtOnce | None = None,
    offline_speech: bool = False,
) -> Parts:
    """Wire the parts over one database; with Redis, hints and rate limits go through it."""
    database = Database(database_url)
    bus = RedisBus(redis_url) if redis_url else PostgresBus(database_url)
    limiter: Limiter = RedisLimiter(redis_url) if redis_url else LocalLimiter()
    database.on_hints = bus.publish
    outbound = Outbound(outbound_allow)
    house = House(
        database=database,
        bus=bus,
        keys=keys,
        clock=clock,
        public_url=public_url,
        mailer=make_mailer(smtp_url, public_url=public_url),
        approval=approval,
        limiter=limiter,
        rates=rates or Rates(),
        outbound=outbound,
        providers=Providers(outbound, clock),
    )
    agents = AgentClient(trust=Authority(keys).trust())
    incoming = Callbacks(database, keys, clock, agents)
    return Parts(
        house=house,
        bus=bus,
        agents=agents,
        callbacks=incoming,
        relays=Relays(house, incoming, agents),
        sockets=Sockets(house, incoming),
        realtime=Connections(house, sockets or SocketLimits()),
        verifier=Verifier(database, keys, clock),
        commits=GroupCommit(
            Dispatcher(database, offline=LANGUAGE if offline_speech else None).write
        ),
        bootstraps=Bootstraps(database, keys, clock),
        retention=Retention(database, clock, at_most=timedelta(days=retention_max_days)),
        storage=media,
        transfers=Transfers(database, media, keys, clock),
        at_once=at_once or AtOnce(),
        offline_speech=offline_speech,
    )


class Background:
    """A coroutine without an end of its own, cancelled to stop."""

    def __init__(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self.name = name
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._task = asyncio.create_task(self._coroutine, name=self.name)
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    def stop(self) -> None:
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.cancel()


class Led:
    """The leader's loop: whoever stops it lets the leader go first."""

    def __init__(self, leader: Leader, loop: WorkLoop) -> None:
        self.name = loop.name
        self._leader = leader
        self._loop = loop

    async def run(self) -> None:
        await self._loop.run()

    def stop(self) -> None:
        self._leader.stop()
        self._loop.stop()


async def run_until(groups: Sequence[Sequence[Stoppable]], stopping: asyncio.Event) -> None:
    """Run parts until `stopping` is set or one ends, then stop them, one group after the other."""
    tasks = [
        [asyncio.create_task(part.run(), name=part.name) for part in group] for group in groups
    ]
    every = [task for group in tasks for task in group]
    stop = asyncio.create_task(stopping.wait())
    ended, _ = await asyncio.wait([*every, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not stopping.is_set():
        for task in every:
            if task in ended:
                _say_why(task)
    for group, running in zip(groups, tasks, strict=True):
        for part in group:
            part.stop()
        if running:
            _, late = await asyncio.wait(running, timeout=STOP_WITHIN_S)
            for task in late:
                log.warning("part did not stop in time", part=task.get_name())
                task.cancel()
    await asyncio.gather(*every, stop, return_exceptions=True)
    for task in every:
        if task in ended:
            task.result()


def _say_why(task: asyncio.Task[None]) -> None:
    """Everything stops because of it, so it is said at once and by name."""
    error = None if task.cancelled() else task.exception()
    log.error(
        "a part ended by itself",
        part=task.get_name(),
        error=type(error).__name__ if error else "",
        detail=str(error)[:256] if error else "",
        exc_info=error,
    )
