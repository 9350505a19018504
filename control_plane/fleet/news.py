"""What looks found and what agents answered, written down for many instances in one transaction."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Session, driver, hint
from control_plane.fleet.view import View
from control_plane.instances import service as instances
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import life
from instance_agent.protocol import ConfigOutcome

_STATUS = """
UPDATE instances SET phase = $2, conditions = $3, starts = $4, observed_generation = $5,
    drift = $7, updated_at = $6, phase_at = CASE WHEN phase = $2 THEN phase_at ELSE $6 END
WHERE id = $1 AND (phase, conditions, starts, observed_generation, drift)
    IS DISTINCT FROM ($2, $3::jsonb, $4::jsonb, $5::bigint, $7::text[])
"""
_DELIVERED = "UPDATE config_states SET delivered = $2, delivered_sha256 = $3 WHERE instance_id = $1"
_APPLIED = """
UPDATE config_states SET applied = $2, applied_sha256 = $3, last_good = $2, errors = '[]',
    rejected = NULL, rejected_sha256 = NULL, pending_restart = false
WHERE instance_id = $1
"""
# Its end may have been told before the answer to the call was written.
_ON_TRIAL = """
UPDATE config_states SET applied = $2, applied_sha256 = $3, errors = '[]',
    rejected = NULL, rejected_sha256 = NULL, pending_restart = false
WHERE instance_id = $1 AND rejected_sha256 IS DISTINCT FROM $3
"""
_REJECTED = """
UPDATE config_states SET rejected = $2, rejected_sha256 = $3, errors = $4 WHERE instance_id = $1
"""
_RESTART = "UPDATE config_states SET pending_restart = true WHERE instance_id = $1"
_TENANT_GONE = """
UPDATE tenants SET state = 'deleted', updated_at = $2
WHERE id = $1 AND state = 'deleting'
  AND NOT EXISTS (SELECT FROM instances WHERE tenant_id = $1 AND phase <> 'deleted')
"""


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance stands."""

    phase: str
    conditions: list[dict[str, Any]]
    starts: dict[str, Any]
    generation: int
    drift: list[str]
    at: datetime


@dataclass(frozen=True, kw_only=True)
class News:
    """What is to be written of one instance. `delivers`: its agent is about to be told."""

    lease: Lease
    view: View
    stands: Stands | None = None
    delivers: bool = False
    outcome: ConfigOutcome | None = None


async def write(session: Session, news: Collection[News]) -> None:
    """Write all of it; raises LeaseLost when one of them is no longer ours."""
    ordered = sorted(news, key=lambda each: (each.lease.tenant_id, each.lease.key))
    changes: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for each in ordered:
        for statement, values in _changes(each):
            changes[statement].append(values)
    connection = await driver(session)
    for statement in sorted(changes, key=_ORDER.index):
        await connection.executemany(statement, changes[statement])
    if any(each.stands for each in ordered):
        hint(session, instances.FLEET)
    moved = [(e, e.stands) for e in ordered if e.stands and e.stands.phase != e.view.instance.phase]
    await instances.note_all(
        session,
        [
            instances.Line(
                tenant_id=each.lease.tenant_id,
                instance_id=each.lease.key,
                at=stands.at,
                type="instance.phase",
                message=f"{each.view.instance.phase} → {stands.phase}",
            )
            for each, stands in moved
        ],
    )
    gone = [each.lease for each, stands in moved if stands.phase == "deleted"]
    for lease in gone:
        await leases.call_tenant(session, life.REMOVAL, lease.tenant_id)
    await leases.hold_all(session, [each.lease for each in ordered])
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    for each in ordered:
        if each.stands is not None and (entry := _entry(each, each.stands)) is not None:
            entries[each.lease.tenant_id].append(entry)
    await stream.append_all(session, entries)


def _entry(news: News, stands: Stands) -> Entry | None:
    """What pages hear: another phase, else that a condition holds or holds no longer."""
    data = {"instance_id": str(news.lease.key)}
    if stands.phase != news.view.instance.phase:
        return Entry(type="instance.phase", data=data | {"phase": stands.phase})
    if any(each["at"] == stands.at.isoformat() for each in stands.conditions):
        return Entry(type="instance.conditions", data=data)
    return None


# Instances before configurations, as everywhere.
_ORDER = (_STATUS, _TENANT_GONE, _DELIVERED, _APPLIED, _ON_TRIAL, _REJECTED, _RESTART)


def _changes(news: News) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements with their values."""
    key, stands = news.lease.key, news.stands
    if stands is not None:
        yield (
            _STATUS,
            (
                key,
                stands.phase,
                json.dumps(stands.conditions),
                json.dumps(stands.starts),
                stands.generation,
                stands.at,
                stands.drift,
            ),
        )
        if stands.phase == "deleted" != news.view.instance.phase:
            yield _TENANT_GONE, (news.lease.tenant_id, stands.at)
    if news.delivers:
        yield _DELIVERED, (key, news.view.update.revision, news.view.update.sha256)
    if news.outcome is not None:
        yield _answered(key, news.view, news.outcome)


def _answered(key: UUID, view: View, outcome: ConfigOutcome) -> tuple[str, tuple[Any, ...]]:
    told = (key, view.update.revision, view.update.sha256)
    match outcome.outcome:
        case "applied":
            return (_ON_TRIAL if outcome.on_trial else _APPLIED), told
        case "needs_restart":
            return _RESTART, (key,)
        case _:
            return _REJECTED, (*told, msgspec.json.encode(outcome.errors).decode())
