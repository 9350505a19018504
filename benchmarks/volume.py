"""What volume costs: ingest, a page of a thread and a search, at ten times the stored messages.

Each tenant has the same history in both, so volume is more tenants. The databases are made once,
the same every time, and kept outside the checkout, stopped.
"""

import contextlib
import json
import math
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil
from rich.console import Console

from benchmarks import load
from benchmarks.ground import FULL, ROUNDS, Agent, Ground, Process, figure, ground_in
from control_plane.conversations import search, search_index, service
from control_plane.conversations.search import Wanted
from control_plane.conversations.search_index import SearchIndex
from control_plane.db import leases
from control_plane.db.embedded import EmbeddedSettings
from control_plane.db.session import Scope

NAMES = ("volume_ingest", "volume_thread_page", "volume_search")
SMALL, LARGE = 100_000, 10_000_000 if FULL else 1_000_000
# Messages and people of each tenant, whatever the size of the whole.
MESSAGES, PEOPLE = 10_000, 100
HISTORY_ENDS = datetime(2026, 4, 1, tzinfo=UTC)
# Raise it with whatever changes the data.
EDITION = 1
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "botyard"
# Requests of one round: a second or two each.
POSTS, BATCH, AGENTS = 40, 100, 10
LOOKS = 100
PAGE = 50
# Hits in each tenant's 10,000 messages: 20, 20, about 1,000 and one.
WORDS = ("橄榄", "olive lamp", "退货", "单号 104711")

_SQL = Path(__file__).with_suffix(".sql")
_BARE_INDEX = "DROP INDEX message_grams_grams"
_INDEX = (
    "CREATE INDEX message_grams_grams ON message_grams USING gin (grams) WITH (fastupdate = off)"
)
_ADDED = (
    "DELETE FROM messages WHERE id >= uuid7_floor($1)",
    "DELETE FROM message_grams WHERE id >= uuid7_floor($1)",
    "DELETE FROM stream WHERE id >= uuid7_floor($1)",
    "DELETE FROM received WHERE received_at >= $1",
    "DELETE FROM batches WHERE received_at >= $1",
)
# What is looked at, and its indexes; what threads are made of comes last.
_LOOKED_AT = """
SELECT c.oid FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'public'
WHERE c.relkind IN ('r', 'i') AND c.relname ~ '^(contacts|conversations|messages|message_grams)'
ORDER BY c.relname
"""
# A run that was killed may hold its lease still.
_FREE = "UPDATE work SET owner = NULL, token = NULL, expires_at = NULL WHERE token IS NOT NULL"

console = Console()


@dataclass(kw_only=True)
class _Stand:
    """One size: the database with its tenants, and what was measured on it."""

    base: Ground
    api: Process
    tenants: list[Agent]
    owner: asyncpg.Connection
    ingest: list[float] = field(default_factory=list)
    thread: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)


async def figures() -> dict[str, dict[str, object]]:
    """Both sizes in turns, after a round that warms them up."""
    async with contextlib.AsyncExitStack() as stack:
        stands = [await stack.enter_async_context(_stand(size)) for size in (SMALL, LARGE)]
        for turn in range(ROUNDS + 1):
            for stand in stands if turn % 2 else reversed(stands):
                await _round(stand, turn)
    return _judge(*stands)


def _judge(small: _Stand, large: _Stand) -> dict[str, dict[str, object]]:
    peer = f"the same at {SMALL:,} stored messages"

    def judged(name: str, unit: str) -> dict[str, object]:
        # The first round warms up.
        values, beside = getattr(large, name)[1:], getattr(small, name)[1:]
        return figure(values, beside, unit=unit, peer=peer, goal="<=1.3")

    return {
        "volume_ingest": judged("ingest", "µs/event"),
        "volume_thread_page": judged("thread", "ms, p95"),
        "volume_search": judged("search", "ms, p95"),
    }


@contextlib.asynccontextmanager
async def _stand(size: int) -> AsyncIterator[_Stand]:
    folder = CACHE / f"volume-{size}-{EDITION}"
    ready = folder / "tenants.json"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    async with ground_in(folder, EmbeddedSettings(shared_buffers_mib=_buffers_mib())) as base:
        owner = await base.connect()
        if not ready.exists():
            tenants = await _fill(base, owner, size)
            ready.write_text(json.dumps([asdict(one) for one in tenants], default=str))
        tenants = [_agent(one) for one in json.loads(ready.read_text())]
        await owner.execute("SELECT ensure_partitions(now(), now() + interval '1 month')")
        # A run that was killed took nothing away.
        await _clean(owner)
        await _warm(owner)
        try:
            async with base.product("api") as api:
                yield _Stand(base=base, api=api, tenants=tenants, owner=owner)
        finally:
            await _clean(owner)
            await owner.close()


def _buffers_mib() -> int:
    """A quarter of the machine's memory: what a server with so many messages is given."""
    return psutil.virtual_memory().total // 4 // 1024**2


async def _warm(owner: asyncpg.Connection) -> None:
    """In memory, as with a server at work: else these would be figures of a disk."""
    await owner.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    for row in await owner.fetch(_LOOKED_AT):
        await owner.execute("SELECT pg_prewarm($1::oid, 'buffer')", row["oid"])


async def _clean(owner: asyncpg.Connection) -> None:
    for statement in _ADDED:
        await owner.execute(statement, HISTORY_ENDS)
    await owner.execute(_FREE)


def _agent(kept: dict[str, Any]) -> Agent:
    given: dict[str, Any] = {
        name: value if name in {"secret", "token"} else UUID(value) for name, value in kept.items()
    }
    return Agent(**given)


async def _fill(base: Ground, owner: asyncpg.Connection, size: int) -> list[Agent]:
    console.print(f"  [dim]making {size:,} messages in {CACHE}, once[/dim]")
    await owner.execute("SET synchronous_commit = off")
    await owner.execute("SET maintenance_work_mem = '512MB'")
    await owner.execute("SELECT ensure_partitions('2026-01-01', '2026-04-01')")
    await owner.execute(_BARE_INDEX)
    await owner.execute(_SQL.read_text(encoding="utf-8"))
    tenants = []
    count = size // MESSAGES
    for place in range(count):
        agent = await base.tenant()
        tenants.append(agent)
        await owner.execute(
            "SELECT pg_temp.bench_fill($1, $2, $3, $4, $5, $6)",
            agent.tenant_id,
            agent.instance_id,
            agent.channel_id,
            place,
            MESSAGES,
            PEOPLE,
        )
        if place % max(count // 10, 1) == 0:
            console.print(f"  [dim]tenant {place + 1} of {count}[/dim]")
    console.print("  [dim]what follows from them[/dim]")
    await owner.execute("SELECT pg_temp.bench_follow()")
    console.print("  [dim]index and statistics[/dim]")
    await owner.execute(_INDEX)
    await owner.execute("VACUUM ANALYZE")
    return tenants


async def _round(stand: _Stand, turn: int) -> None:
    stand.ingest.append(await _ingest(stand))
    await _index(stand)
    draw = random.Random(turn)  # noqa: S311 - which pages to look at
    stand.thread.append(await _p95(stand, draw, _thread))
    stand.search.append(await _p95(stand, draw, _search))


async def _ingest(stand: _Stand) -> float:
    """Microseconds of the machine's time per event, in batches of 100."""
    posts = []
    for n in range(POSTS):
        agent = stand.tenants[n % AGENTS]
        events = [
            load.message(agent, f"v{(n * BATCH + i) % PEOPLE}", "请问什么时候发货")
            for i in range(BATCH)
        ]
        posts.append(load.signed(agent, events))
    took = await load.flood(stand.api.port, posts, connections=4)
    return took / (POSTS * BATCH) * 1e6


async def _index(stand: _Stand) -> None:
    """What a worker does every two seconds."""
    database = stand.base.parts.house.database
    async with database.plain() as session:
        [lease] = await leases.claim(
            session, search_index.WORK, owner="benchmark", limit=1, lease=timedelta(minutes=10)
        )
    while await SearchIndex(database).fill(lease) != search_index.EVERY:
        pass
    async with database.plain() as session:
        await leases.finish(session, lease, again_after=timedelta(0))


async def _p95(stand: _Stand, draw: random.Random, look: Callable[..., Awaitable[int]]) -> float:
    """Milliseconds that 95 of 100 looks stay below, over tenants drawn at random."""
    took = []
    for _ in range(LOOKS):
        agent = draw.choice(stand.tenants)
        scope = Scope(tenants=(agent.tenant_id,))
        async with stand.base.parts.house.database.session(scope) as session:
            began = time.perf_counter()
            assert await look(session, stand, agent, draw) > 0
            took.append((time.perf_counter() - began) * 1e3)
    return sorted(took)[math.ceil(0.95 * LOOKS) - 1]


async def _thread(session: Any, stand: _Stand, agent: Agent, draw: random.Random) -> int:
    conversation = await service.find(session, agent.channel_id, f"v{draw.randrange(PEOPLE)}")
    assert conversation is not None
    rows = await service.thread(
        session, conversation.id, position=None, newest_first=True, limit=PAGE
    )
    return len(rows)


async def _search(session: Any, stand: _Stand, agent: Agent, draw: random.Random) -> int:
    wanted = Wanted(text=draw.choice(WORDS))
    found = await search.search(session, wanted, before=None, limit=PAGE, masked=False)
    return len(found.rows)
