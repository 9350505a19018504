"""What runs although nobody wants it: reported, put to rest after a while, removed after a longer.

Invariants:
1. What the database knows in this cell is no orphan. It is asked after the place was: whoever is
   there was written down before.
2. Nothing is touched at its first sight: stopped after `QUARANTINE_AFTER`, removed `REMOVE_AFTER`
   later, and only if it was seen again just now.
3. Where more than `BELIEVED` of all would be an orphan, it is the database that is wrong or was
   restored: everything is left alone, and that is said loudly.
4. One round puts to rest or removes at most `ACTS` of all, so that there is time to step in.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import structlog
from prometheus_client import Gauge

from control_plane.access import audit
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.fleet.provision.base import Ownership, Provisioner, ProvisionError
from control_plane.fleet.reconcile import GRACE
from control_plane.instances import sessions
from control_plane.kit.clock import Clock
from control_plane.kit.ids import new_id

WORK = "orphans"
# Between looks at everything that exists: an orphan costs money, not messages.
EVERY = timedelta(minutes=10)
# Time for people to see a report before anything is stopped.
QUARANTINE_AFTER = timedelta(hours=1)
# Time to miss what was stopped, over a weekend, before what it held is gone.
REMOVE_AFTER = timedelta(days=3)
# A removal takes seconds, a namespace a minute or two: after this somebody should look.
DELETED_WITHIN = timedelta(minutes=15)
# The share of all that may be orphans before we doubt the database instead.
BELIEVED = 0.2
# The share of all that one round puts to rest or removes; one is always within it.
ACTS = 0.05
# The tenant of work that is nobody's.
_NOBODYS = UUID(int=1)

_KNOWN = "SELECT id, tenant_id FROM instances WHERE cell = $1 AND phase <> 'deleted'"
_CELLS = "SELECT DISTINCT cell FROM instances WHERE phase <> 'deleted'"
_ROWS = "SELECT * FROM orphans WHERE cell = $1 ORDER BY first_seen_at, id"
_NEW = """
INSERT INTO orphans (id, cell, instance_id, tenant_id, ref, first_seen_at, last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
"""
_SEEN = "UPDATE orphans SET last_seen_at = $2 WHERE id = ANY ($1::uuid[])"
_GONE = "DELETE FROM orphans WHERE id = ANY ($1::uuid[])"
_QUARANTINED = "UPDATE orphans SET state = 'quarantined', quarantined_at = $2 WHERE id = $1"
_REMOVED = "UPDATE orphans SET state = 'removed' WHERE id = $1"
_STUCK = """
SELECT count(*) FROM instances WHERE cell = $1 AND phase = 'deleting' AND phase_at <= $2
"""
_WHOSE = "SELECT tenant_id, phase FROM instances WHERE id = $1"

_COUNTED = Gauge("botyard_orphans", "What runs and no row wants.", ["cell", "state"])
_DELETING = Gauge(
    "botyard_instances_deleting_long",
    "Bots whose removal takes longer than it should; their conditions say what it waits for.",
    ["cell"],
)
_DOUBTED = Gauge(
    "botyard_orphans_doubted",
    "1 where so much is unknown that the database is doubted and nothing is touched.",
    ["cell"],
)

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Row:
    """An orphan as it was written down."""

    id: UUID
    instance_id: UUID | None
    tenant_id: UUID | None
    state: str
    first_seen_at: datetime
    quarantined_at: datetime | None

    @property
    def thing(self) -> UUID | None:
        return self.instance_id or self.tenant_id


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a round comes to: rows to write, rows to act on."""

    new: tuple[Ownership, ...] = ()
    seen: tuple[Row, ...] = ()
    gone: tuple[Row, ...] = ()
    quarantine: tuple[Row, ...] = ()
    remove: tuple[Row, ...] = ()
    doubted: bool = False


def judge(
    found: Sequence[Ownership],
    known: Mapping[UUID, UUID],
    rows: Sequence[Row],
    now: datetime,
) -> Verdict:
    """Compare what exists with `known` (tenants by instance) and with earlier reports."""
    inhabited = set(known.values())
    strange = {
        thing: owned
        for owned in found
        if (thing := owned.instance_id or owned.tenant_id) is not None
        and thing not in (known if owned.instance_id else inhabited)
    }
    reported = {row.thing: row for row in rows}
    seen = tuple(row for row in rows if row.thing in strange)
    most = max(1, int(len(found) * BELIEVED))
    doubted = bool(strange) and (len(strange) > most or len(strange) == len(found))
    room = 0 if doubted else max(1, int(len(found) * ACTS))
    remove = [row for row in seen if _removable(row, now)][:room]
    quarantine = [row for row in seen if _to_rest(row, now)][: room - len(remove)]
    return Verdict(
        new=tuple(owned for thing, owned in strange.items() if thing not in reported),
        seen=seen,
        gone=tuple(row for row in rows if row.thing not in strange),
        quarantine=tuple(quarantine),
        remove=tuple(remove),
        doubted=doubted,
    )


def _to_rest(row: Row, now: datetime) -> bool:
    return row.state == "reported" and now - row.first_seen_at >= QUARANTINE_AFTER


def _removable(row: Row, now: datetime) -> bool:
    since = row.quarantined_at
    return row.state == "removed" or (since is not None and now - since >= REMOVE_AFTER)


class Orphans:
    """Looks for orphans in one cell."""

    def __init__(
        self, database: Database, clock: Clock, *, provisioner: Provisioner, cell: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._provisioner = provisioner
        self._cell = cell

    async def call(self, lease: Lease) -> None:
        """The leader's round: have every cell look at what it runs."""
        async with self._database.session(Scope(operator=True)) as session:
            cells = {row["cell"] for row in await (await driver(session)).fetch(_CELLS)}
            for cell in sorted(cells | {self._cell}):
                key = uuid5(_NOBODYS, f"orphans of {cell}")
                await leases.call(session, WORK, [(key, _NOBODYS)], cell=cell)
            await leases.hold(session, lease)

    async def look(self, lease: Lease) -> timedelta | None:
        """Work handler: one round over everything that this cell runs."""
        found = [owned async for owned in self._provisioner.inventory()]
        verdict = await self._report(lease, found)
        _DOUBTED.labels(self._cell).set(verdict.doubted)
        if verdict.doubted:
            log.error(
                "too much is unknown to the database: nothing is touched",
                cell=self._cell,
                exists=len(found),
                unknown=len(verdict.new) + len(verdict.seen),
            )
        for row in verdict.quarantine:
            await self._act(lease, row, "orphan.quarantine")
        for row in verdict.remove:
            await self._act(lease, row, "orphan.remove")
        return None

    async def _report(self, lease: Lease, found: Sequence[Ownership]) -> Verdict:
        now = self._clock.now()
        async with self._database.session(Scope(operator=True)) as session:
            connection = await driver(session)
            known = {
                row["id"]: row["tenant_id"] for row in await connection.fetch(_KNOWN, self._cell)
            }
            rows = [_row(row) for row in await connection.fetch(_ROWS, self._cell)]
            verdict = judge(found, known, rows, now)
            for owned in verdict.new:
                log.warning("orphan found", cell=self._cell, **_shown(owned))
                whose = (owned.instance_id, owned.tenant_id, owned.ref)
                await connection.execute(_NEW, new_id(), self._cell, *whose, now)
            await connection.execute(_SEEN, [row.id for row in verdict.seen], now)
            await connection.execute(_GONE, [row.id for row in verdict.gone])
            await self._count(session)
            stuck = await connection.fetchval(_STUCK, self._cell, now - DELETED_WITHIN)
            _DELETING.labels(self._cell).set(stuck)
            await leases.hold(session, lease)
        return verdict

    async def _act(self, lease: Lease, row: Row, action: str) -> None:
        """End or remove one; another round tries again what failed."""
        try:
            if row.instance_id is None:
                if action == "orphan.remove" and row.tenant_id is not None:
                    await self._provisioner.sweep(row.tenant_id)
            elif action == "orphan.remove":
                await self._provisioner.destroy(row.instance_id)
            else:
                await self._provisioner.stop(row.instance_id, grace=GRACE)
        except ProvisionError as error:
            log.warning("orphan stays", action=action, thing=str(row.thing), error=str(error)[:256])
            return
        await self._ended(row)
        await self._note(lease, row, action)

    async def _ended(self, row: Row) -> None:
        """Whoever it was, it acts no more; one that lives in another cell is not meant."""
        if row.instance_id is None:
            return
        async with self._database.session(Scope(operator=True)) as session:
            instance = await (await driver(session)).fetchrow(_WHOSE, row.instance_id)
        if instance is not None and instance["phase"] == "deleted":
            async with self._database.session(Scope(tenants=(instance["tenant_id"],))) as session:
                await sessions.end_others(session, row.instance_id, keep=[])

    async def _note(self, lease: Lease, row: Row, action: str) -> None:
        now = self._clock.now()
        async with self._database.session(
            Scope(tenants=(audit.PLATFORM,), operator=True)
        ) as session:
            connection = await driver(session)
            if action == "orphan.quarantine":
                await connection.execute(_QUARANTINED, row.id, now)
            else:
                await connection.execute(_REMOVED, row.id)
            if action == "orphan.quarantine" or row.state != "removed":
                audit.record(
                    session,
                    actor=None,
                    tenant_id=audit.PLATFORM,
                    action=action,
                    target=("instance" if row.instance_id else "tenant", row.thing),
                    now=now,
                    after={"cell": self._cell, "first_seen_at": row.first_seen_at.isoformat()},
                )
            await self._count(session)
            await session.flush()
            await leases.hold(session, lease)

    async def _count(self, session: Session) -> None:
        counted = await (await driver(session)).fetch(
            "SELECT state, count(*) AS n FROM orphans WHERE cell = $1 GROUP BY state", self._cell
        )
        held = {row["state"]: row["n"] for row in counted}
        for state in ("reported", "quarantined", "removed"):
            _COUNTED.labels(self._cell, state).set(held.get(state, 0))


async def listed(session: Session, *, cell: str | None = None) -> Collection[Mapping[str, Any]]:
    """What was found, oldest first, for operators."""
    rows: Collection[Mapping[str, Any]] = await (await driver(session)).fetch(
        "SELECT * FROM orphans WHERE $1::text IS NULL OR cell = $1 ORDER BY first_seen_at, id", cell
    )
    return rows


def _row(row: Any) -> Row:
    return Row(
        id=row["id"],
        instance_id=row["instance_id"],
        tenant_id=row["tenant_id"],
        state=row["state"],
        first_seen_at=row["first_seen_at"],
        quarantined_at=row["quarantined_at"],
    )


def _shown(owned: Ownership) -> dict[str, str]:
    ids = {"instance": owned.instance_id, "tenant": owned.tenant_id, "ref": owned.ref}
    return {name: str(value) for name, value in ids.items() if value is not None}
