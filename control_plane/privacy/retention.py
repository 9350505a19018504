"""Forgetting by plan: what a tenant no longer keeps is removed in small transactions.

Rows are found by whose they are and then by id, which says when they were made, always through an
index of the tenant's own. Each transaction removes one batch and has checked the leader's lease;
one that was broken off is simply begun again. A conversation's row stays, and so do its counters:
numbers never repeat. What has not ended (queued deliveries, running turns, callbacks that wait)
stays until it has.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.conversations import search
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.clock import Clock
from control_plane.media import service as media

# The longest that anything said is kept, whatever a plan says, unless the settings say otherwise.
RETENTION_MAX_DAYS = 730
EVERY = timedelta(hours=1)
# Rows of one kind that one transaction removes.
BATCH = 500
# Batches of one kind and tenant in one round; the rest waits for the next round.
ROUNDS = 100
# Tenants, conversations or visitors that are looked at together.
PAGE = 200
# Months that one round drops; there is one more every month.
MOST_MONTHS = 12

_TENANTS = """
SELECT t.id, p.retention_days FROM tenants AS t JOIN plans AS p ON p.name = t.plan
WHERE t.id > $1 ORDER BY t.id LIMIT $2
"""
# Each takes (tenant, cutoff, limit). Attempts go with their delivery, steps with their turn.
_KINDS = {
    "stream": """
        WITH aged AS (
            SELECT id, bool_and(id < uuid7_floor($2)) OVER (ORDER BY epoch, seq) AS old FROM (
                SELECT id, epoch, seq FROM stream
                WHERE tenant_id = $1 ORDER BY epoch, seq LIMIT $3) AS oldest
        )
        DELETE FROM stream WHERE id IN (SELECT id FROM aged WHERE old)
    """,
    "deliveries": """
        WITH aged AS (
            SELECT id FROM deliveries
            WHERE tenant_id = $1 AND id < uuid7_floor($2) AND state NOT IN ('queued', 'sending')
            ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
        ), tried AS (
            DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM aged)
        )
        DELETE FROM deliveries WHERE id IN (SELECT id FROM aged)
    """,
    "turns": """
        WITH aged AS (
            SELECT id FROM turns
            WHERE tenant_id = $1 AND id < uuid7_floor($2) AND state <> 'running'
            ORDER BY id LIMIT $3
        ), taken AS (
            DELETE FROM turn_steps WHERE turn_id IN (SELECT id FROM aged)
        )
        DELETE FROM turns WHERE id IN (SELECT id FROM aged)
    """,
    "callbacks": """
        DELETE FROM callbacks WHERE id IN (
            SELECT id FROM callbacks
            WHERE tenant_id = $1 AND received_at < $2 AND dead_reason IS NOT NULL
            ORDER BY received_at LIMIT $3)
    """,
    "rejected_events": """
        DELETE FROM rejected_events WHERE id IN (
            SELECT id FROM rejected_events
            WHERE tenant_id = $1 AND id < uuid7_floor($2) ORDER BY id LIMIT $3)
    """,
    "transfers": """
        DELETE FROM routing_transfers WHERE id IN (
            SELECT id FROM routing_transfers
            WHERE tenant_id = $1 AND id < uuid7_floor($2) ORDER BY id LIMIT $3)
    """,
    "ratings": """
        DELETE FROM routing_ratings WHERE id IN (
            SELECT id FROM routing_ratings
            WHERE tenant_id = $1 AND id < uuid7_floor($2) ORDER BY id LIMIT $3)
    """,
    "assists": """
        DELETE FROM assists WHERE id IN (
            SELECT id FROM assists
            WHERE tenant_id = $1 AND id < uuid7_floor($2) ORDER BY id LIMIT $3)
    """,
    "raw_messages": """
        DELETE FROM raw_messages WHERE message_id IN (
            SELECT message_id FROM raw_messages
            WHERE tenant_id = $1 AND message_id < uuid7_floor($2)
            ORDER BY message_id LIMIT $3 FOR UPDATE SKIP LOCKED)
    """,
    "previews": """
        UPDATE conversations SET preview = '', reply_handle = '{}' WHERE id IN (
            SELECT id FROM conversations
            WHERE tenant_id = $1 AND last_message_hour < $2 AND last_message_at < $2
              AND (preview <> '' OR reply_handle <> '{}')
            LIMIT $3 FOR UPDATE SKIP LOCKED)
    """,
    # Somebody in a group has no conversation of their own.
    "contacts": """
        DELETE FROM contacts WHERE id IN (
            SELECT c.id FROM contacts AS c
            WHERE c.tenant_id = $1 AND c.id < uuid7_floor($2) AND c.seen_at < $2
              AND NOT EXISTS (SELECT FROM conversations AS v WHERE v.tenant_id = $1
                  AND v.contact_id = c.id)
            LIMIT $3 FOR UPDATE SKIP LOCKED)
    """,
    "notes": """
        DELETE FROM notes WHERE id IN (
            SELECT id FROM notes WHERE tenant_id = $1 AND id < uuid7_floor($2)
            ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
    """,
    # What members call somebody is a name, too.
    "cards": """
        DELETE FROM contact_cards WHERE contact_id IN (
            SELECT k.contact_id FROM contact_cards AS k JOIN contacts AS c ON c.id = k.contact_id
            WHERE k.tenant_id = $1 AND c.id < uuid7_floor($2) AND c.seen_at < $2
              AND k.updated_at < $2
            LIMIT $3 FOR UPDATE OF k SKIP LOCKED)
    """,
    "names": """
        UPDATE contacts SET name = NULL WHERE id IN (
            SELECT id FROM contacts
            WHERE tenant_id = $1 AND id < uuid7_floor($2) AND seen_at < $2 AND name IS NOT NULL
            LIMIT $3 FOR UPDATE SKIP LOCKED)
    """,
    "timeline": """
        DELETE FROM timeline WHERE id IN (
            SELECT t.id FROM instances AS i JOIN timeline AS t ON t.instance_id = i.id
            WHERE i.tenant_id = $1 AND t.id < uuid7_floor($2) LIMIT $3)
    """,
}
# What is found by whom it belongs to: pages of owners, and what each of them no longer keeps.
_OWNERS = {
    "messages": """
        SELECT id FROM conversations
        WHERE tenant_id = $1 AND id > $2 AND id < uuid7_floor($3) ORDER BY id LIMIT $4
    """,
    "webchat_messages": """
        SELECT id FROM webchat_visitors
        WHERE tenant_id = $1 AND id > $2 AND id < uuid7_floor($3) ORDER BY id LIMIT $4
    """,
}
_OWNED = {
    "messages": """
        SELECT m.id FROM unnest($1::uuid[]) AS owner (id), LATERAL (
            SELECT id FROM messages
            WHERE conversation_id = owner.id AND id < uuid7_floor($2) LIMIT $3) AS m
        LIMIT $3
    """,
    "webchat_messages": """
        SELECT m.id FROM unnest($1::uuid[]) AS owner (id), LATERAL (
            SELECT id FROM webchat_messages
            WHERE visitor_id = owner.id AND id < uuid7_floor($2) ORDER BY seq LIMIT $3) AS m
        LIMIT $3
    """,
}
_REMOVE = {
    # Only partitions that can hold ids below the cutoff are looked at.
    "messages": "DELETE FROM messages WHERE id < uuid7_floor($2) AND id = ANY ($1::uuid[])",
    "webchat_messages": """
        DELETE FROM webchat_messages WHERE id < uuid7_floor($2) AND id = ANY ($1::uuid[])
    """,
}
_SILENT = """
SELECT v.id FROM webchat_visitors AS v WHERE v.id = ANY ($1)
    AND NOT EXISTS (SELECT FROM webchat_messages AS m WHERE m.visitor_id = v.id)
FOR UPDATE SKIP LOCKED
"""
# A statement of its own: what a visitor wrote before their row was locked must be seen.
_GONE_VISITORS = """
DELETE FROM webchat_visitors AS v WHERE v.id = ANY ($1)
    AND NOT EXISTS (SELECT FROM webchat_messages AS m WHERE m.visitor_id = v.id)
"""
_FIRST = UUID(int=0)

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Tenure:
    """A tenant, and before when it keeps nothing."""

    tenant_id: UUID
    cutoff: datetime


class Retention:
    """Removes what tenants no longer keep; nobody keeps anything for longer than `at_most`."""

    def __init__(self, database: Database, clock: Clock, *, at_most: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._at_most = at_most

    async def sweep(self, lease: Lease) -> None:
        """One round over all tenants, under the leader's lease; raises LeaseLost."""
        async for tenure in self._tenures():
            gone = {kind: await self._kind(lease, tenure, kind) for kind in _KINDS}
            gone |= {kind: await self._owned(lease, tenure, kind) for kind in _OWNED}
            if any(gone.values()):
                log.info("forgot by plan", tenant=str(tenure.tenant_id), **gone)
        for _ in range(MOST_MONTHS):
            if not await self._drop_month(lease):
                return

    async def _tenures(self) -> AsyncIterator[Tenure]:
        now, after = self._clock.now(), _FIRST
        while True:
            async with self._database.session(Scope(operator=True)) as session:
                rows = await (await driver(session)).fetch(_TENANTS, after, PAGE)
            for row in rows:
                yield Tenure(tenant_id=row["id"], cutoff=now - self._kept(row["retention_days"]))
            if len(rows) < PAGE:
                return
            after = rows[-1]["id"]

    def _kept(self, days: int | None) -> timedelta:
        return self._at_most if days is None else min(timedelta(days=days), self._at_most)

    async def _kind(self, lease: Lease, tenure: Tenure, kind: str) -> int:
        total = 0
        for _ in range(ROUNDS):
            gone = await self._batch(
                lease, tenure, _KINDS[kind], tenure.tenant_id, tenure.cutoff, BATCH
            )
            total += gone
            if gone < BATCH:
                break
        return total

    async def _owned(self, lease: Lease, tenure: Tenure, kind: str) -> int:
        total, rounds = 0, 0
        async for owners in self._owners(tenure, kind):
            gone = BATCH
            while gone == BATCH and rounds < ROUNDS:
                gone = await self._said(lease, tenure, kind, owners)
                total += gone
                rounds += 1 if gone else 0
            if kind == "webchat_messages":
                await self._silent_visitors(lease, tenure, owners)
            if rounds == ROUNDS:
                break
        return total

    async def _owners(self, tenure: Tenure, kind: str) -> AsyncIterator[list[UUID]]:
        after = _FIRST
        while True:
            async with self._database.session(Scope(tenants=(tenure.tenant_id,))) as session:
                rows = await (await driver(session)).fetch(
                    _OWNERS[kind], tenure.tenant_id, after, tenure.cutoff, PAGE
                )
            if not rows:
                return
            yield [row["id"] for row in rows]
            after = rows[-1]["id"]

    async def _batch(self, lease: Lease, tenure: Tenure, statement: str, *values: Any) -> int:
        async with self._database.session(Scope(tenants=(tenure.tenant_id,))) as session:
            done: str = await (await driver(session)).execute(statement, *values)
            await leases.hold(session, lease)
        return int(done.rpartition(" ")[2])

    async def _said(self, lease: Lease, tenure: Tenure, kind: str, owners: list[UUID]) -> int:
        async with self._database.session(Scope(tenants=(tenure.tenant_id,))) as session:
            connection = await driver(session)
            rows = await connection.fetch(_OWNED[kind], owners, tenure.cutoff, BATCH)
            aged = [row["id"] for row in rows]
            if kind == "messages":
                await search.forget(session, tenure.tenant_id, aged)
                await media.forget(session, await media.of_messages(session, aged))
            await connection.execute(_REMOVE[kind], aged, tenure.cutoff)
            await leases.hold(session, lease)
        return len(aged)

    async def _silent_visitors(self, lease: Lease, tenure: Tenure, visitors: list[UUID]) -> None:
        async with self._database.session(Scope(tenants=(tenure.tenant_id,))) as session:
            connection = await driver(session)
            silent = [row["id"] for row in await connection.fetch(_SILENT, visitors)]
            await connection.execute(_GONE_VISITORS, silent)
            await leases.hold(session, lease)

    async def _drop_month(self, lease: Lease) -> bool:
        async with self._database.session() as session:
            dropped = await _dropped(session, self._clock.now() - self._at_most)
            await leases.hold(session, lease)
        if dropped:
            log.info("dropped a month", table=dropped)
        return dropped is not None


async def _dropped(session: AsyncSession, before: datetime) -> str | None:
    name: str | None = await (await driver(session)).fetchval("SELECT drop_partition($1)", before)
    return name
