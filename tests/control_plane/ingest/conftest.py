"""Agents that sign what they post, and what the database then holds."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import pytest

from adapters import standard_webhooks
from adapters.model import ConversationKey, Sender, Text
from control_plane.db.session import Scope
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.ingest.commit import Pending
from control_plane.ingest.verify import Proven
from control_plane.instances.sessions import activate
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import (
    BootstrapRequest,
    ConfigState,
    Event,
    EventBatch,
    Heartbeat,
    MessageReceived,
    event_id,
)

CONFIG = ConfigState(applied=0, applied_sha256="0" * 64, last_good=0, rejected=None)


@dataclass(kw_only=True)
class Agent:
    """One tenant's agent, with a channel, as it stands after its bootstrap."""

    clock: Any
    client: httpx2.AsyncClient = field(repr=False)
    tenant_id: UUID
    instance_id: UUID
    session_id: UUID
    secret: str = field(repr=False)
    channel_id: UUID

    def message(
        self,
        key: str,
        text: str = "hello",
        *,
        channel_id: UUID | None = None,
        visitor: str = "v1",
        **more: Any,
    ) -> Event:
        """A visitor's message; the same key is the same message."""
        message = MessageReceived(
            channel_id=channel_id or self.channel_id,
            dedupe_key=key,
            message_id=f"m-{key}",
            conversation=ConversationKey(type="direct", id=visitor),
            sender=Sender(id=visitor, name="Lin"),
            segments=[Text(text=text)],
        )
        message = msgspec.structs.replace(message, **more)
        identity = event_id(message.channel_id, message.dedupe_key)
        return self.event("message.received", message, id=identity)

    def beat(self, *, spool_depth: int = 0, blacklist: int | None = None) -> Event:
        beat = Heartbeat(
            config=CONFIG,
            channels=[],
            spool_depth=spool_depth,
            spool_bytes=0,
            blacklist=blacklist,
        )
        return self.event("instance.heartbeat", beat)

    def event(self, kind: Any, data: Any, *, id: UUID | None = None) -> Event:  # noqa: A002
        plain = msgspec.to_builtins(data)
        return Event(id=id or new_id(), type=kind, occurred_at=self.clock.now(), data=plain)

    def batch(self, *events: Event, checkpoints: dict[str, str] | None = None) -> EventBatch:
        return EventBatch(
            session_id=self.session_id, events=list(events), checkpoints=checkpoints or {}
        )

    def pending(self, *events: Event, webhook_id: str | None = None, **more: Any) -> Pending:
        """A verified batch that waits for its writer; its id is made of its body unless given."""
        batch = self.batch(*events, **more)
        sha256 = hashlib.sha256(msgspec.json.encode(batch)).digest()
        proven = Proven(
            tenant_id=self.tenant_id,
            instance_id=self.instance_id,
            webhook_id=webhook_id or standard_webhooks.id_of(sha256),
            sha256=sha256,
        )
        done = asyncio.get_running_loop().create_future()
        return Pending(proven=proven, batch=batch, received_at=self.clock.now(), done=done)

    def headers(self, body: bytes, *, webhook_id: str | None = None) -> dict[str, str]:
        return standard_webhooks.sign(
            self.secret,
            message_id=webhook_id or standard_webhooks.id_of(hashlib.sha256(body).digest()),
            timestamp=int(self.clock.now().timestamp()),
            body=body,
        )

    async def send(self, body: bytes, headers: dict[str, str] | None = None) -> httpx2.Response:
        """Post bytes, signed unless headers are given."""
        return await self.client.post(
            f"/api/v1/instances/{self.instance_id}/events",
            content=body,
            headers=self.headers(body) if headers is None else headers,
        )

    async def post(
        self, *events: Event, webhook_id: str | None = None, **more: Any
    ) -> httpx2.Response:
        body = msgspec.json.encode(self.batch(*events, **more))
        return await self.send(body, self.headers(body, webhook_id=webhook_id))


class Agents:
    """Makes tenants with an agent each, or another agent of the same tenant."""

    def __init__(self, parts: Parts, clock: Any, people: Any, client: httpx2.AsyncClient) -> None:
        self._parts = parts
        self._clock = clock
        self._people = people
        self._client = client

    async def make(self, *, owner: Any = None, place: str = "") -> Agent:
        owner = owner or await self._people.owner()
        made = await owner.post("/instances", {"name": "Bot"})
        instance_id = UUID(made.json()["id"])
        channel = await owner.post(
            f"/instances/{instance_id}/channels", {"kind": "webchat", "name": "Site"}
        )
        given = await self._bootstrap(owner.tenant_id, instance_id, place)
        return Agent(
            clock=self._clock,
            client=self._client,
            tenant_id=owner.tenant_id,
            instance_id=instance_id,
            session_id=given.session_id,
            secret=given.webhook_secrets[0],
            channel_id=UUID(channel.json()["id"]),
        )

    async def succeed(self, agent: Agent, *, place: str = "") -> UUID:
        """A new agent becomes active, so that this one drains; its session."""
        newer = await self._bootstrap(agent.tenant_id, agent.instance_id, place)
        scope = Scope(tenants=(agent.tenant_id,))
        async with self._parts.house.database.session(scope) as session:
            for session_id in (agent.session_id, newer.session_id):
                await activate(session, instance_id=agent.instance_id, session_id=session_id)
        return UUID(str(newer.session_id))

    async def _bootstrap(self, tenant_id: UUID, instance_id: UUID, place: str) -> Any:
        spec = InstanceSpec(instance_id=instance_id, tenant_id=tenant_id, generation=1)
        request = BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="test",
            endpoint="http://127.0.0.1:9",
            journal_id=new_id(),
            generation=1,
        )
        bootstraps = self._parts.bootstraps
        return await bootstraps.exchange(instance_id, bootstraps.mint(spec, place), request)


@pytest.fixture
def agents(parts: Parts, clock, people, client: httpx2.AsyncClient) -> Agents:
    return Agents(parts, clock, people, client)


@pytest.fixture
async def agent(agents: Agents) -> Agent:
    return await agents.make()


class Kept:
    """What the database holds, whoever it belongs to."""

    def __init__(self, superuser: asyncpg.Connection) -> None:
        self._superuser = superuser

    async def texts(self) -> list[tuple[int, str]]:
        """(number, text) of all messages in the order of conversations and numbers."""
        rows = await self._superuser.fetch(
            "SELECT m.number, m.segments->0->>'text' FROM messages AS m"
            " JOIN conversations AS c ON c.id = m.conversation_id ORDER BY c.key, m.number"
        )
        return [tuple(row) for row in rows]

    async def conversation(self) -> dict:
        return dict(await self._superuser.fetchrow("SELECT * FROM conversations"))

    async def count(self, table: str) -> int:
        return await self._superuser.fetchval(
            f"SELECT count(*) FROM {table}"  # noqa: S608 - a table's name
        )

    async def session_of(self, agent: Agent) -> dict:
        row = await self._superuser.fetchrow(
            "SELECT * FROM agent_sessions WHERE id = $1", agent.session_id
        )
        return dict(row)


@pytest.fixture
def kept(superuser: asyncpg.Connection) -> Kept:
    return Kept(superuser)
