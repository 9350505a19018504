"""Claim and release of due work, by the loop that everything in the background runs on."""

import asyncio
import time
from uuid import UUID

from benchmarks.ground import ROUNDS, Ground, figure, ground
from control_plane.bus.hints import LocalBus
from control_plane.bus.loop import LoopSettings, WorkLoop
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.kit.ids import new_id

NAMES = ("work_claim_release",)
ROWS = 4_000
TENANTS = 50
# Rows in hand at a time, on both sides.
BATCH = 16
KIND = "benchmark"

_CLAIM = """
UPDATE work SET owner = 'bare', token = gen_random_uuid(), expires_at = now() + interval '15 s'
WHERE (kind, key) IN (
    SELECT kind, key FROM work WHERE kind = $1 AND due_at <= now()
      AND (expires_at IS NULL OR expires_at <= now())
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING key, token
"""
_RELEASE = """
DELETE FROM work USING unnest($2::uuid[], $3::uuid[]) AS i (k, t)
WHERE kind = $1 AND key = i.k AND token = i.t
"""


async def figures() -> dict[str, dict[str, object]]:
    """Rows a second through the work loop, beside two statements in a loop."""
    ours, beside = [], []
    async with ground() as base:
        for _ in range(ROUNDS):
            await _fill(base)
            ours.append(await _loop(base))
            beside.append(await bare(base))
    peer = "bare SQL loop, the same batch"
    return {"work_claim_release": figure(ours, beside, unit="rows/s", peer=peer, goal=">=0.5")}


async def _fill(base: Ground) -> None:
    tenants: list[UUID] = [new_id() for _ in range(TENANTS)]
    async with base.parts.house.database.plain() as session:
        rows = [(new_id(), tenants[n % TENANTS]) for n in range(ROWS)]
        await leases.call(session, KIND, rows)


async def _loop(base: Ground) -> float:
    left, done = ROWS, asyncio.Event()

    async def work(_lease: Lease) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    loop = WorkLoop(
        KIND,
        work,
        database=base.parts.house.database,
        bus=LocalBus(),
        settings=LoopSettings(concurrency=BATCH),
    )
    began = time.perf_counter()
    running = asyncio.create_task(loop.run())
    await done.wait()
    loop.stop()
    await running
    return ROWS / (time.perf_counter() - began)


async def bare(base: Ground) -> float:
    """Rows a second through two statements in a loop."""
    await _fill(base)
    connection = await base.connect()
    began = time.perf_counter()
    while rows := await connection.fetch(_CLAIM, KIND, BATCH):
        keys, tokens = [row["key"] for row in rows], [row["token"] for row in rows]
        await connection.execute(_RELEASE, KIND, keys, tokens)
    took = time.perf_counter() - began
    await connection.close()
    return ROWS / took
