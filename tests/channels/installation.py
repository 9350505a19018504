"""A tenant with a bot on one kind of channel, its platform's stand-in, and real agent processes."""

import asyncio
import contextlib
import json
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import psutil

from adapters import registry
from adapters.kind import Kind
from adapters.simulators.platform import Platform
from control_plane.app import create_app
from control_plane.db.session import Database, Scope, driver
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.kit.clock import SystemClock
from control_plane.kit.crypto import Keyring
from control_plane.media.storage import folder as media_in
from control_plane.parts import Background, Parts, Stoppable, build, run_until
from control_plane.serve import HttpServer, listen
from tests.conftest import Ground, People, Person

PATIENCE_S = 60.0
"""For what must happen, on a busy machine."""

QUESTIONS = [f"{word}几点开门？" for word in ("花店", "书店", "药店", "茶馆", "银行", "邮局")]
QUESTIONS += [f"{word}怎么走？" for word in ("车站", "学校", "医院", "码头")]
"""What customers ask, in this order; each has its own answer."""

_THREADS = """
SELECT c.key, m.sender_kind, m.segments, coalesce(d.state, '') AS state FROM conversations AS c
JOIN messages AS m ON m.conversation_id = c.id LEFT JOIN deliveries AS d ON d.message_id = m.id
ORDER BY c.id, m.number
"""
_CONTACTS = "SELECT key, contact_id FROM conversations"
# The agent of this tree, whichever one is installed.
RUN_AGENT = """
import runpy, sys
sys.path[:0] = {paths!r}
runpy.run_module("instance_agent", run_name="__main__", alter_sys=True)
"""
_NEVER = datetime.min.replace(tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def simulated() -> list[str]:
    """The kinds that have a stand-in."""
    modules = {name: f"adapters.simulators.{name}" for name in registry.OURS}
    return [
        name
        for name, module in modules.items()
        if find_spec(module) is not None and hasattr(import_module(module), "PLATFORM")
    ]


def answer_to(question: str) -> str:
    return f"答：{question.removesuffix('？')}，请看主页。"


async def until(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true value of `look`, for what announces itself to nobody."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        assert time.monotonic() < deadline, f"never saw: {what}"
        await asyncio.sleep(0.1)
    return found


@dataclass(kw_only=True)
class Said:
    """One message of a thread."""

    kind: str
    text: str
    segments: list[dict[str, Any]]
    delivery: str
    """State of its delivery; empty for what a customer said."""


@dataclass(kw_only=True)
class Installation:
    """One channel that is connected, and everything around it."""

    kind: Kind
    platform: Platform
    owner: Person
    database: Database
    folder: Path
    channel_id: str = ""
    killed_at: datetime = _NEVER
    """When its last agent was killed: what was true before says nothing of the next one."""

    async def open(self, base: str) -> None:
        """The channel is made, its address entered at the platform, and it connects."""
        items = [{"question": each, "answer": answer_to(each)} for each in QUESTIONS]
        assert (await self.owner.call("PUT", "/answers", json={"items": items})).status_code == 200
        bot = (await self.owner.post("/instances", {"name": "Bot"})).json()["id"]
        body = {"kind": self.kind.name, "name": "客服", "settings": self.platform.settings}
        made = await self.owner.post(f"/instances/{bot}/channels", body)
        assert made.status_code == 201, made.text
        self.channel_id = made.json()["id"]
        if url := made.json()["callback_url"]:
            self.platform.callback_url = base + urlsplit(url).path
        await self.connected()

    async def connected(self) -> None:
        async def look() -> bool:
            shown = (await self.owner.get(f"/channels/{self.channel_id}")).json()
            proof = shown["proof_at"] and datetime.fromisoformat(shown["proof_at"])
            return bool(shown["state"] == "connected" and proof > self.killed_at)

        await until(look, "a connected channel")

    def agents(self) -> list[psutil.Process]:
        """Those that run in this installation's folder."""
        found = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in " ".join(child.environ().values()):
                    found.append(child)
        return found

    async def kill_agent(self, *, with_its_disk: bool = False) -> None:
        """kill -9; the fleet starts another."""
        agents = self.agents()
        assert agents
        for agent in agents:
            with contextlib.suppress(psutil.NoSuchProcess):
                agent.kill()
                agent.wait(timeout=PATIENCE_S)
        self.killed_at = datetime.now(UTC)
        if with_its_disk:
            files = list((self.folder / "instances").glob("*/agent/agent.db*"))
            assert files
            for file in files:
                file.unlink()

    def spooled(self) -> list[tuple[str, str]]:
        """What lies on the agent's disk until it is stored, and in which thread it will be."""
        found = []
        for file in (self.folder / "instances").glob("*/agent/agent.db"):
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as disk:
                for (body,) in disk.execute("SELECT body FROM spool ORDER BY seq"):
                    event = json.loads(body)
                    if event["type"] == "message.received":
                        said = event["data"]
                        found.append((said["conversation"]["id"], in_words(said["segments"])))
        return found

    async def threads(self) -> dict[str, list[Said]]:
        """Everything that was said, by the platform's id of the customer or group."""
        threads: dict[str, list[Said]] = {}
        scope = Scope(tenants=(UUID(str(self.owner.tenant_id)),))
        async with self.database.plain(scope) as session:
            for row in await (await driver(session)).fetch(_THREADS):
                segments = json.loads(row["segments"])
                threads.setdefault(row["key"], []).append(
                    Said(
                        kind=row["sender_kind"],
                        text=in_words(segments),
                        segments=segments,
                        delivery=row["state"],
                    )
                )
        return threads

    async def thread(self, user: str) -> list[Said]:
        return of(await self.threads(), user)

    async def block(self, user: str) -> str:
        """Put somebody who has spoken already on the blacklist; the entry's id."""
        scope = Scope(tenants=(UUID(str(self.owner.tenant_id)),))
        async with self.database.plain(scope) as session:
            rows = await (await driver(session)).fetch(_CONTACTS)
        [contact] = [row["contact_id"] for row in rows if is_of(row["key"], user)]
        made = await self.owner.post("/blacklist", {"contact_id": str(contact)})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def kept_away(self, entry_id: str) -> bool:
        """Whether the bot has kept away anything of whom this entry names, and said so."""
        return bool((await self.owner.get(f"/blacklist/{entry_id}")).json()["hits"])

    async def heard(self, user: str, count: int = 1) -> list[Said]:
        """What this customer said, once it is that many."""

        async def look() -> list[Said]:
            said = [each for each in await self.thread(user) if each.kind == "contact"]
            return said if len(said) >= count else []

        found: list[Said] = await until(look, f"{count} messages of {user}")
        return found

    async def settled(self) -> dict[str, list[Said]]:
        """All threads, once every answer has an end."""

        async def look() -> dict[str, list[Said]]:
            threads = await self.threads()
            open_ones = [
                each
                for said in threads.values()
                for each in said
                if each.delivery in {"queued", "sending"}
            ]
            return {} if open_ones else threads

        found: dict[str, list[Said]] = await until(look, "an end of every delivery")
        return found


def in_words(segments: list[dict[str, Any]]) -> str:
    return "".join(each.get("text", "") for each in segments if each["type"] == "text")


def of(threads: dict[str, list[Said]], user: str) -> list[Said]:
    """What this customer and the bot said."""
    return next((said for key, said in threads.items() if is_of(key, user)), [])


def is_of(key: str, user: str) -> bool:
    """Whether this customer's: some platforms' ids have more around the number."""
    return user in re.findall(r"\d+", key)


@asynccontextmanager
async def installed(
    ground: Ground,
    database: str,
    place: Path,
    kind: str,
    *,
    platform: Any = None,
    paths: Sequence[Path] = (),
) -> AsyncIterator[Installation]:
    """Everything runs; at the end nothing is left. `paths`: where else agents find kinds."""
    parts = build(
        database_url=ground.url(ground.app, database),
        keys=Keyring(["the-key-of-these-tests-has-enough-characters"]),
        clock=SystemClock(),
        public_url="http://botyard.test",
        media=media_in(place / "media"),
    )
    platform = platform or import_module(f"adapters.simulators.{kind}").PLATFORM()
    command = RUN_AGENT.format(paths=[str(path) for path in (ROOT, *paths)])
    try:
        async with (
            platform,
            _served(parts, place) as base,
            _at_work(parts, place, base, command),
            httpx2.AsyncClient(base_url=base, trust_env=False, timeout=30) as client,
        ):
            installation = Installation(
                kind=registry.kind(kind),
                platform=platform,
                owner=await People(parts.house, client).owner(),
                database=parts.house.database,
                folder=place,
            )
            await installation.open(base)
            yield installation
    finally:
        await parts.close()


@asynccontextmanager
async def _served(parts: Parts, place: Path) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=place), listener, parts.sockets)
    task = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stop()
        await task


@asynccontextmanager
async def _at_work(parts: Parts, place: Path, base: str, command: str) -> AsyncIterator[None]:
    provisioner = ProcessProvisioner(
        place / "instances",
        control_url=base,
        mint=parts.bootstraps.mint,
        clock=parts.house.clock,
        command=(sys.executable, "-P", "-c", command),
        outbound_allow="127.0.0.0/8",
    )
    parts.provisioner = provisioner
    deciding, working = asyncio.Event(), asyncio.Event()
    controllers = asyncio.create_task(run_until([parts.controllers(provisioner, "")], deciding))
    groups: list[list[Stoppable]] = [
        [*parts.api(), *parts.workers()],
        [Background("bus", parts.bus.run())],
    ]
    rest = asyncio.create_task(run_until(groups, working))
    try:
        yield
    finally:
        deciding.set()
        await controllers
        # The agents end while there is still somebody to tell.
        for instance_id in [item.instance_id async for item in provisioner.inventory()]:
            await provisioner.stop(instance_id, grace=timedelta(seconds=5))
        working.set()
        await rest
        await provisioner.close()
