"""What goes: reservations that ran out, objects that nothing uses or that were forgotten.

Rows are marked first and deleted last, with the object in between, so that a crash at any point
leaves something that the next round finds. The sweep compares storage and rows once a day.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.clock import Clock
from control_plane.media.service import SWEEP_EVERY, WORK
from control_plane.media.storage import Storage, Stored, ids_of, key_of
from control_plane.stream import log as stream
from control_plane.tenants import quota
from control_plane.tenants.life import GONE

# Objects that one round removes.
BATCH = 100
# An object without a row may be an upload that is about to settle; after this it is not.
ORPHAN_AGE = timedelta(hours=1)
# A deleted tenant's storage is looked at again, for uploads that were under way.
_AGAIN_AFTER_DELETION = timedelta(hours=2)

ORPHANS = Counter("botyard_media_orphans_total", "Objects without a row that were removed.")
MISSING = Counter(
    "botyard_media_missing_total", "Rows without their object, counted again by each sweep."
)

_EXPIRE = """
UPDATE media SET state = 'gone', expires_at = NULL
WHERE tenant_id = $1 AND state <> 'gone' AND expires_at <= $2
"""
# What was made from an object goes with it, or after it.
_FOLLOW = """
UPDATE media AS m SET state = 'gone', expires_at = NULL FROM (
    SELECT id FROM media AS v
    WHERE tenant_id = $1 AND original_id IS NOT NULL AND state <> 'gone'
      AND NOT EXISTS (SELECT FROM media AS o WHERE o.id = v.original_id AND o.state <> 'gone')
    ORDER BY id FOR UPDATE
) AS made WHERE m.id = made.id
"""
_GONE = "SELECT id, attempt FROM media WHERE tenant_id = $1 AND state = 'gone' ORDER BY id LIMIT $2"
_DELETE = "DELETE FROM media WHERE id = ANY ($1::uuid[]) AND state = 'gone'"
_NEXT = "SELECT min(expires_at) FROM media WHERE tenant_id = $1 AND state <> 'gone'"
_TENANT = "SELECT state FROM tenants WHERE id = $1"
_ALL_GONE = "UPDATE media SET state = 'gone', expires_at = NULL WHERE tenant_id = $1"
_NAMED = """
SELECT id, attempt, created_at < $3 AS old FROM media
WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND attempt IS NOT NULL
"""
_STORED = "SELECT count(*) FROM media WHERE tenant_id = $1 AND state = 'stored' AND created_at < $2"
_ANY = "SELECT EXISTS (SELECT FROM media WHERE tenant_id = $1)"

log = structlog.get_logger()


class Removal:
    """Removes objects, a lease per tenant."""

    def __init__(self, database: Database, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def remove(self, lease: Lease) -> timedelta | None:
        """Work handler: what has run out or was forgotten; when the next thing runs out."""
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            connection = await driver(session)
            await connection.execute(_EXPIRE, lease.key, self._clock.now())
            await connection.execute(_FOLLOW, lease.key)
            await leases.hold(session, lease)
        while rows := await self._gone(lease):
            await self._storage.delete(
                [key_of(lease.key, row["id"], row["attempt"]) for row in rows if row["attempt"]]
            )
            await self._delete(lease, [row["id"] for row in rows])
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            soonest: datetime | None = await (await driver(session)).fetchval(_NEXT, lease.key)
        if soonest is None:
            return None
        return max(soonest - self._clock.now(), timedelta(seconds=1))

    async def sweep(self, lease: Lease) -> timedelta | None:
        """Work handler: remove objects that no row names, count rows without their object."""
        if await self._left(lease):
            return await self._clear(lease)
        old = self._clock.now() - ORPHAN_AGE
        orphans = present = 0
        async for page in self._storage.list(str(lease.key)):
            unnamed, named = await self._compare(lease, page, old)
            await self._storage.delete(unnamed)
            orphans += len(unnamed)
            present += named
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            connection = await driver(session)
            missing = max(0, await connection.fetchval(_STORED, lease.key, old) - present)
            more = await connection.fetchval(_ANY, lease.key)
        ORPHANS.inc(orphans)
        MISSING.inc(missing)
        if orphans or missing:
            log.warning("media swept", tenant=str(lease.key), orphans=orphans, missing=missing)
        return SWEEP_EVERY if more else None

    async def _gone(self, lease: Lease) -> Sequence[Any]:
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            rows: Sequence[Any] = await (await driver(session)).fetch(_GONE, lease.key, BATCH)
        return rows

    async def _delete(self, lease: Lease, ids: Sequence[UUID]) -> None:
        """The bytes are free again, and the tenant hears so when that matters."""
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            before = await quota.standing(session, lease.key, now=now, lock=True)
            await (await driver(session)).execute(_DELETE, ids)
            await leases.hold(session, lease)
            entries = await quota.crossed(session, before, now=now)
            await stream.append(session, lease.key, entries)

    async def _left(self, lease: Lease) -> bool:
        """Whether the tenant is deleted; then all of its rows are marked."""
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            connection = await driver(session)
            left = await connection.fetchval(_TENANT, lease.key) in GONE
            if left:
                await connection.execute(_ALL_GONE, lease.key)
                await leases.hold(session, lease)
                await leases.call(session, WORK, [(lease.key, lease.key)])
        return left

    async def _clear(self, lease: Lease) -> timedelta | None:
        """Everything below the tenant's prefix, until a later look finds nothing."""
        removed = 0
        async for page in self._storage.list(str(lease.key)):
            await self._storage.delete([item.key for item in page])
            removed += len(page)
        return _AGAIN_AFTER_DELETION if removed else None

    async def _compare(
        self, lease: Lease, page: Sequence[Stored], old: datetime
    ) -> tuple[list[str], int]:
        """(keys that no row names, how many older rows have their object)."""
        ids = {item.key: ids_of(item.key) for item in page}
        async with self._database.session(Scope(tenants=(lease.key,))) as session:
            rows = await (await driver(session)).fetch(
                _NAMED, lease.key, [found[0] for found in ids.values() if found], old
            )
            await leases.hold(session, lease)
        named = {(row["id"], row["attempt"]): row["old"] for row in rows}
        unnamed = [
            item.key for item in page if item.modified_at < old and ids[item.key] not in named
        ]
        return unnamed, sum(named[found] for found in ids.values() if found in named)
