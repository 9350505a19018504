"""The whole application on a real port, over a database of its own, and furnished tenants in it."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from uuid import UUID

import asyncpg
import httpx2
import requests

from adapters import outbound
from control_plane.access.limits import Rate, Rates
from control_plane.access.permissions import Role
from control_plane.app import create_app
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from control_plane.serve import HttpServer, listen
from control_plane.tenants.models import TenantState
from tests.conftest import PUBLIC_URL, Ground, People, Person, SetClock, connect
from tests.control_plane.conversations.scene import dead_callback, make_bot

T = TypeVar("T")

# Nothing here is about limits, and thousands of requests come from one address.
GENEROUS = Rates(**{name: Rate(10**8, 1) for name in Rates.model_fields})

_TABLES = """
SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'
AND column_name IN ('id', 'tenant_id') GROUP BY table_name HAVING count(*) = 2
"""


@dataclass(frozen=True, kw_only=True)
class Furnished:
    """Somebody who calls, and the ids of what is there, by the plural that names them."""

    token: str | None = field(repr=False)
    ids: dict[str, list[str]]

    def of(self, parameter: str) -> list[str]:
        """Ids that a path parameter such as `webhook_id` may have."""
        plural = f"{parameter.removesuffix('_id').removesuffix('y')}"
        endings = (f"{plural}s", f"{plural}es", f"{plural}ies")
        exact = [ids for name, ids in self.ids.items() if name in (parameter, *endings)]
        close = [ids for name, ids in self.ids.items() if name.endswith(endings)]
        return next(iter(exact + close), [])


def _unknown(_host: str, _port: int) -> list[str]:
    """What this machine's resolver says of names that were made up; nobody is asked."""
    raise OSError


class Served:
    """A server that runs, and its loop; every call is from another thread."""

    def __init__(self, ground: Ground, web_pages: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="contract")
        self._ground = ground
        self._web_pages = web_pages
        self.name = f"contract_{new_id().hex[-12:]}"
        self.clock = SetClock()
        self.url = ""
        # Connections are kept, cookies are not: each request is somebody else's.
        self.http = requests.Session()
        self.http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @contextmanager
    def running(self) -> Iterator["Served"]:
        self._thread.start()
        try:
            self.call(self._start())
            yield self
            self.http.close()
            self.call(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _build(self) -> Parts:
        return build(
            database_url=self._ground.url(self._ground.app, self.name),
            keys=Keyring(["the-key-of-these-tests-has-enough-characters"]),
            clock=self.clock,
            public_url=PUBLIC_URL,
            rates=GENEROUS,
            media=folder(self._web_pages / "media"),
        )

    async def _start(self) -> None:
        await self._ground.create(self.name)
        with mock.patch.object(outbound, "_addresses", _unknown):
            self.parts: Parts = self._build()
        app = create_app(self.parts, web_pages=self._web_pages)
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url=PUBLIC_URL
        )
        self.people = People(self.parts.house, self.client)
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._running = [HttpServer(app, listener, self.parts.sockets), *self.parts.api()]
        self._tasks = [asyncio.create_task(part.run()) for part in self._running]

    async def _stop(self) -> None:
        for part in self._running:
            part.stop()
        await asyncio.gather(*self._tasks)
        await self.client.aclose()
        await self.parts.close()
        await self._ground.drop(self.name)

    def as_owner(self) -> Furnished:
        """The owner of a new tenant that has some of everything."""
        return self.call(self._as_owner())

    def as_operator(self) -> Furnished:
        """An operator, with two tenants: one to decide on, one that works."""
        return self.call(self._as_operator())

    async def _as_owner(self) -> Furnished:
        owner = await self.people.owner()
        await self._furnish(owner)
        ids = await self._ids(owner.tenant_id)
        sessions = (await owner.get("/auth/sessions")).json()["items"]
        return Furnished(
            token=owner.token, ids=ids | {"sessions": [session["id"] for session in sessions]}
        )

    async def _as_operator(self) -> Furnished:
        operator = await self.people.operator()
        owner = await self.people.owner()
        waiting = await self.people.owner(state=TenantState.PENDING)
        await owner.post("/instances", {"name": "Bot"})
        ids = await self._ids(owner.tenant_id)
        tenants = [str(owner.tenant_id), str(waiting.tenant_id)]
        return Furnished(token=operator.token, ids=ids | {"tenants": tenants})

    async def _furnish(self, owner: Person) -> None:
        operator = await self.people.operator()
        await self.people.member(owner.tenant_id, Role.MEMBER)
        bot = await make_bot(self.parts, owner)
        mine, _other = [await bot.hears("Hello", key=key) for key in ("lin", "mei")]
        await bot.says(mine, "Hello", "Is there anything else?")
        connection: asyncpg.Connection = await connect(self._ground.url(None, self.name))
        await dead_callback(connection, bot)
        await connection.close()
        for path, body in (
            ("/instances", {"name": "Second"}),
            (f"/conversations/{mine}/take-over", {}),
            (f"/conversations/{mine}/messages", {"segments": [{"type": "text", "text": "Hi"}]}),
            (f"/instances/{bot.instance_id}/revisions", {"document": {}}),
            (f"/instances/{bot.instance_id}/rollback", {"number": 0}),
            ("/roles", {"name": "Shift", "permissions": ["members.read"]}),
            ("/invitations", {"email": "new@example.com", "role": "viewer"}),
            ("/api-keys", {"name": "Shop", "scopes": ["answers.read"]}),
            ("/tags", {"name": "VIP"}),
            (f"/conversations/{mine}/notes", {"text": "Mind", "mentions": [str(owner.member_id)]}),
            ("/canned-replies", {"code": "a", "title": "A", "text": "A"}),
        ):
            answer = await owner.post(path, body)
            assert answer.is_success, answer.text
        items = [{"question": "Open?", "answer": "Yes"}]
        await owner.call("PUT", "/answers", json={"items": items})
        support = {"reason": "Asked for", "minutes": 5}
        await operator.post(f"/tenants/{owner.tenant_id}/support", support)

    async def _ids(self, tenant_id: UUID | None) -> dict[str, list[str]]:
        """The ids in every table that has some, as nobody's wall hides them."""
        found: dict[str, list[str]] = {"tenants": [str(tenant_id)], "name": ["business"]}
        connection: asyncpg.Connection = await connect(self._ground.url(None, self.name))
        try:
            for (table,) in await connection.fetch(_TABLES):
                query = f"SELECT id FROM {table} WHERE tenant_id = $1 ORDER BY id LIMIT 5"  # noqa: S608
                rows = await connection.fetch(query, tenant_id)
                found[table] = [str(row[0]) for row in rows]
        finally:
            await connection.close()
        return {table: ids for table, ids in found.items() if ids}
