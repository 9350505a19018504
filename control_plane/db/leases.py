"""Leases over `work`: rows that point at things which are not right yet.

1. `call` says that a thing needs a look; it never waits for whoever holds the lease.
2. `claim` takes due rows, one tenant after the other, so that a noisy tenant starves nobody.
3. Every write made under a lease is in a transaction that `hold` has checked: a lease that was
   taken over by another worker changes nothing.
4. `finish` gives the lease back; a call that came meanwhile makes the row due at once.

All times are the database's own, so that workers with wrong clocks agree.
Lock order everywhere: contacts, conversations, members, search positions, deliveries, work, stream
heads, audit heads; kinds of work in the order turn, speech, lane, routing, callback, instance,
webhook, and rows of one kind by tenant, then key.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from control_plane.db.session import Session, driver, hint

FIRST_TENANT = UUID(int=0)

# How a call meets a row that is there; for statements that call among other things.
# A row that is due and that nobody holds has been called already: it is only locked, so that
# whoever claims it sees what we commit.
CALL_AGAIN = """
ON CONFLICT (kind, key) DO UPDATE
SET version = work.version + 1, due_at = least(work.due_at, excluded.due_at)
WHERE work.token IS NOT NULL OR work.due_at > excluded.due_at
"""
_CALL = f"""
INSERT INTO work (kind, key, tenant_id, cell, due_at)
SELECT $1, item.key, item.tenant_id, $2, now() + $3::interval
FROM unnest($4::uuid[], $5::uuid[]) AS item (key, tenant_id)
ORDER BY item.tenant_id, item.key
{CALL_AGAIN}
"""  # noqa: S608 - our own constant

_CALL_TENANT = """
WITH rows AS (
    SELECT kind, key FROM work WHERE kind = $1 AND tenant_id = $2 ORDER BY key FOR UPDATE
)
UPDATE work AS w SET version = version + 1, due_at = least(due_at, now())
FROM rows WHERE w.kind = rows.kind AND w.key = rows.key
"""

_CALL_KEY = """
UPDATE work SET version = version + 1, due_at = least(due_at, now()) WHERE kind = $1 AND key = $2
"""

# The recursive part walks the index from tenant to tenant; each gives its oldest due rows, and
# the first of every tenant come before the second of any.
_CLAIM = """
WITH RECURSIVE due_tenants (tenant_id, n) AS (
    (SELECT tenant_id, 1 FROM work
     WHERE kind = $1 AND tenant_id > $2 AND due_at <= now() AND cell = $6
       AND (expires_at IS NULL OR expires_at <= now()) ORDER BY tenant_id LIMIT 1)
    UNION ALL
    (SELECT (SELECT w.tenant_id FROM work AS w
             WHERE w.kind = $1 AND w.tenant_id > t.tenant_id AND w.due_at <= now()
               AND w.cell = $6 AND (w.expires_at IS NULL OR w.expires_at <= now())
             ORDER BY w.tenant_id LIMIT 1), t.n + 1
     FROM due_tenants AS t WHERE t.tenant_id IS NOT NULL AND t.n < $3)
), candidates AS (
    SELECT w.kind, w.key, row_number() OVER (PARTITION BY t.tenant_id ORDER BY w.due_at) AS rank,
           t.n
    FROM due_tenants AS t, LATERAL (
        SELECT kind, key, due_at FROM work
        WHERE kind = $1 AND tenant_id = t.tenant_id AND due_at <= now()
          AND (expires_at IS NULL OR expires_at <= now()) AND cell = $6
        ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS w
    WHERE t.tenant_id IS NOT NULL
), picked AS (SELECT kind, key FROM candidates ORDER BY rank, n LIMIT $3
), taken AS (
    UPDATE work AS w
    SET owner = $4, token = gen_random_uuid(), expires_at = now() + $5::interval,
        attempts = attempts + 1
    FROM picked WHERE w.kind = picked.kind AND w.key = picked.key
    RETURNING w.kind, w.key, w.tenant_id, w.token, w.version, w.attempts
)
SELECT taken.*, (SELECT tenant_id FROM due_tenants WHERE n = $3) AS seen_to
FROM (VALUES (true)) AS always LEFT JOIN taken ON true
"""

_RELEASE_ALL = """
UPDATE work SET owner = NULL, token = NULL, expires_at = NULL WHERE token IS NOT NULL
"""

_HOLD = "SELECT 1 FROM work WHERE kind = $1 AND key = $2 AND token = $3 FOR UPDATE"

_HOLD_ALL = """
SELECT w.key FROM work AS w
JOIN unnest($1::text[], $2::uuid[], $3::uuid[]) AS held (kind, key, token) USING (kind, key, token)
ORDER BY w.kind, w.tenant_id, w.key FOR UPDATE OF w
"""

_RENEW = """
WITH rows AS (
    SELECT w.kind, w.key FROM work AS w
    JOIN unnest($1::text[], $2::uuid[], $3::uuid[]) AS held (kind, key, token)
        USING (kind, key, token)
    ORDER BY w.kind, w.tenant_id, w.key FOR UPDATE OF w
)
UPDATE work AS w SET expires_at = now() + $4::interval
FROM rows WHERE w.kind = rows.kind AND w.key = rows.key
"""

# One order, as everywhere; the row is as due as it was.
_RELEASE = """
WITH rows AS (
    SELECT w.kind, w.key FROM work AS w
    JOIN unnest($1::text[], $2::uuid[], $3::uuid[]) AS held (kind, key, token)
        USING (kind, key, token)
    ORDER BY w.kind, w.tenant_id, w.key FOR UPDATE OF w
)
UPDATE work AS w SET owner = NULL, token = NULL, expires_at = NULL
FROM rows WHERE w.kind = rows.kind AND w.key = rows.key
"""

_DROP = "DELETE FROM work WHERE kind = $1 AND key = $2"

# The rows are locked before they are judged, so that a call is either seen or comes after.
_FINISH = """
WITH given AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::interval[], $6::boolean[])
        AS g (key, token, version, again, failed)
), ours AS (
    SELECT w.kind, w.key, w.version = g.version AS same, g.again, g.failed
    FROM work AS w JOIN given AS g USING (key, token)
    WHERE w.kind = $1 ORDER BY w.tenant_id, w.key FOR UPDATE OF w
), gone AS (
    DELETE FROM work AS w USING ours AS o
    WHERE w.kind = o.kind AND w.key = o.key AND o.same AND o.again IS NULL
)
UPDATE work AS w
SET owner = NULL, token = NULL, expires_at = NULL,
    attempts = CASE WHEN o.failed AND o.same THEN attempts ELSE 0 END,
    due_at = CASE WHEN o.same THEN now() + o.again ELSE now() END
FROM ours AS o
WHERE w.kind = o.kind AND w.key = o.key AND NOT (o.same AND o.again IS NULL)
RETURNING w.due_at <= now() AS due
"""


class LeaseLost(Exception):
    """Somebody else holds the row now: throw the result away."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to work on one row for a while; `attempts` counts claims since one went well."""

    kind: str
    key: UUID
    tenant_id: UUID
    token: UUID
    version: int
    attempts: int


class Claimed(list[Lease]):
    """What was taken. `seen_to` is the last tenant of which anything due was seen.

    It is None where the end was reached: whatever was due and is not here, somebody else has.
    """

    def __init__(self, leases: Iterable[Lease] = (), *, seen_to: UUID | None = None) -> None:
        super().__init__(leases)
        self.seen_to = seen_to


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A lease to give back; `again_after` None means that the thing is right."""

    lease: Lease
    again_after: timedelta | None
    failed: bool = False


def topic(kind: str) -> str:
    """What to listen to for calls of a kind."""
    return f"work.{kind}"


async def call(
    session: Session,
    kind: str,
    rows: Collection[tuple[UUID, UUID]],
    *,
    after: timedelta = timedelta(0),
    cell: str = "",
) -> None:
    """Say that these (key, tenant id) need a look, now or `after` a while."""
    if not rows:
        return
    keys, tenants = zip(*sorted(rows), strict=True)
    await (await driver(session)).execute(_CALL, kind, cell, after, keys, tenants)
    if not after:
        hint(session, topic(kind))


async def call_tenant(session: Session, kind: str, tenant_id: UUID) -> None:
    """Say that everything of a kind that a tenant has needs a look."""
    await (await driver(session)).execute(_CALL_TENANT, kind, tenant_id)
    hint(session, topic(kind))


async def call_key(session: Session, kind: str, key: UUID) -> None:
    """Say that a thing which is known to need looks needs one now; what has no row needs none."""
    if await (await driver(session)).execute(_CALL_KEY, kind, key) != "UPDATE 0":
        hint(session, topic(kind))


async def drop(session: Session, kind: str, key: UUID) -> None:
    """Say that a thing needs no looks any more; whoever works on it has lost its lease."""
    await (await driver(session)).execute(_DROP, kind, key)


async def claim(
    session: Session,
    kind: str,
    *,
    owner: str,
    limit: int,
    lease: timedelta,
    after: UUID = FIRST_TENANT,
    cell: str = "",
) -> Claimed:
    """Take up to `limit` due rows of tenants behind `after`, fairly between tenants."""
    rows = await (await driver(session)).fetch(_CLAIM, kind, after, limit, owner, lease, cell)
    seen_to: UUID | None = rows[0]["seen_to"]
    return Claimed((_lease(row) for row in rows if row["key"] is not None), seen_to=seen_to)


def _lease(row: Any) -> Lease:
    return Lease(
        kind=row["kind"],
        key=row["key"],
        tenant_id=row["tenant_id"],
        token=row["token"],
        version=row["version"],
        attempts=row["attempts"],
    )


async def release_all(session: Session) -> None:
    """Take every lease back: only for a start that knows itself to be alone on this database."""
    await (await driver(session)).execute(_RELEASE_ALL)


async def hold(session: Session, lease: Lease) -> None:
    """Lock the row for this transaction; raises LeaseLost when it is no longer ours."""
    held = await (await driver(session)).fetchval(_HOLD, lease.kind, lease.key, lease.token)
    if held is None:
        raise LeaseLost(f"{lease.kind} {lease.key}")


async def hold_all(session: Session, leases: Collection[Lease]) -> None:
    """Lock these rows for this transaction; raises LeaseLost when one is no longer ours."""
    rows = await (await driver(session)).fetch(
        _HOLD_ALL,
        [item.kind for item in leases],
        [item.key for item in leases],
        [item.token for item in leases],
    )
    if len(rows) != len(leases):
        raise LeaseLost(f"{len(leases) - len(rows)} of {len(leases)}")


async def renew(session: Session, leases: Sequence[Lease], lease: timedelta) -> None:
    """Keep these leases for another while, in one statement."""
    await (await driver(session)).execute(
        _RENEW,
        [item.kind for item in leases],
        [item.key for item in leases],
        [item.token for item in leases],
        lease,
    )


async def release(session: Session, leases: Sequence[Lease]) -> None:
    """Hand leases back whose work was broken off, so that others go on at once."""
    await (await driver(session)).execute(
        _RELEASE,
        [item.kind for item in leases],
        [item.key for item in leases],
        [item.token for item in leases],
    )
    for kind in {item.kind for item in leases}:
        hint(session, topic(kind))


async def finish(
    session: Session, lease: Lease, *, again_after: timedelta | None, failed: bool = False
) -> None:
    """Give the lease back; None means that the thing is right and nothing more is due."""
    given = Finished(lease=lease, again_after=again_after, failed=failed)
    await finish_all(session, [given])


async def finish_all(session: Session, finished: Sequence[Finished]) -> None:
    """Give several leases of one kind back at once."""
    held = [item.lease for item in finished]
    kind = held[0].kind
    left = await (await driver(session)).fetch(
        _FINISH,
        kind,
        [lease.key for lease in held],
        [lease.token for lease in held],
        [lease.version for lease in held],
        [item.again_after for item in finished],
        [item.failed for item in finished],
    )
    if any(row["due"] for row in left):
        hint(session, topic(kind))
