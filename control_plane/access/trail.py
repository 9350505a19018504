"""Reading the audit: a page of it, all of it, and whether it is still what was written."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.audit import PLATFORM
from control_plane.access.models import AuditEntry
from control_plane.access.permissions import Actor
from control_plane.access.schemas import Moment
from control_plane.db.session import Database, Scope, driver

# Rows that an export reads in one transaction.
BATCH = 500
# Verification reads a whole chain in one statement; millions of rows take longer than a request.
VERIFY_TIMEOUT_S = 600


class Filter(BaseModel):
    """Which entries are asked for; all that is given must fit."""

    action: Annotated[str | None, Query(max_length=100)] = None
    actor_id: UUID | None = None
    target_kind: Annotated[str | None, Query(max_length=100)] = None
    target_id: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None

    def conditions(self) -> list[Any]:
        """As the WHERE of a query."""
        same = ("action", "actor_id", "target_kind", "target_id")
        found = [
            col(getattr(AuditEntry, name)) == getattr(self, name)
            for name in same
            if getattr(self, name) is not None
        ]
        if self.since is not None:
            found.append(col(AuditEntry.at) >= self.since)
        if self.until is not None:
            found.append(col(AuditEntry.at) < self.until)
        return found


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A chain's state; `broken` is the place of the first row that is missing or was changed."""

    tenant_id: UUID
    entries: int
    broken: int | None


def chain_of(actor: Actor) -> UUID:
    """The chain that somebody reads: their tenant's, or the platform's own."""
    return actor.tenant_id or PLATFORM


async def page(
    session: AsyncSession, chain: UUID, wanted: Filter, *, before: int | None, limit: int
) -> Sequence[AuditEntry]:
    """Entries, newest first; one more than `limit` when there are more."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == chain, *wanted.conditions())
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return (await session.exec(query.order_by(col(AuditEntry.seq).desc()).limit(limit + 1))).all()


async def everything(
    database: Database, chain: UUID, wanted: Filter
) -> AsyncIterator[Sequence[AuditEntry]]:
    """All entries, oldest first, in batches; no transaction stays open between them."""
    seq = 0
    while True:
        async with database.session(Scope(tenants=(chain,))) as session:
            query = select(AuditEntry).where(
                AuditEntry.tenant_id == chain, AuditEntry.seq > seq, *wanted.conditions()
            )
            found = (await session.exec(query.order_by(col(AuditEntry.seq)).limit(BATCH))).all()
        if not found:
            return
        yield found
        seq = found[-1].seq


async def verify(database: Database) -> AsyncIterator[Verdict]:
    """Every tenant's chain, one after the other."""
    async with database.session() as session:
        chains = await (await driver(session)).fetch("SELECT tenant_id FROM audit_chains()")
    for (tenant_id,) in chains:
        async with database.session() as session:
            connection = await driver(session)
            await connection.execute(f"SET LOCAL statement_timeout = '{VERIFY_TIMEOUT_S}s'")
            row = await connection.fetchrow("SELECT * FROM audit_verify($1)", tenant_id)
        yield Verdict(tenant_id=tenant_id, **dict(row))
