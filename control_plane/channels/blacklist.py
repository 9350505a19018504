"""Whom a tenant's bots do not hear: add, remove, forget, and what agents get of it.

Every change takes the list's row first and raises its version. Agents pull the whole list when
they start and then get what has changed since the version that they have (`blacklist_push`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.channels import settings
from control_plane.channels.blacklist_schemas import BlacklistOut, BulkIn, BulkOut, EntryIn
from control_plane.channels.models import BlacklistEntry
from control_plane.db import leases
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Conflict, Invalid, not_found
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from instance_agent.protocol import (
    MAX_BLACKLIST,
    MAX_BLACKLIST_PAGE,
    BlacklistPage,
    BlacklistUpdate,
)
from instance_agent.protocol import BlacklistEntry as Listed

# A work row per instance: its agent has another version than the tenant's list.
WORK = "blacklist"
# How long ended entries are shown, and removed ones remembered for agents that were away.
KEPT = timedelta(days=30)

_FIRST = UUID(int=0)

_RAISE = """
INSERT INTO blacklists AS b (tenant_id, version) VALUES ($1, $2)
ON CONFLICT (tenant_id) DO UPDATE SET version = greatest(b.version + 1, $2)
RETURNING version
"""
_HEAD = "SELECT version, floor FROM blacklists WHERE tenant_id = $1"
_COUNT = "SELECT count(*) FROM blacklist_entries WHERE tenant_id = $1"
_ENDED = "DELETE FROM blacklist_entries WHERE tenant_id = $1 AND expires_at <= $2"
_FORGET_REMOVALS = """
WITH gone AS (
    DELETE FROM blacklist_removals WHERE tenant_id = $1 AND version < $2 RETURNING version
)
UPDATE blacklists SET floor = (SELECT max(version) FROM gone)
WHERE tenant_id = $1 AND EXISTS (SELECT FROM gone)
"""
_CHANNELS = """
SELECT id, kind, instance_id FROM channels WHERE id = ANY ($1::uuid[]) AND deleted_at IS NULL
"""
_INSTANCES = "SELECT id FROM instances WHERE id = ANY ($1::uuid[]) AND phase <> 'deleted'"
_CONTACTS = """
SELECT c.id, c.platform_id, h.kind FROM contacts AS c JOIN channels AS h ON h.id = c.channel_id
WHERE c.id = ANY ($1::uuid[]) AND c.platform_id <> 'erased:' || c.id
"""
_PUT = """
INSERT INTO blacklist_entries AS e (id, tenant_id, platform_id, kind, instance_id, channel_id,
    reason, expires_at, author_id, author_name, version, created_at, updated_at)
SELECT i.id, $1, i.platform_id, i.kind, i.instance_id, i.channel_id, i.reason, i.expires_at,
    $2, $3, $4, $5, $5
FROM unnest($6::uuid[], $7::text[], $8::text[], $9::uuid[], $10::uuid[], $11::text[],
            $12::timestamptz[])
    AS i (id, platform_id, kind, instance_id, channel_id, reason, expires_at)
ORDER BY i.platform_id
ON CONFLICT ON CONSTRAINT blacklist_entries_once DO UPDATE SET reason = excluded.reason,
    expires_at = excluded.expires_at, author_id = excluded.author_id,
    author_name = excluded.author_name, version = excluded.version,
    updated_at = excluded.updated_at
RETURNING e.id, e.id = ANY ($6::uuid[]) AS added
"""
_REMOVED = """
WITH gone AS ({gone} RETURNING id)
INSERT INTO blacklist_removals (tenant_id, version, entry_id) SELECT $1, $2, id FROM gone
RETURNING entry_id
"""
_REMOVE = _REMOVED.format(
    gone="DELETE FROM blacklist_entries WHERE tenant_id = $1 AND id = ANY ($3::uuid[])"
)
# Whoever was one person on one channel is the same on all of that kind.
_OF_CONTACT = """
tenant_id = $1 AND (platform_id, true) IN (
    SELECT c.platform_id, kind = '' OR kind = h.kind
    FROM contacts AS c JOIN channels AS h ON h.id = c.channel_id WHERE c.id = ${at})
"""
_LISTED = f"SELECT EXISTS (SELECT FROM blacklist_entries WHERE {_OF_CONTACT.format(at=2)})"  # noqa: S608
_FORGET = _REMOVED.format(gone=f"DELETE FROM blacklist_entries WHERE {_OF_CONTACT.format(at=3)}")  # noqa: S608
_AGENTS = "SELECT instance_id FROM agent_sessions WHERE tenant_id = $1 AND state = 'active'"

_FOR_AGENT = "SELECT id, platform_id, kind, channel_id, expires_at FROM blacklist_entries"
_PAGE = f"""
{_FOR_AGENT} WHERE tenant_id = $1 AND (instance_id IS NULL OR instance_id = $2)
    AND (expires_at IS NULL OR expires_at > $3) AND id > $4
ORDER BY id LIMIT $5
"""
_CHANGED = f"""
{_FOR_AGENT} WHERE tenant_id = $1 AND (instance_id IS NULL OR instance_id = $2) AND version > $3
LIMIT $4
"""
_GONE = """
SELECT entry_id FROM blacklist_removals WHERE tenant_id = $1 AND version > $2 LIMIT $3
"""


@dataclass(frozen=True, kw_only=True)
class _Person:
    """Whom an entry means and where; two with the same are the same entry."""

    platform_id: str
    kind: str
    instance_id: UUID | None
    channel_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which entries are asked for; all that is given must fit."""

    platform_id: str | None = None
    kind: str | None = None
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    expired: bool | None = None


# --- what people do ----------------------------------------------------------------------------


async def list_entries(
    session: AsyncSession, asked: Filter, *, after: UUID | None, limit: int, now: datetime
) -> Sequence[BlacklistEntry]:
    """Entries, oldest first; one more than `limit` when there are more."""
    query = select(BlacklistEntry).order_by(col(BlacklistEntry.id)).limit(limit + 1)
    for name in ("platform_id", "kind", "instance_id", "channel_id"):
        if (value := getattr(asked, name)) is not None:
            query = query.where(getattr(BlacklistEntry, name) == value)
    ends = col(BlacklistEntry.expires_at)
    if asked.expired is not None:
        query = query.where(ends <= now if asked.expired else or_(ends.is_(None), ends > now))
    if after is not None:
        query = query.where(col(BlacklistEntry.id) > after)
    return (await session.exec(query)).all()


async def get(session: AsyncSession, entry_id: UUID) -> BlacklistEntry:
    """The entry, if this session may see it."""
    found = await session.exec(
        select(BlacklistEntry)
        .where(BlacklistEntry.id == entry_id)
        .execution_options(populate_existing=True)
    )
    entry = found.one_or_none()
    if entry is None:
        raise not_found("blacklist_entry")
    return entry


async def standing(session: AsyncSession, tenant_id: UUID) -> BlacklistOut:
    """How long the list is, and its version."""
    counted = await session.exec(select(func.count()).select_from(BlacklistEntry))
    version, _ = await _head(session, tenant_id)
    return BlacklistOut(version=version, entries=counted.one(), limit=MAX_BLACKLIST)


async def add(
    session: AsyncSession, body: EntryIn, *, actor: Actor, now: datetime
) -> BlacklistEntry:
    """No longer hear somebody; who is listed already gets this reason and end."""
    version = await _raise(session, actor.tenant, now)
    [(entry_id, _)] = await _put(session, [body], actor=actor, version=version, now=now)
    entry = await get(session, entry_id)
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action="blacklist.add",
        target=("blacklist_entry", entry_id),
        now=now,
        after=_shown(entry),
    )
    await _changed(session, actor.tenant, version, added=1, entry_id=entry_id)
    return entry


async def remove(session: AsyncSession, entry_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Hear somebody again."""
    version = await _raise(session, actor.tenant, now)
    entry = await get(session, entry_id)
    await (await driver(session)).execute(_REMOVE, actor.tenant, version, [entry_id])
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action="blacklist.remove",
        target=("blacklist_entry", entry_id),
        now=now,
        before=_shown(entry),
    )
    await _changed(session, actor.tenant, version, removed=1, entry_id=entry_id)


async def bulk(session: AsyncSession, body: BulkIn, *, actor: Actor, now: datetime) -> BulkOut:
    """Remove many, then add many, under one version."""
    version = await _raise(session, actor.tenant, now)
    gone = await (await driver(session)).fetch(_REMOVE, actor.tenant, version, body.remove)
    put = await _put(session, body.add, actor=actor, version=version, now=now)
    added = sum(new for _, new in put)
    done = BulkOut(added=added, changed=len(put) - added, removed=len(gone), version=version)
    audit.record(
        session,
        actor=actor,
        tenant_id=actor.tenant,
        action="blacklist.bulk",
        target=("tenant", actor.tenant),
        now=now,
        after=done.model_dump()
        | {"entries": [str(entry_id) for entry_id, _ in put]}
        | {"gone": [str(row["entry_id"]) for row in gone]},
    )
    await _changed(session, actor.tenant, version, added=len(put), removed=len(gone))
    return done


async def forget(session: AsyncSession, tenant_id: UUID, contact_id: UUID, *, now: datetime) -> int:
    """Remove every entry that names this contact; how many there were."""
    connection = await driver(session)
    if not await connection.fetchval(_LISTED, tenant_id, contact_id):
        return 0
    version = await _raise(session, tenant_id, now)
    gone = await connection.fetch(_FORGET, tenant_id, version, contact_id)
    await _changed(session, tenant_id, version, removed=len(gone))
    return len(gone)


# --- what agents get ---------------------------------------------------------------------------


async def page(
    session: Session, tenant_id: UUID, instance_id: UUID, *, after: UUID | None, now: datetime
) -> BlacklistPage:
    """The entries behind `after` that concern an instance."""
    version, _ = await _head(session, tenant_id)
    rows = await (await driver(session)).fetch(
        _PAGE, tenant_id, instance_id, now, after or _FIRST, MAX_BLACKLIST_PAGE + 1
    )
    shown = rows[:MAX_BLACKLIST_PAGE]
    more = len(rows) > len(shown)
    return BlacklistPage(
        version=version, entries=_listed(shown), next=shown[-1]["id"] if more else None
    )


async def delta(
    session: Session, tenant_id: UUID, instance_id: UUID, *, base: int
) -> BlacklistUpdate | None:
    """What an agent at version `base` lacks; without a base, it is to pull. None: nothing."""
    version, floor = await _head(session, tenant_id)
    if base == version:
        return None
    pull = BlacklistUpdate(version=version, base=None)
    # One that is ahead of us knows a list from before our database was restored.
    if not floor <= base < version:
        return pull
    connection = await driver(session)
    most = MAX_BLACKLIST_PAGE + 1
    rows = await connection.fetch(_CHANGED, tenant_id, instance_id, base, most)
    gone = await connection.fetch(_GONE, tenant_id, base, most)
    if len(rows) + len(gone) > MAX_BLACKLIST_PAGE:
        return pull
    return BlacklistUpdate(
        version=version,
        base=base,
        entries=_listed(rows),
        removed=[row["entry_id"] for row in gone],
    )


def _listed(rows: Iterable[Any]) -> list[Listed]:
    return [
        Listed(
            id=row["id"],
            platform_id=row["platform_id"],
            kind=row["kind"],
            channel_id=row["channel_id"],
            expires_at=row["expires_at"],
        )
        for row in rows
    ]


# --- one change --------------------------------------------------------------------------------


async def _head(session: Session, tenant_id: UUID) -> tuple[int, int]:
    row = await (await driver(session)).fetchrow(_HEAD, tenant_id)
    return (row["version"], row["floor"]) if row else (0, 0)


async def _raise(session: AsyncSession, tenant_id: UUID, now: datetime) -> int:
    """Begin a change: the list's row is locked, and what is long over is gone."""
    connection = await driver(session)
    version: int = await connection.fetchval(_RAISE, tenant_id, _number(now))
    await connection.execute(_ENDED, tenant_id, now - KEPT)
    await connection.execute(_FORGET_REMOVALS, tenant_id, _number(now - KEPT))
    return version


def _number(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def _put(
    session: AsyncSession, bodies: Sequence[EntryIn], *, actor: Actor, version: int, now: datetime
) -> list[tuple[UUID, bool]]:
    """The ids, and whether each entry is new."""
    # Of two that mean the same, the later counts.
    people = dict(zip(await _people(session, bodies), bodies, strict=True))
    if any(body.expires_at is not None and body.expires_at <= now for body in bodies):
        raise Invalid("expired_already", "An entry ends in the future, or never.")
    connection = await driver(session)
    rows = await connection.fetch(
        _PUT,
        actor.tenant,
        actor.member_id or actor.identity_id,
        actor.member_name,
        version,
        now,
        [new_id() for _ in people],
        [person.platform_id for person in people],
        [person.kind for person in people],
        [person.instance_id for person in people],
        [person.channel_id for person in people],
        [body.reason for body in people.values()],
        [body.expires_at for body in people.values()],
    )
    if await connection.fetchval(_COUNT, actor.tenant) > MAX_BLACKLIST:
        # What has ended makes room before anything is refused.
        await connection.execute(_ENDED, actor.tenant, now)
        if await connection.fetchval(_COUNT, actor.tenant) > MAX_BLACKLIST:
            raise Conflict("quota_exceeded", f"A blacklist has at most {MAX_BLACKLIST} entries.")
    return [(row["id"], row["added"]) for row in rows]


async def _people(session: AsyncSession, bodies: Sequence[EntryIn]) -> list[_Person]:
    if any((body.platform_id is None) == (body.contact_id is None) for body in bodies):
        raise Invalid("one_person", "An entry names either a platform_id or a contact_id.")
    connection = await driver(session)
    channels = await _known(connection, _CHANNELS, "channel", [b.channel_id for b in bodies])
    contacts = await _known(connection, _CONTACTS, "contact", [b.contact_id for b in bodies])
    await _known(connection, _INSTANCES, "instance", [b.instance_id for b in bodies])
    return [
        _person(body, channels.get(body.channel_id), contacts.get(body.contact_id))
        for body in bodies
    ]


async def _known(
    connection: Any, query: str, what: str, ids: Iterable[UUID | None]
) -> dict[UUID | None, Any]:
    wanted = {each for each in ids if each is not None}
    rows = {row["id"]: row for row in await connection.fetch(query, list(wanted))} if wanted else {}
    if wanted - rows.keys():
        raise not_found(what)
    return rows


def _person(body: EntryIn, channel: Any, contact: Any) -> _Person:
    kinds = {body.kind, channel and channel["kind"], contact and contact["kind"]} - {None}
    if len(kinds) > 1:
        raise Invalid("kinds_differ", "That channel is of another kind.")
    if body.kind is not None:
        settings.kind_of(body.kind)
    instance_id = body.instance_id
    if channel is not None and instance_id not in (None, channel["instance_id"]):
        raise Invalid("channel_of_another_instance", "That channel belongs to another instance.")
    return _Person(
        platform_id=body.platform_id or contact["platform_id"],
        kind=next(iter(kinds), ""),
        instance_id=channel["instance_id"] if channel is not None else instance_id,
        channel_id=body.channel_id,
    )


def _shown(entry: BlacklistEntry) -> dict[str, Any]:
    """As the audit has it: it outlives the person's erasing, so it does not name them."""
    return {
        "kind": entry.kind,
        "instance_id": entry.instance_id and str(entry.instance_id),
        "channel_id": entry.channel_id and str(entry.channel_id),
        "expires_at": entry.expires_at and entry.expires_at.isoformat(),
    }


async def _changed(
    session: AsyncSession,
    tenant_id: UUID,
    version: int,
    *,
    added: int = 0,
    removed: int = 0,
    entry_id: UUID | None = None,
) -> None:
    await session.flush()
    rows = await (await driver(session)).fetch(_AGENTS, tenant_id)
    await leases.call(session, WORK, sorted((row["instance_id"], tenant_id) for row in rows))
    data = {
        "version": version,
        "added": added,
        "removed": removed,
        "entry_id": entry_id and str(entry_id),
    }
    await stream.append(session, tenant_id, [Entry(type="blacklist.changed", data=data)])
