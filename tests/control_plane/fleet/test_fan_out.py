"""Something shared changes: every agent hears of it, few at a time; none waits for another."""

import asyncio
import json
import socket
import tracemalloc
from uuid import UUID

import asyncpg
import pytest

from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.fleet.provision.base import SMALLEST, InstanceSpec
from control_plane.fleet.reconcile import WORK

AGENTS = 1_000
AT_ONCE = 8
# Far below what all documents and answers together would take, were they held at the same time.
MAX_BYTES = 24 * 2**20
PATIENCE_S = 500.0
OPENED = "erp.example"

_CLONE = """
WITH made AS (
    INSERT INTO instances (id, tenant_id, name, phase, observed_generation, created_at, updated_at)
    SELECT gen_random_uuid(), tenant_id, 'Bot', phase, 1, created_at, updated_at
    FROM instances, generate_series(2, $2) WHERE id = $1 RETURNING id
), state AS (
    INSERT INTO config_states (instance_id, tenant_id, delivered, delivered_sha256, applied,
        applied_sha256, last_good)
    SELECT made.id, tenant_id, delivered, delivered_sha256, applied, applied_sha256, last_good
    FROM made, config_states WHERE instance_id = $1
), due AS (
    INSERT INTO work (kind, key, tenant_id, due_at)
    SELECT kind, made.id, tenant_id, now() + interval '1 day' FROM made, work
    WHERE kind = 'instance' AND key = $1
), secrets AS (
    INSERT INTO credentials (id, kind, sealed, tenant_id, instance_id, created_at)
    SELECT gen_random_uuid(), kind, sealed, tenant_id, made.id, c.created_at
    FROM made, credentials AS c WHERE kind = 'webhook' AND instance_id = $1
)
INSERT INTO agent_sessions (id, tenant_id, instance_id, generation, state, epoch, endpoint,
    api_token, token_at, journal_id, version, schema_version, health, created_at, seen_at)
SELECT gen_random_uuid(), tenant_id, made.id, 1, 'active', 1, $3 || '/' || made.id, api_token,
    token_at, journal_id, version, schema_version, health, created_at, seen_at
FROM made, agent_sessions WHERE instance_id = $1 RETURNING instance_id
"""


class ThousandAgents:
    """Answers for all of them on one socket; the path says whose call it is."""

    def __init__(self) -> None:
        self.told: dict[str, dict] = {}
        self.calls = self.in_flight = self.most = 0
        self.slow: set[str] = set()
        self.released = asyncio.Event()
        self.changed = asyncio.Event()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self.released.set()
        self._server.close()

    async def until_told(self, names: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not names <= self.told.keys():
                self.changed.clear()
                await self.changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                name = lines[0].split()[1].split("/")[1]
                length = next(
                    int(line.split(":")[1])
                    for line in lines
                    if line.lower().startswith("content-length")
                )
                update = json.loads(await reader.readexactly(length))
                await self._take(name, update)
                body = json.dumps(
                    {"outcome": "applied", "revision": update["revision"], "errors": []}
                )
                writer.write(
                    f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _take(self, name: str, update: dict) -> None:
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            if name in self.slow:
                await self.released.wait()
            self.told[name] = {"egress": update["document"]["network"]["egress_allow"]}
            self.changed.set()
        finally:
            self.in_flight -= 1


@pytest.fixture
async def agents():
    made = ThousandAgents()
    made.url = await made.start()
    yield made
    await made.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_every_agent_hears_of_it_few_at_a_time_and_nobody_waits_for_a_slow_one(
    fleet, people, agents, superuser: asyncpg.Connection
) -> None:
    first, _ = await fleet.run(channel=False)
    await superuser.execute("UPDATE agent_sessions SET endpoint = $1", f"{agents.url}/{first}")
    rows = await superuser.fetch(_CLONE, first, AGENTS, agents.url)
    ids = [first, *(row["instance_id"] for row in rows)]
    slow, dead = ids[1], ids[2]
    agents.slow.add(str(slow))
    await superuser.execute(
        "UPDATE agent_sessions SET endpoint = $2 WHERE instance_id = $1",
        dead,
        f"http://127.0.0.1:{closed_port()}",
    )
    await furnish(fleet, ids)
    operator = await people.operator()
    answer = await operator.patch(
        f"/tenants/{fleet.owner.tenant_id}", {"quota_overrides": {"egress_allow": [OPENED]}}
    )
    assert answer.status_code == 200, answer.text

    bus = LocalBus()
    database = fleet.parts.house.database
    loop = WorkLoop(
        WORK,
        fleet.reconciler.look,
        database=database,
        bus=bus,
        settings=LoopSettings(concurrency=AT_ONCE),
    )
    tracemalloc.start(1)
    looking = asyncio.create_task(loop.run())
    try:
        await agents.until_told({str(each) for each in ids} - {str(slow), str(dead)})
        # The slow one is still at it, and the dead one is not there.
        assert str(slow) not in agents.told
        assert agents.in_flight >= 1
        agents.released.set()
        await agents.until_told({str(slow)})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        agents.released.set()
        loop.stop()
        await looking

    assert agents.most <= AT_ONCE
    assert peak < MAX_BYTES
    assert str(dead) not in agents.told
    assert all(told["egress"] == [OPENED] for told in agents.told.values())
    assert agents.calls == AGENTS - 1


async def furnish(fleet, ids: list[UUID]) -> None:
    """All of them run."""
    tenant_id = fleet.owner.tenant_id
    for each in ids:
        workload = fleet.place.get(each)
        if workload is None or workload.ref is None:
            await fleet.reconciler._provisioner.ensure(
                InstanceSpec(
                    instance_id=each, tenant_id=tenant_id, generation=1, allowance=SMALLEST
                )
            )
