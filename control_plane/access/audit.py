"""The audit: written in the transaction that makes the change, never changed afterwards.

Each tenant's entries are a chain: the database numbers them and hashes each with the one before,
under a lock that comes last of all (see `control_plane.db.leases`). What belongs to no tenant is
under `PLATFORM`.
"""

import re
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access.models import AuditEntry
from control_plane.access.permissions import Actor
from control_plane.db.session import Scope, before_commit, enter
from control_plane.kit.ids import new_id

# The tenant of what concerns the platform itself.
PLATFORM = UUID(int=0)
MASK = "***"

_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token|cookie|credential|authorization|(api|private|access)_?key",
    re.IGNORECASE,
)


class Who(NamedTuple):
    """Somebody known by id only, before they are an actor."""

    kind: str
    id: UUID


def record(
    session: AsyncSession,
    *,
    actor: Actor | Who | None,
    tenant_id: UUID,
    action: str,
    target: tuple[str, UUID | None],
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write down who did what; None means that the system did. It is written with the commit."""
    who = _who(actor)
    entry = AuditEntry(
        id=new_id(),
        tenant_id=tenant_id,
        at=now,
        actor_kind=who.kind if who else "system",
        actor_id=who.id if who else None,
        action=action,
        target_kind=target[0],
        target_id=target[1],
        before=masked(before),
        after=masked(after),
    )
    session.info.setdefault("audit", []).append(entry)
    before_commit(session, _write)


def masked(value: Any) -> Any:
    """The value without what its field names call a secret; numbers and flags are none."""
    if isinstance(value, dict):
        return {
            name: _hidden(item) if _SECRET.search(str(name)) else masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def _hidden(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else MASK


def _who(actor: Actor | Who | None) -> Who | None:
    if actor is None or isinstance(actor, Who):
        return actor
    if actor.scopes is not None:
        return Who("key", actor.identity_id)
    return Who("person" if actor.role else "operator", actor.identity_id)


async def _write(session: AsyncSession) -> None:
    entries: list[AuditEntry] = session.info.pop("audit")
    # What else is unwritten belongs to the scope of before.
    await session.flush()
    tenants = sorted({entry.tenant_id for entry in entries})
    await enter(session, Scope(tenants=tuple(tenants)))
    # Heads are locked in tenant order; within a tenant the order of the deeds is kept.
    entries.sort(key=lambda entry: entry.tenant_id)
    session.add_all(entries)
    await session.flush()
