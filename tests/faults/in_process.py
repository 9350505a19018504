"""The whole house in one interpreter: control plane, agent and platforms, each able to die.

What a process keeps in memory goes with it; PostgreSQL, the agent's file and the platforms stay.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import asyncpg
import httpx2
import msgspec
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.outbound import Door
from adapters.simulators.wecom import WeCom
from control_plane.access.limits import Rates
from control_plane.app import create_app
from control_plane.bus.loop import WorkLoop
from control_plane.channels import callbacks
from control_plane.channels import settings as channel_settings
from control_plane.db import leases, session
from control_plane.delivery import lanes
from control_plane.delivery.lanes import Lanes
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.instances.sessions import activate
from control_plane.kit.crypto import Keyring
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from control_plane.webchat.frames import Write
from instance_agent.agent import Agent
from instance_agent.app import create_app as create_agent_app
from instance_agent.channel_host import ChannelSpec
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import BootstrapRequest
from instance_agent.store import Store, StoreFailed
from instance_agent.supervisor import Scope
from tests.faults.points import Gone, Link, Points, Process

CONTROL_URL = "http://control-plane"
KINDS = (callbacks.WORK, turns.WORK, lanes.WORK)
"""In the order in which one makes work for the next."""

_OPEN = "SELECT count(*) FROM work WHERE kind = $1"
# Time passes: what was to be tried later is due, and nobody's lease lasts for ever.
_LATER = """
WITH tries AS (UPDATE deliveries SET due_at = now() WHERE due_at > now())
UPDATE work SET due_at = now(), expires_at = least(expires_at, now()) WHERE kind = ANY ($1)
"""
_CHANGED = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_CUT = ConnectionResetError("the database's connection was cut")


class Disk(Store):
    """The agent's file; every job that it commits is an effect."""

    def __init__(self, path: Path, points: Points, process: Process) -> None:
        super().__init__(path)
        self._points = points
        self._process = process

    async def run(self, job: Any) -> Any:
        commit = super().run
        failed = StoreFailed("disk I/O error")
        return await self._points.effect(
            self._process, "disk", lambda: commit(job), fails=failed, unheard=failed
        )


class Lone:
    """A connection each of whose changing statements commits by itself, which is an effect."""

    def __init__(self, connection: Any, points: Points, process: Process) -> None:
        self._connection = connection
        self._points = points
        self._process = process
        self.fetchrow = connection.fetchrow

    async def fetch(self, *given: Any) -> Any:
        return await self._points.effect(
            self._process,
            "commit",
            lambda: self._connection.fetch(*given),
            fails=_CUT,
            unheard=_CUT,
        )


@dataclass(kw_only=True)
class ControlPlane(Process):
    """One life of the control plane."""

    parts: Parts
    app: Any
    loops: dict[str, WorkLoop]

    def __post_init__(self) -> None:
        super().__init__("control plane")


@dataclass(kw_only=True)
class AgentLife(Process):
    """One life of the agent."""

    disk: Disk | None = None
    app: Any = None

    def __post_init__(self) -> None:
        super().__init__("agent")


class InProcess(WeCom):
    """The stand-in of WeCom without a socket."""

    url = "http://wecom"

    def __init__(self, link: httpx2.AsyncBaseTransport, **how: Any) -> None:
        super().__init__(**how)
        self._http = httpx2.AsyncClient(transport=link)


class Page:
    """A visitor's page: what it was sent on its socket."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []

    async def send_text(self, text: str) -> None:
        self.frames.append(msgspec.json.decode(text))


class House:
    """One tenant with a bot that has a WeCom application and a web chat."""

    def __init__(
        self,
        *,
        database_url: str,
        keys: Keyring,
        clock: Any,
        superuser: asyncpg.Connection,
        data: Path,
    ) -> None:
        self.points = Points()
        self.superuser = superuser
        self.keeps_disk = True
        self.skew = timedelta(0)
        """By how much the agent's clock is ahead of the control plane's."""
        self._url, self._keys, self._clock, self._data = database_url, keys, clock, data
        self._owners: dict[Any, Process] = {}
        self._routes: Any = None
        self.control = self._make_control()
        self.agent = AgentLife()
        self._outside = Process("platform")
        self.wecom = InProcess(
            Link(Points(), self._outside, lambda: (self.control, self.control.app)),
            clock=lambda: clock.now().timestamp(),
        )
        self._api = self.wecom.app()
        self.instance_id = self.tenant_id = UUID(int=0)
        self.channels: dict[str, UUID] = {}
        self.token = ""

    async def open(self, owner: Any, answers: dict[str, str]) -> None:
        """Make the bot over REST, as its owner does, and start everything."""
        self.tenant_id = owner.tenant_id
        self.instance_id = UUID((await owner.post("/instances", {"name": "Bot"})).json()["id"])
        path = f"/instances/{self.instance_id}/channels"
        wecom = {"kind": "wecom", "name": "客服", "settings": self.wecom.settings}
        webchat = {"kind": "webchat", "name": "Site", "settings": {}}
        for body in (wecom, webchat):
            answer = await owner.post(path, body)
            assert answer.status_code == 201, answer.text
            made = answer.json()
            self.channels[body["kind"]] = UUID(made["id"])
            if made["webchat_url"]:
                self.token = made["webchat_url"].rpartition("/")[2]
            else:
                self.wecom.callback_url = f"{CONTROL_URL}/im/{made['callback_url'].split('/')[-1]}"
        items = [{"question": question, "answer": answer} for question, answer in answers.items()]
        assert (await owner.call("PUT", "/answers", json={"items": items})).status_code == 200
        self.control.dead = self.agent.dead = True
        await self.revive()

    async def close(self) -> None:
        for process in (self.control, self.agent):
            process.die()
            await process.ended()
        if self.agent.disk is not None:
            await self.agent.disk.close()
        await self.control.parts.close()
        await self.wecom._http.aclose()

    # --- what dies and lives again ---

    async def revive(self, *, agent: bool = True) -> None:
        """Start again what has died, as its supervisor would, with nothing but what was kept."""
        watching, self.points.watching = self.points.watching, False
        if self.control.dead:
            await self.control.ended()
            # The kernel would close a dead process's connections, and the server has few.
            await self.control.parts.close()
            self.control = self._make_control()
            self.control.start(self.control.parts.commits.run())
        if self.agent.dead and agent:
            await self._start_agent()
        self.points.watching = watching

    def _make_control(self) -> ControlPlane:
        parts = build(
            database_url=self._url,
            keys=self._keys,
            clock=self._clock,
            public_url=CONTROL_URL,
            media=folder(self._data / "media"),
            rates=Rates(),
        )
        database = parts.house.database
        work: dict[str, Callable[..., Awaitable[Any]]] = {
            callbacks.WORK: parts.callbacks.pass_on,
            turns.WORK: Turns(database, self._keys, self._clock, parts.agents).run,
            lanes.WORK: Lanes(database, self._keys, self._clock, parts.agents).deliver,
        }
        loops = {
            kind: WorkLoop(kind, handler, database=database, bus=parts.bus)  # type: ignore[arg-type]
            for kind, handler in work.items()
        }
        app = create_app(parts, web_pages=self._data)
        # Routes know nothing of a life, and to work them out is most of what a start costs.
        app.app.router = self._routes = self._routes or app.app.router
        life = ControlPlane(parts=parts, app=app, loops=loops)
        self._owners[database.engine] = life
        link = Link(self.points, life, lambda: (self.agent, self.agent.app))
        parts.agents._http = httpx2.AsyncClient(transport=link)
        return life

    async def _start_agent(self) -> None:
        former, self.agent = self.agent, AgentLife()
        await former.ended()
        if former.disk is not None:
            await former.disk.close()
        if not self.keeps_disk:
            for file in self._data.glob("agent.db*"):
                file.unlink()
        life = self.agent
        life.disk = Disk(self._data / "agent.db", self.points, life)
        http = httpx2.AsyncClient(
            transport=Link(self.points, life, self._callee),
            mounts={"http://wecom": Link(self.points, life, lambda: (self._outside, self._api))},
        )
        agent = Agent(
            instance_id=self.instance_id,
            control_url=CONTROL_URL,
            data_dir=self._data,
            store=life.disk,
            http=http,
            platforms=http,
            door=Door(),
            clock=self._agents_time,
            random=random.Random(1),
        )
        await agent.journal.load()
        await agent.spool.load()
        bootstraps = self.control.parts.bootstraps
        spec = InstanceSpec(instance_id=self.instance_id, tenant_id=self.tenant_id, generation=1)
        request = BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="test",
            endpoint="http://agent",
            journal_id=agent.journal.id,
            generation=1,
        )
        given = await bootstraps.exchange(self.instance_id, bootstraps.mint(spec), request)
        scope = session.Scope(tenants=(self.tenant_id,))
        async with self.control.parts.house.database.session(scope) as transaction:
            await activate(transaction, instance_id=self.instance_id, session_id=given.session_id)
        agent.running = agent._assemble(given)
        for kind, channel_id in self.channels.items():
            spec_of = ChannelSpec(
                id=channel_id, kind=kind, settings=await self._settings(channel_id)
            )
            supervisor = agent.running.supervisor
            supervisor._scopes[channel_id] = Scope(spec_of, supervisor._around, lambda _: None)
        life.app = create_agent_app(agent)

    def _callee(self) -> tuple[Process, Any]:
        return self.control, self.control.app

    def _agents_time(self) -> float:
        return float((self._clock.now() + self.skew).timestamp())

    async def _settings(self, channel_id: UUID) -> Any:
        row = await self.superuser.fetchrow("SELECT * FROM channels WHERE id = $1", channel_id)
        given = msgspec.json.decode(row["settings"])
        secrets = channel_settings.unseal(self._keys, row["secrets"])
        kind = channel_settings.kind_of(row["kind"])
        return kind.settings().model_validate(given | secrets)

    # --- what happens ---

    @contextmanager
    def watched(self) -> Iterator[None]:
        """For as long as this lasts, commits are effects."""
        owners, points = self._owners, self.points

        class Watched:
            """Whose commits are effects."""

            async def commit(self: Any) -> None:
                commit, process = super().commit, owners.get(self.bind)  # type: ignore[misc]
                if process is None or not (points.watching and await _has_changed(self)):
                    return await commit()
                return await points.effect(process, "commit", commit, fails=_CUT, unheard=_CUT)

        watched = {
            kind.__name__: type(kind.__name__, (Watched, kind), {})
            for kind in (AsyncSession, session.Transaction)
        }
        lone = session.Database.lone

        @asynccontextmanager
        async def watched_lone(
            database: session.Database, **how: bool
        ) -> AsyncIterator[session.Transaction]:
            async with lone(database, **how) as transaction:
                process = owners.get(database.engine)
                if process is not None and points.watching:
                    given = transaction.connection
                    transaction.connection = Lone(given, points, process)
                yield transaction

        with (
            mock.patch.multiple(session, **watched),
            mock.patch.object(session.Database, "lone", watched_lone),
        ):
            yield

    async def tells_wecom(self, user: str, text: str, message_id: str) -> bool:
        """A member writes; whether the platform heard that it was received."""
        self.wecom.members.add(user)
        return await self.wecom.say(user, text, message_id=message_id)

    async def writes(self, secret: str, text: str, message_id: str) -> bool:
        """A visitor writes on the page; whether the page was told that it was received."""
        page = Page()
        sockets = self.control.parts.sockets

        async def take() -> None:
            guest = await sockets._enter(self.token)
            guest.secret = secret
            await sockets._take(page, guest, Write(id=message_id, text=text))  # type: ignore[arg-type]

        try:
            await self.control.run(take())
        except Exception:  # whatever it was, the page hears nothing and writes again
            return False
        return [frame["type"] for frame in page.frames] == ["ack"]

    async def work(self) -> bool:
        """One round of the workers; whether something is left.

        A kind begins when the one before it is done, so that what is said in one breath is in one
        turn, whatever happens.
        """
        await self.superuser.execute(_LATER, KINDS)
        for kind in KINDS:
            try:
                await self.control.run(self._round(kind))
            except Gone:
                return True
            if await self.superuser.fetchval(_OPEN, kind):
                return True
        return False

    async def _round(self, kind: str) -> None:
        loop = self.control.loops[kind]
        try:
            async with self.control.parts.house.database.plain() as transaction:
                claimed = await leases.claim(
                    transaction, kind, owner="me", limit=10, lease=loop._settings.lease
                )
        except OSError:
            return
        for lease in claimed:
            await loop._work(lease, lambda: None)


async def _has_changed(transaction: session.Session) -> bool:
    """Whether there is anything to commit; a transaction that has only read has no effect."""
    return bool(await (await session.driver(transaction)).fetchval(_CHANGED))
