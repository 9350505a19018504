"""A tenant's bot with a web chat: what customers say to it, and the rows that wait for work."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from adapters.model import ConversationKey, Sender, Text
from adapters.standard_webhooks import id_of
from control_plane.conversations import service as conversations
from control_plane.conversations.service import Author
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.ingest.commit import Pending
from control_plane.ingest.dispatch import Dispatcher
from control_plane.ingest.verify import Proven
from control_plane.instances import sessions
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import BootstrapRequest, Event, EventBatch, MessageReceived, event_id

PATIENCE_S = 20.0
"""Longest wait for something that must happen."""
_SOONER = (
    "UPDATE deliveries SET due_at = due_at - $1::interval",
    "UPDATE attempts SET began_at = began_at - $1::interval",
)

LEASE = timedelta(hours=1)
BOT = Author(kind="bot", id=None, name="Bot")

_BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true value of `look`, for what announces itself to nobody."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        assert time.monotonic() < deadline, f"never saw: {what}"
        await asyncio.sleep(0.005)
    return found


async def until_blocked(superuser: Any, waiting: int = 1) -> None:
    """Wait until that many statements wait for somebody's lock."""

    async def look() -> bool:
        return bool(await superuser.fetchval(_BLOCKED) >= waiting)

    await until(look, "a statement that waits for a lock")


class Gated:
    """Stands before or behind a coroutine function; whoever calls it waits to be let through."""

    def __init__(self, function: Callable[..., Awaitable[Any]], *, after: bool = False) -> None:
        self._function = function
        self._after = after
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        result = await self._function(*arguments, **named) if self._after else None
        self.reached.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.open.wait()
        return result if self._after else await self._function(*arguments, **named)

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.reached.wait()


@dataclass(kw_only=True)
class Bot:
    """One instance with a web-chat channel. Its tenant's owner is `owner`."""

    parts: Parts
    owner: Any
    instance_id: UUID
    channel_id: UUID
    token: str
    generation: int = field(default=0)

    @property
    def tenant_id(self) -> UUID:
        tenant: UUID = self.owner.tenant_id
        return tenant

    @property
    def scope(self) -> Scope:
        return Scope(tenants=(self.tenant_id,))

    @property
    def database(self) -> Database:
        return self.parts.house.database

    def session(self) -> Any:
        return self.database.session(self.scope)

    async def later(self, pause: timedelta) -> None:
        """So much time passes, on our clock and on the database's."""
        self.parts.house.clock.advance(pause)
        async with self.database.plain(self.scope) as session:
            for statement in _SOONER:
                await (await driver(session)).execute(statement, pause)

    async def hears(self, *texts: str, key: str = "lin") -> UUID:
        """A customer writes these, in one batch from the agent; the conversation."""
        now = self.parts.house.clock.now()
        events = [self._event(text, key) for text in texts]
        batch = EventBatch(session_id=new_id(), events=events)
        sha256 = hashlib.sha256(msgspec.json.encode(batch)).digest()
        proven = Proven(
            tenant_id=self.tenant_id,
            instance_id=self.instance_id,
            webhook_id=id_of(sha256),
            sha256=sha256,
        )
        pending = Pending(
            proven=proven,
            batch=batch,
            received_at=now,
            done=asyncio.get_running_loop().create_future(),
        )
        [results] = (await Dispatcher(self.database).write([pending]))()
        assert {result.status for result in results} == {"stored"}
        async with self.session() as session:
            found = await conversations.find(session, self.channel_id, key)
        assert found is not None
        return found.id

    async def says(self, conversation_id: UUID, *texts: str, author: Author = BOT) -> list[UUID]:
        """Queue these as outgoing messages; their ids."""
        ids = []
        async with self.session() as session:
            conversation = await conversations.lock(session, conversation_id)
            for text in texts:
                message_id, _entry = await conversations.say(
                    session,
                    conversation,
                    author=author,
                    segments=[Text(text=text)],
                    now=self.parts.house.clock.now(),
                )
                ids.append(message_id)
        return ids

    async def attach(self, endpoint: str, journal_id: UUID) -> None:
        """An agent at `endpoint` becomes the active one; a former one drains."""
        house = self.parts.house
        self.generation += 1
        request = BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="0",
            endpoint=endpoint,
            journal_id=journal_id,
            generation=self.generation,
        )
        async with self.session() as session:
            opened, _token = await sessions.open_session(
                session,
                house.keys,
                tenant_id=self.tenant_id,
                instance_id=self.instance_id,
                request=request,
                now=house.clock.now(),
            )
            await sessions.activate(session, instance_id=self.instance_id, session_id=opened.id)

    async def thread(self, conversation_id: UUID) -> list[dict[str, Any]]:
        """What was said, over REST."""
        answer = await self.owner.get(f"/conversations/{conversation_id}/messages?limit=200")
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def texts(self, conversation_id: UUID) -> list[tuple[str, str]]:
        """(who, what) of what was said."""
        thread = await self.thread(conversation_id)
        return [(item["sender"]["kind"], item["segments"][0]["text"]) for item in thread]

    async def deliveries(self, conversation_id: UUID) -> list[str]:
        """The states of what was to be sent, in order."""
        thread = await self.thread(conversation_id)
        return [item["delivery"]["state"] for item in thread if item["delivery"]]

    def _event(self, text: str, key: str) -> Event:
        dedupe_key = str(new_id())
        message = MessageReceived(
            channel_id=self.channel_id,
            dedupe_key=dedupe_key,
            message_id=dedupe_key,
            conversation=ConversationKey(type="direct", id=key),
            sender=Sender(id=key, name=key.title()),
            segments=[Text(text=text)],
        )
        return Event(
            id=event_id(self.channel_id, dedupe_key),
            type="message.received",
            occurred_at=self.parts.house.clock.now(),
            data=msgspec.to_builtins(message),
        )


async def make_bot(parts: Parts, owner: Any, **settings: Any) -> Bot:
    """A bot of the owner's tenant, made over REST; no agent runs for it yet."""
    instance = (await owner.post("/instances", {"name": "Bot"})).json()
    body = {"kind": "webchat", "name": "Site", "settings": settings}
    channel = (await owner.post(f"/instances/{instance['id']}/channels", body)).json()
    return Bot(
        parts=parts,
        owner=owner,
        instance_id=UUID(instance["id"]),
        channel_id=UUID(channel["id"]),
        token=channel["webchat_url"].rpartition("/")[2],
    )


async def dead_callback(superuser: Any, bot: Bot, *, body: bytes = b"{}") -> UUID:
    """A platform's call that nobody could use; its id."""
    letter_id = new_id()
    await superuser.execute(
        "INSERT INTO callbacks (id, tenant_id, channel_id, method, path, query, headers, body,"
        " received_at, dead_reason) VALUES ($1, $2, $3, 'POST', '', 'msg_signature=s&n=1',"
        """ '{"cookie": "c", "x-kind": "k"}', $4, $5, 'too old')""",
        letter_id,
        bot.tenant_id,
        bot.channel_id,
        body,
        bot.parts.house.clock.now(),
    )
    return letter_id


class Worker:
    """Takes rows of one kind like a work loop, but only when told to."""

    def __init__(
        self,
        database: Database,
        kind: str,
        handler: Callable[[Lease], Awaitable[timedelta | None]],
    ) -> None:
        self._database = database
        self._kind = kind
        self.handle = handler

    async def claim(self, *, lease: timedelta = LEASE) -> Lease | None:
        """Lease the row that is due, if one is."""
        async with self._database.session() as session:
            taken = await leases.claim(session, self._kind, owner="me", limit=1, lease=lease)
        return taken[0] if taken else None

    async def once(self) -> timedelta | None:
        """Lease the row that is due, work on it, give it back; what the handler said."""
        lease = await self.claim()
        assert lease is not None, f"no {self._kind} is due"
        again = await self.handle(lease)
        async with self._database.session() as session:
            await leases.finish(session, lease, again_after=again)
        return again

    async def again(self, key: UUID) -> timedelta | None:
        """The same, without waiting for the row to become due."""
        async with self._database.session() as session:
            await leases.call_key(session, self._kind, key)
        return await self.once()

    async def all(self) -> None:
        """Work until nothing is due."""
        while (lease := await self.claim()) is not None:
            again = await self.handle(lease)
            async with self._database.session() as session:
                await leases.finish(session, lease, again_after=again)
