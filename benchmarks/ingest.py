"""Durable ingest: what an event costs, and how many there are a second."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import asyncpg

from benchmarks import bare, load
from benchmarks.ground import ROUNDS, Agent, Process, figure, free_port, ground, spawned
from control_plane.kit.ids import new_id

NAMES = (
    "ingest_cpu_batch_1",
    "ingest_cpu_batch_100",
    "ingest_rate_batch_1",
    "ingest_rate_batch_100",
)
# Agents that post, each for a tenant of its own, with two posts in flight as an agent has.
AGENTS = 16
CONNECTIONS = 32
# Conversations of each agent.
CONTACTS = 50
# Requests of one round: some seconds each, since the kernel counts a process's time in hundredths.
SINGLES = 9_000
BATCHES = 96
BATCH = 100

_BARE = "bare ASGI + HMAC, 204"
_ROWS = """
INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
SELECT $1, i, $2, '\\x00', now() FROM unnest($3::uuid[]) AS i
"""
_CONVERSATIONS = """
UPDATE conversations SET last_number = last_number + i.n, heard_number = last_number + i.n,
    last_message_at = now()
FROM unnest($1::uuid[], $2::bigint[]) AS i (key, n) WHERE id = i.key
"""
_CONTACTS = """
INSERT INTO contacts (id, tenant_id, channel_id, platform_id, name, created_at, seen_at)
SELECT gen_random_uuid(), $1, $2, i.name, i.name, now(), now() FROM unnest($3::text[]) AS i (name)
ON CONFLICT (channel_id, platform_id) DO UPDATE SET seen_at = excluded.seen_at
"""
_WORK = """
INSERT INTO work (kind, key, tenant_id, due_at)
SELECT 'turn', i.key, $1, now() FROM unnest($2::uuid[]) AS i (key)
ON CONFLICT (kind, key) DO UPDATE SET version = work.version + 1
"""
_COUNT = """
INSERT INTO message_counts AS m (tenant_id, month, received) VALUES ($1, 200001, $2)
ON CONFLICT (tenant_id, month) DO UPDATE SET received = m.received + excluded.received
"""
_HEAD = "UPDATE stream_heads SET seq = seq + $2 WHERE tenant_id = $1"
_MESSAGES = """
INSERT INTO messages (id, tenant_id, conversation_id, number, sender_kind, segments, occurred_at,
    created_at)
SELECT i.id, $1, i.conversation, 1, 'contact', i.body, now(), now()
FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[]) AS i (id, conversation, body)
"""
_STREAM = """
INSERT INTO stream (id, tenant_id, epoch, seq, type, data, created_at)
SELECT i.id, $1, 2, i.n, 'message.created', i.body, now()
FROM unnest($2::uuid[], $3::jsonb[]) WITH ORDINALITY AS i (id, body, n)
"""


@dataclass
class _Taken:
    """Microseconds of server per event, and events a second, of each round."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


async def figures() -> dict[str, dict[str, object]]:
    """Ingest beside a server that stores nothing and servers that store in the plainest way."""
    async with ground() as base, contextlib.AsyncExitStack() as stack:
        agents = [await base.tenant() for _ in range(AGENTS)]
        api = await stack.enter_async_context(base.product("api"))
        raw, committing = [
            await stack.enter_async_context(_bare(agents[0].secret, *database))
            for database in ((), (base.app_url, str(agents[0].tenant_id)))
        ]
        writers = [await base.connect() for _ in range(2)]
        await writers[0].execute(bare.TABLE)
        await _warm(agents, api, raw, committing)
        taken = [_Taken() for _ in range(5)]
        for _ in range(ROUNDS):
            await _round(agents, api, raw, committing, writers, taken)
        for writer in writers:
            await writer.close()
    return _judge(taken)


def _judge(taken: list[_Taken]) -> dict[str, dict[str, object]]:
    single, batched, raw, committing, rows = taken
    return {
        "ingest_cpu_batch_1": figure(
            single.cpu, raw.cpu, unit="µs/event", peer=_BARE, goal="<=5.0"
        ),
        "ingest_cpu_batch_100": figure(
            batched.cpu, raw.cpu, unit="µs/event", peer=f"{_BARE}, one a request", goal="<=1.5"
        ),
        "ingest_rate_batch_1": figure(
            single.rate,
            committing.rate,
            unit="events/s",
            peer="one INSERT and commit per request over the same pool",
            goal=">=1.5",
        ),
        "ingest_rate_batch_100": figure(
            batched.rate,
            rows.rate,
            unit="events/s",
            peer="the same rows by multi-row INSERTs, 2 connections",
            goal=">=0.4",
        ),
    }


async def _warm(agents: list[Agent], *servers: Process) -> None:
    """Contacts and conversations are there, statements prepared, secrets known."""
    events = [
        load.signed(agent, [load.message(agent, f"v{n}", "hello") for n in range(CONTACTS)])
        for agent in agents
    ]
    await load.flood(servers[0].port, events, connections=8)
    for server in servers:
        await load.flood(server.port, _singles(agents[:1], 500), connections=CONNECTIONS)


def _singles(agents: list[Agent], count: int) -> list[bytes]:
    return [_post(agents[n % len(agents)], n, 1) for n in range(count)]


def _post(agent: Agent, start: int, events: int) -> bytes:
    return load.signed(
        agent,
        [
            load.message(agent, f"v{(start + n) % CONTACTS}", "Are you open on Sunday?")
            for n in range(events)
        ],
    )


async def _round(
    agents: list[Agent],
    api: Process,
    raw: Process,
    committing: Process,
    writers: list[asyncpg.Connection],
    taken: list[_Taken],
) -> None:
    alone = agents[:1]
    singles = [(api, agents, taken[0]), (raw, alone, taken[2]), (committing, alone, taken[3])]
    for server, whose, into in singles:
        await _measure(server, _singles(whose, SINGLES), 1, CONNECTIONS, into)
    batches = [_post(agents[n % AGENTS], n * BATCH, BATCH) for n in range(BATCHES)]
    await _measure(api, batches, BATCH, 8, taken[1])
    taken[4].rate.append(await _rows(writers, agents))


async def _measure(
    server: Process, requests: list[bytes], each: int, connections: int, into: _Taken
) -> None:
    before = server.cpu_s
    took = await load.flood(server.port, requests, connections=connections)
    events = len(requests) * each
    into.cpu.append((server.cpu_s - before) / events * 1e6)
    into.rate.append(events / took)


async def _rows(writers: list[asyncpg.Connection], agents: list[Agent]) -> float:
    """Events a second when somebody writes just the rows, a transaction for each hundred."""
    known = {
        agent.tenant_id: [
            row["id"]
            for row in await writers[0].fetch(
                "SELECT id FROM conversations WHERE tenant_id = $1", agent.tenant_id
            )
        ]
        for agent in agents
    }
    turns = iter(range(BATCHES))
    began = time.perf_counter()

    async def write(connection: asyncpg.Connection) -> None:
        for turn in turns:
            agent = agents[turn % AGENTS]
            said_in = [known[agent.tenant_id][n % CONTACTS] for n in range(BATCH)]
            async with connection.transaction():
                await _one(connection, agent, said_in)

    await asyncio.gather(*(write(connection) for connection in writers))
    return BATCHES * BATCH / (time.perf_counter() - began)


async def _one(connection: asyncpg.Connection, agent: Agent, said_in: list[object]) -> None:
    ids = [new_id() for _ in said_in]
    body = ['[{"type":"text","text":"Are you open on Sunday?"}]'] * len(ids)
    each = sorted(set(said_in), key=str)
    visitors = [f"v{n}" for n in range(len(each))]
    await connection.execute(_ROWS, agent.channel_id, agent.tenant_id, ids)
    await connection.execute(_CONTACTS, agent.tenant_id, agent.channel_id, visitors)
    await connection.execute(_CONVERSATIONS, each, [said_in.count(key) for key in each])
    await connection.execute(_MESSAGES, agent.tenant_id, ids, said_in, body)
    await connection.execute(_WORK, agent.tenant_id, each)
    await connection.execute(_COUNT, agent.tenant_id, len(ids))
    await connection.execute(_HEAD, agent.tenant_id, len(ids))
    await connection.execute(_STREAM, agent.tenant_id, ids, body)


def _bare(secret: str, *database: str) -> contextlib.AbstractAsyncContextManager[Process]:
    port = free_port()
    return spawned(["-m", "benchmarks.bare", str(port), secret, *database], port)
