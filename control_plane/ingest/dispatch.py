"""What a group of batches changes: messages, channel states, configuration, heartbeats."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from control_plane.db import leases
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.ingest import rejected
from control_plane.ingest.arrivals import Arrival, Results
from control_plane.ingest.batch import AnyEvent, said
from control_plane.ingest.commit import Pending
from control_plane.ingest.store import (
    by_webhook_id,
    is_refusal,
    known,
    new_messages,
    once,
    reused,
    settle,
    store,
    store_alone,
)
from control_plane.instances import service as instances
from control_plane.kit.errors import Gone
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from instance_agent.document import DocumentError
from instance_agent.protocol import (
    ChannelStatus,
    ConfigApplied,
    ConfigRejected,
    EventResult,
    Heartbeat,
)

_BATCHES = """
INSERT INTO batches (instance_id, webhook_id, tenant_id, sha256, received_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[], $5::timestamptz[])
ON CONFLICT (instance_id, webhook_id) DO UPDATE SET received_at = batches.received_at
RETURNING instance_id, webhook_id, sha256
"""
_CHECKPOINTS = """
UPDATE channels AS c SET checkpoint = greatest(c.checkpoint, i.value COLLATE "C")
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS i (instance_id, id, value)
WHERE c.id = i.id AND c.instance_id = i.instance_id
"""
_CHANNEL = """
UPDATE channels AS c SET state = $3, state_reason = $4, proof_at = coalesce($5, c.proof_at)
FROM (SELECT id, state, state_reason FROM channels
      WHERE id = $2 AND instance_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE) AS old
WHERE c.id = old.id
RETURNING old.state IS DISTINCT FROM $3 OR old.state_reason IS DISTINCT FROM $4
"""
_APPLIED = """
UPDATE config_states SET applied = $2, applied_sha256 = $3, last_good = $2,
    -- Falling back to the last good one does not make the newest one less rejected.
    errors = CASE WHEN $3 = delivered_sha256 THEN '[]' ELSE errors END,
    rejected = CASE WHEN $3 = delivered_sha256 THEN NULL ELSE rejected END,
    rejected_sha256 = CASE WHEN $3 = delivered_sha256 THEN NULL ELSE rejected_sha256 END
WHERE instance_id = $1 AND applied_sha256 IS DISTINCT FROM $3
"""
_REJECTED = """
UPDATE config_states SET rejected = $2, errors = $3, rejected_sha256 = delivered_sha256
WHERE instance_id = $1
"""
_SEEN = """
UPDATE agent_sessions AS s SET seen_at = $3, health = $4
FROM (SELECT id, state, health FROM agent_sessions
      WHERE id = $2 AND instance_id = $1 FOR UPDATE) AS old
WHERE s.id = old.id RETURNING old.state, old.health - 'spool_depth' - 'spool_bytes' - 'channels'
    IS DISTINCT FROM $4::jsonb - 'spool_depth' - 'spool_bytes' - 'channels' AS changed
"""
_NOTES = """
INSERT INTO timeline (id, tenant_id, instance_id, at, type, message, data)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[],
                     $6::text[], $7::jsonb[])
"""


class Dispatcher:
    """Writes groups; the `write` of a GroupCommit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, group: Sequence[Pending]) -> list[list[EventResult]]:
        """One transaction stores the whole group, speaking for exactly its tenants."""
        tenants = tuple(sorted({pending.proven.tenant_id for pending in group}))
        results = [pending.arrivals.begin(len(pending.batch.events)) for pending in group]
        arrivals = [arrival for pending in group for arrival in pending.arrivals.messages]
        if not await self._alone(group, results, arrivals, tenants):
            async with self._database.plain(Scope(tenants=tenants)) as session:
                await self._store(session, group, results, arrivals)
                # Last of all: whoever deletes one of these holds nothing else.
                await rejected.keep(session, group, results)
        return [[item for item in result if item is not None] for result in results]

    async def _alone(
        self,
        group: Sequence[Pending],
        results: list[Results],
        arrivals: Sequence[Arrival],
        tenants: Sequence[UUID],
    ) -> bool:
        """Whether the group could be stored by one statement, which most can."""
        if not all(map(_only_messages, group)) or any(arrival.media for arrival in arrivals):
            return False
        first = once(arrivals)
        try:
            async with self._database.lone(durable=True) as session:
                done = await store_alone(session, group, first, tenants)
        except asyncpg.PostgresError as error:
            if is_refusal(error):
                return False
            raise
        before: dict[UUID, bytes] = {}
        if done["repeats"]:
            async with self._database.plain(Scope(tenants=tuple(tenants))) as session:
                before = await known(session, first, done)
        settle(arrivals, first, done, before)
        if _has_rejected(results):
            # An agent that heard nothing of it brings them again.
            async with self._database.plain(Scope(tenants=tuple(tenants))) as session:
                await rejected.keep(session, group, results)
        return True

    async def _store(
        self,
        session: Session,
        group: Sequence[Pending],
        results: list[Results],
        arrivals: Sequence[Arrival],
    ) -> None:
        await _remember(session, group)
        entries = defaultdict(list, await store(session, arrivals))
        await _save_checkpoints(session, group)
        for pending, result in zip(group, results, strict=True):
            entries[pending.proven.tenant_id] += await _other_events(session, pending, result)
        await _write_notes(session)
        await leases.call(session, instances.WORK, session.info.get("looks", set()))
        for tenant, entry in await quota.count_messages(session, new_messages(arrivals)):
            entries[tenant].append(entry)
        await stream.append_all(session, entries)


def _has_rejected(results: Sequence[Sequence[EventResult | None]]) -> bool:
    return any(
        item is not None and item.status == "rejected" for result in results for item in result
    )


def _only_messages(pending: Pending) -> bool:
    batch = pending.batch
    return not batch.checkpoints and all(e.type == "message.received" for e in batch.events)


async def _remember(session: Session, group: Sequence[Pending]) -> None:
    """The same webhook id with another body is refused; a repeat goes on, and deduplicates."""
    ordered = sorted(by_webhook_id(group).items())
    rows = await (await driver(session)).fetch(
        _BATCHES,
        [key[0] for key, _ in ordered],
        [key[1] for key, _ in ordered],
        [p.proven.tenant_id for _, p in ordered],
        [p.proven.sha256 for _, p in ordered],
        [p.received_at for _, p in ordered],
    )
    found = {(row["instance_id"], row["webhook_id"]): row["sha256"] for row in rows}
    for pending in group:
        proven = pending.proven
        if found[proven.instance_id, proven.webhook_id] != proven.sha256:
            raise reused()


async def _save_checkpoints(session: Session, group: Sequence[Pending]) -> None:
    """Positions only go on; the number that each begins with tells which is later."""
    named = sorted(
        (pending.proven.instance_id, UUID(channel), value)
        for pending in group
        for channel, value in pending.batch.checkpoints.items()
    )
    if rows := {key[:2]: key for key in named}.values():
        await (await driver(session)).execute(_CHECKPOINTS, *map(list, zip(*rows, strict=True)))


async def _other_events(session: Session, pending: Pending, results: Results) -> list[Entry]:
    """Everything but messages, in the order of the batch."""
    entries: list[Entry] = []
    for index, event in enumerate(pending.batch.events):
        if results[index] is not None:
            continue
        try:
            entries += await _apply(session, pending, event)
            results[index] = EventResult(id=event.id, status="stored")
        except msgspec.DecodeError:
            results[index] = EventResult(id=event.id, status="rejected", code="malformed")
    return entries


async def _apply(session: Session, pending: Pending, event: AnyEvent) -> list[Entry]:
    match event.type:
        case "channel.status":
            return await _channel(session, pending, said(event, ChannelStatus))
        case "config.applied":
            return await _applied(session, pending, said(event, ConfigApplied))
        case "config.rejected":
            return await _rejected(session, pending, said(event, ConfigRejected))
        case "instance.heartbeat":
            await _heartbeat(session, pending, said(event, Heartbeat))
    return []


async def _channel(session: Session, pending: Pending, status: ChannelStatus) -> list[Entry]:
    instance_id = pending.proven.instance_id
    changed = await (await driver(session)).fetchval(
        _CHANNEL, instance_id, status.channel_id, status.state, status.reason, status.proof_at
    )
    if not changed:
        return []
    data = {
        "channel_id": str(status.channel_id),
        "state": status.state,
        "reason": status.reason,
    }
    _note(session, pending, "channel.status", f"channel {status.state}", data)
    _look(session, pending)
    return [Entry(type="channel.status", data=data)]


async def _applied(session: Session, pending: Pending, applied: ConfigApplied) -> list[Entry]:
    done = await (await driver(session)).execute(
        _APPLIED, pending.proven.instance_id, applied.revision, applied.sha256
    )
    if done != "UPDATE 1":
        return []
    data = {"instance_id": str(pending.proven.instance_id), "revision": applied.revision}
    _note(session, pending, "config.applied", f"revision {applied.revision} applied", data)
    _look(session, pending)
    return [Entry(type="config.applied", data=data)]


async def _rejected(session: Session, pending: Pending, rejected: ConfigRejected) -> list[Entry]:
    errors: list[DocumentError] = rejected.errors
    await (await driver(session)).execute(
        _REJECTED,
        pending.proven.instance_id,
        rejected.revision,
        msgspec.json.encode(errors).decode(),
    )
    data: dict[str, Any] = {
        "instance_id": str(pending.proven.instance_id),
        "revision": rejected.revision,
        "running": rejected.running,
        "errors": msgspec.to_builtins(errors),
    }
    _note(session, pending, "config.rejected", f"revision {rejected.revision} rejected", data)
    _look(session, pending)
    return [Entry(type="config.rejected", data=data)]


async def _heartbeat(session: Session, pending: Pending, beat: Heartbeat) -> None:
    """Seen, and what it says; a session that has ended hears so once it has nothing to tell."""
    row = await (await driver(session)).fetchrow(
        _SEEN,
        pending.proven.instance_id,
        pending.batch.session_id,
        pending.received_at,
        msgspec.json.encode(beat).decode(),
    )
    only_beats = all(event.type == "instance.heartbeat" for event in pending.batch.events)
    ended = row is None or row["state"] in ("draining", "ended")
    if ended and only_beats and beat.spool_depth == 0:
        raise Gone("session_ended", "Another agent acts for this instance now.")
    if row is not None and row["changed"]:
        _look(session, pending)


def _note(
    session: Session, pending: Pending, event: str, message: str, data: dict[str, Any]
) -> None:
    proven = pending.proven
    row = (
        *(new_id(), proven.tenant_id, proven.instance_id, pending.received_at),
        *(event, message, msgspec.json.encode(data, enc_hook=str).decode()),
    )
    session.info.setdefault("notes", []).append(row)


async def _write_notes(session: Session) -> None:
    """Lines of the instances' timelines, all of a group's at once."""
    rows = session.info.get("notes")
    if rows:
        await (await driver(session)).execute(_NOTES, *map(list, zip(*rows, strict=True)))


def _look(session: Session, pending: Pending) -> None:
    """Have the fleet look at the instance; all of a group's at once, in one order."""
    row = (pending.proven.instance_id, pending.proven.tenant_id)
    session.info.setdefault("looks", set()).add(row)
