"""The fleet over agents in memory, a real database, and a stand-in that answers as an agent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.standard_webhooks import id_of
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.fleet.provision.base import InstanceSpec, Provisioner
from control_plane.fleet.provision.fake import FakePlace, FakeProvisioner
from control_plane.fleet.reconcile import WORK, Reconciler
from control_plane.ingest.commit import Pending
from control_plane.ingest.dispatch import Dispatcher
from control_plane.ingest.verify import Proven
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import (
    ANSWER_HEADER,
    Bootstrap,
    BootstrapRequest,
    ChannelStatus,
    ConfigApplied,
    ConfigOutcome,
    ConfigState,
    ConfigUpdate,
    Event,
    EventBatch,
    Health,
    Heartbeat,
    Problem,
    SecretsRenewal,
)

HOUR = timedelta(hours=1)


class StandInAgent:
    """Takes configurations as an agent does, and answers what the test says."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, ConfigUpdate]] = []
        self.outcome = ConfigOutcome(outcome="applied", revision=0)
        self.busy = False
        self.ahead = False
        self.decide: Callable[[ConfigUpdate], ConfigOutcome] | None = None
        self.renewals: list[tuple[str, SecretsRenewal]] = []
        self.renewing = 200
        self.answers = False
        self.hangs = False
        self.draining = False
        self.taken: list[bytes] = []
        self.asked = 0
        self._stopped = asyncio.Event()
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def run(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        app = Starlette(
            routes=[
                Route("/astrbot-api/v1/config/update", self._update, methods=["POST"]),
                Route("/astrbot-api/v1/secrets", self._renew, methods=["POST"]),
                Route("/astrbot-api/v1/health", self._health),
                Route("/im/{channel_id:uuid}", self._callback, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[self._socket])
        ready.set()
        await stop.wait()
        self._stopped.set()
        await server.shutdown(sockets=[self._socket])

    async def _health(self, request: Request) -> Response:
        """As it is asked when it was not heard; it may be hung, or somebody else by now."""
        self.asked += 1
        if self.hangs:
            await self._stopped.wait()
        if not self.answers:
            refused = Problem(title="unauthorized", status=401, code="unauthorized")
            return Response(msgspec.json.encode(refused), 401)
        said = Health(
            version="test",
            instance_id=new_id(),
            ready=True,
            draining=False,
            journal_id=new_id(),
            config=ConfigState(applied=None, applied_sha256=None, last_good=None, rejected=None),
            channels=[],
            spool_depth=0,
        )
        return Response(msgspec.json.encode(said), media_type="application/json")

    async def _callback(self, request: Request) -> Response:
        body = await request.body()
        if self.draining:
            draining = Problem(title="draining", status=503, code="draining")
            return Response(msgspec.json.encode(draining), 503)
        self.taken.append(body)
        return Response(b"{}", headers={ANSWER_HEADER: "200"})

    async def _update(self, request: Request) -> Response:
        update = msgspec.json.decode(await request.body(), type=ConfigUpdate)
        if self.busy:
            busy = Problem(title="busy", status=503, code="busy")
            return Response(msgspec.json.encode(busy), 503)
        self.updates.append((request.headers["authorization"], update))
        if self.ahead:
            ahead = Problem(title="stale", status=409, code="stale_revision")
            return Response(msgspec.json.encode(ahead), 409)
        if self.decide is not None:
            return Response(msgspec.json.encode(self.decide(update)))
        if self.meanwhile is not None:
            await self.meanwhile()
        return Response(msgspec.json.encode(self.outcome), media_type="application/json")

    async def _renew(self, request: Request) -> Response:
        renewal = msgspec.json.decode(await request.body(), type=SecretsRenewal)
        self.renewals.append((request.headers["authorization"], renewal))
        if self.meanwhile is not None:
            await self.meanwhile()
        problem = Problem(title="no", status=self.renewing, code="no")
        return Response(msgspec.json.encode(problem), self.renewing)


@pytest.fixture
async def stand_in() -> AsyncIterator[StandInAgent]:
    agent, ready, stop = StandInAgent(), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(agent.run(ready, stop))
    await ready.wait()
    yield agent
    stop.set()
    await running


class Fleet:
    """One tenant's instances, looked at when the test says."""

    def __init__(self, parts: Parts, clock, owner, superuser: asyncpg.Connection, url: str) -> None:
        self.parts = parts
        self.clock = clock
        self.owner = owner
        self.place = FakePlace(clock)
        self.reconciler = self.reconciler_over(FakeProvisioner(self.place))
        self._dispatcher = Dispatcher(parts.house.database)
        self._superuser = superuser
        self._url = url

    def reconciler_over(self, provisioner: Provisioner) -> Reconciler:
        house = self.parts.house
        return Reconciler(
            house.database,
            house.keys,
            self.clock,
            provisioner=provisioner,
            agents=self.parts.agents,
        )

    async def create(self, *, channel: bool = True) -> UUID:
        instance_id = UUID((await self.owner.post("/instances", {"name": "Bot"})).json()["id"])
        if channel:
            await self.owner.post(
                f"/instances/{instance_id}/channels", {"kind": "webchat", "name": "Site"}
            )
        return instance_id

    async def get(self, instance_id: UUID) -> dict:
        return (await self.owner.get(f"/instances/{instance_id}")).json()

    async def phase(self, instance_id: UUID) -> str:
        return (await self.get(instance_id))["phase"]

    async def condition(self, instance_id: UUID, kind: str) -> dict:
        held = (await self.get(instance_id))["conditions"]
        return next(item for item in held if item["type"] == kind)

    async def lease(self, instance_id: UUID) -> Lease:
        """The right to look at this instance now."""
        async with self.parts.house.database.session() as session:
            await leases.call_key(session, WORK, instance_id)
            claimed = await leases.claim(session, WORK, owner="test", limit=100, lease=HOUR)
            for other in claimed:
                if other.key != instance_id:
                    await leases.finish(session, other, again_after=timedelta(0))
        return next(lease for lease in claimed if lease.key == instance_id)

    async def look(self, instance_id: UUID) -> timedelta | None:
        """One look, as the work loop does it: when the next is due."""
        lease = await self.lease(instance_id)
        again: timedelta | None = timedelta(0)
        try:
            again = await self.reconciler.look(lease)
        finally:
            async with self.parts.house.database.session() as session:
                await leases.finish(session, lease, again_after=again)
        return again

    async def bootstrap(self, instance_id: UUID) -> Bootstrap:
        """What a started agent does first."""
        generation = (await self.get(instance_id))["generation"]
        spec = InstanceSpec(
            instance_id=instance_id, tenant_id=self.owner.tenant_id, generation=generation
        )
        bootstraps = self.parts.bootstraps
        return await bootstraps.exchange(instance_id, bootstraps.mint(spec), self.request())

    def request(self) -> BootstrapRequest:
        return BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="test",
            endpoint=self._url,
            journal_id=new_id(),
            generation=0,
        )

    async def beat(
        self,
        instance_id: UUID,
        given: Bootstrap,
        *,
        channel: str = "connected",
        spool_depth: int = 0,
    ) -> None:
        """The agent says that it runs its newest configuration, and how its channels are."""
        assert given.newest is not None
        running = given.newest
        channels = [
            ChannelStatus(channel_id=UUID(item["id"]), state=channel)
            for item in running.document["channels"]
        ]
        config = ConfigState(
            applied=running.number,
            applied_sha256=running.sha256,
            last_good=running.number,
            rejected=None,
        )
        beat = Heartbeat(config=config, channels=channels, spool_depth=spool_depth, spool_bytes=0)
        applied = ConfigApplied(revision=running.number, sha256=running.sha256)
        await self.report(
            instance_id,
            given.session_id,
            ("config.applied", applied),
            *(("channel.status", status) for status in channels),
            ("instance.heartbeat", beat),
        )

    async def report(self, instance_id: UUID, session_id: UUID, *events) -> None:
        now = self.clock.now()
        batch = EventBatch(
            session_id=session_id,
            events=[
                Event(id=new_id(), type=name, occurred_at=now, data=msgspec.to_builtins(data))
                for name, data in events
            ],
        )
        proven = Proven(
            tenant_id=self.owner.tenant_id,
            instance_id=instance_id,
            webhook_id=id_of(b""),
            sha256=b"",
        )
        done = asyncio.get_running_loop().create_future()
        await self._dispatcher.write(
            [Pending(proven=proven, batch=batch, received_at=now, done=done)]
        )

    async def run(self, *, channel: bool = True) -> tuple[UUID, Bootstrap]:
        """An instance that has come all the way."""
        instance_id = await self.create(channel=channel)
        return instance_id, await self.bring_up(instance_id)

    async def bring_up(self, instance_id: UUID) -> Bootstrap:
        await self.look(instance_id)
        given = await self.bootstrap(instance_id)
        await self.look(instance_id)
        await self.beat(instance_id, given)
        await self.look(instance_id)
        return given

    async def sessions(self, instance_id: UUID) -> list[tuple[str, int | None]]:
        """(state, epoch) of every session there was, oldest first."""
        rows = await self._superuser.fetch(
            "SELECT state, epoch FROM agent_sessions WHERE instance_id = $1 ORDER BY id",
            instance_id,
        )
        return [tuple(row) for row in rows]

    async def config(self, instance_id: UUID) -> dict:
        row = await self._superuser.fetchrow(
            "SELECT * FROM config_states WHERE instance_id = $1", instance_id
        )
        return dict(row)

    async def versions(self) -> dict[str, list[tuple]]:
        """Which version of which row every table holds; the leases themselves do not count."""
        tables = await self._superuser.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'work'"
        )
        return {
            table: [
                tuple(row)
                for row in await self._superuser.fetch(
                    f"SELECT ctid::text, xmin::text FROM {table}"  # noqa: S608 - a table's name
                )
            ]
            for (table,) in tables
        }

    async def take_over(self) -> None:
        """Another worker takes every lease."""
        await self._superuser.execute("UPDATE work SET token = gen_random_uuid()")

    async def expire_leases(self) -> None:
        """Whoever had one is dead."""
        await self._superuser.execute(
            "UPDATE work SET token = NULL, owner = NULL, expires_at = NULL"
        )


@pytest.fixture
async def fleet(parts: Parts, clock, people, superuser: asyncpg.Connection, stand_in) -> Fleet:
    return Fleet(parts, clock, await people.owner(), superuser, stand_in.url)
