"""Taking a new key into use: every sealed field is sealed again by the newest key.

One row of work per tenant. What is sealed already by the newest key is left alone, so that a
killed round is simply begun again; and a value that changed meanwhile is not overwritten.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.crypto import CannotOpen, Keyring

WORK = "reseal"
# Rows of one transaction.
BATCH = 100
# Stands for the rows without a tenant; nil would be before every tenant that is ever claimed.
NO_TENANT = UUID(int=1)
# Every sealed column there is, but for answers kept for a repeat, which are gone in two days; a
# test holds this against the schema.
SEALED = (
    ("channels", "secrets"),
    ("agent_sessions", "api_token"),
    ("agent_sessions", "next_token"),
    ("credentials", "sealed"),
    ("identities", "totp_secret"),
    ("webhooks", "secret"),
    ("webhooks", "old_secret"),
    ("sign_ons", "client_secret"),
    ("providers", "api_key"),
)
# People belong to themselves.
_NOBODYS = frozenset({"identities"})

_READ = """
SELECT id, {column} AS sealed FROM {table}
WHERE {tenant} IS NOT DISTINCT FROM $1 AND id > $2 AND {column} IS NOT NULL ORDER BY id LIMIT $3
"""
_WRITE = """
UPDATE {table} AS t SET {column} = item.fresh
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS item (id, stale, fresh)
WHERE t.id = item.id AND t.{column} = item.stale
"""

log = structlog.get_logger()


@dataclass(kw_only=True)
class Census:
    """Sealed values: how many there are, wait for the newest key, and fit no key of the list."""

    total: int = 0
    older: int = 0
    lost: int = 0


class Resealer:
    """Seals again what an older key has sealed."""

    def __init__(self, database: Database, keys: Keyring) -> None:
        self._database = database
        self._keys = keys

    async def reseal(self, lease: Lease) -> timedelta | None:
        """Work handler: all of one tenant's, batch by batch."""
        seen = Census()
        for table, column in SEALED:
            after = UUID(int=0)
            while True:
                async with self._database.session(_scope(lease.key)) as session:
                    await leases.hold(session, lease)
                    rows = await _read(session, table, column, lease.key, after)
                    stale = _examine(self._keys, rows, seen)
                    await self._write(session, table, column, stale)
                if not rows:
                    break
                after = rows[-1]["id"]
        log.info("resealed", tenant=str(lease.key), values=seen.older, unreadable=seen.lost)
        return None

    async def _write(
        self, session: AsyncSession, table: str, column: str, stale: list[tuple[UUID, bytes]]
    ) -> None:
        if stale:
            await (await driver(session)).execute(
                _WRITE.format(table=table, column=column),
                [row_id for row_id, _ in stale],
                [sealed for _, sealed in stale],
                [self._keys.reseal(sealed) for _, sealed in stale],
            )


async def call_all(database: Database) -> int:
    """Say that every tenant's sealed values need a look; how many tenants there are."""
    async with database.session(Scope(operator=True)) as session:
        tenants = await _tenants(session)
        await leases.call(
            session, WORK, [(NO_TENANT, NO_TENANT), *((each, each) for each in tenants)]
        )
    return len(tenants)


async def census(database: Database, keys: Keyring) -> Census:
    """Count by looking: old keys may be dropped when no value waits for the newest."""
    seen = Census()
    async with database.session(Scope(operator=True)) as session:
        tenants = await _tenants(session)
    for tenant_id in (NO_TENANT, *tenants):
        async for rows in _batches(database, tenant_id):
            _examine(keys, rows, seen)
    return seen


async def _batches(database: Database, tenant_id: UUID) -> AsyncIterator[list[Any]]:
    for table, column in SEALED:
        after = UUID(int=0)
        while True:
            async with database.session(_scope(tenant_id)) as session:
                rows = await _read(session, table, column, tenant_id, after)
            if not rows:
                break
            yield rows
            after = rows[-1]["id"]


async def _read(
    session: AsyncSession, table: str, column: str, tenant_id: UUID, after: UUID
) -> list[Any]:
    owner = None if tenant_id == NO_TENANT else tenant_id
    tenant = "NULL::uuid" if table in _NOBODYS else "tenant_id"
    query = _READ.format(table=table, column=column, tenant=tenant)
    rows: list[Any] = await (await driver(session)).fetch(query, owner, after, BATCH)
    return rows


async def _tenants(session: AsyncSession) -> list[UUID]:
    rows = await (await driver(session)).fetch("SELECT id FROM tenants ORDER BY id")
    return [row["id"] for row in rows]


def _examine(keys: Keyring, rows: list[Any], seen: Census) -> list[tuple[UUID, bytes]]:
    """Count the rows; those that an older key of the list has sealed."""
    seen.total += len(rows)
    stale = []
    for row in rows:
        if keys.is_newest(row["sealed"]):
            continue
        try:
            keys.open(row["sealed"])
        except CannotOpen:
            seen.lost += 1
        else:
            stale.append((row["id"], row["sealed"]))
    seen.older += len(stale)
    return stale


def _scope(tenant_id: UUID) -> Scope:
    return Scope() if tenant_id == NO_TENANT else Scope(tenants=(tenant_id,))
