"""What a group of batches changes: messages, channel states, configuration, heartbeats."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from control_plane.channels import blacklist, gaps
from control_plane.channels.gaps import Back, Gap
from control_plane.db import leases
from control_plane.db.session import Database, Scope, Session, driver
from control_plane.delivery import late
from control_plane.ingest import raw, rejected
from control_plane.ingest.arrivals import Arrival, Results
from control_plane.ingest.batch import AnyEvent, said
from control_plane.ingest.commit import Pending, Told
from control_plane.ingest.store import (
    announce,
    by_webhook_id,
    is_refusal,
    new_messages,
    once,
    reused,
    store,
    store_alone,
)
from control_plane.instances import service as instances
from control_plane.kit.errors import Gone
from control_plane.kit.ids import new_id
from control_plane.speech import tasks
from control_plane.speech.tasks import Voiced
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from instance_agent.document import DocumentError
from instance_agent.protocol import (
    MAX_BLOCKED_HITS,
    ChannelStatus,
    ConfigApplied,
    ConfigRejected,
    EventResult,
    Heartbeat,
    MessageBlocked,
    MessageFailed,
)

# What the database's integer holds.
_MAX_NUMBER = 2**31 - 1

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
# What an agent says when it ends comes after its successor's word, and counts for nothing then.
_CHANNEL = """
UPDATE channels AS c SET state = $3, state_reason = $4, proof_at = coalesce($5, c.proof_at),
    said_by = $6
FROM (SELECT id, state, state_reason, proof_at, said_by FROM channels
      WHERE id = $2 AND instance_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE) AS old
WHERE c.id = old.id AND NOT EXISTS (
    SELECT FROM agent_sessions WHERE instance_id = $1 AND state = 'active' AND id > $6)
RETURNING c.kind, c.settings, old.proof_at,
    old.state IS DISTINCT FROM $3 OR old.state_reason IS DISTINCT FROM $4 AS changed,
    old.state <> 'connected' OR old.said_by IS DISTINCT FROM $6 AS was_away
"""
# Reports of who has been replaced come late and count for nothing any more.
_SPEAKS = """
$2 = (SELECT id FROM agent_sessions WHERE instance_id = $1 AND state IN ('standby', 'active')
      ORDER BY id DESC LIMIT 1)
"""
_APPLIED = f"""
UPDATE config_states SET
    -- One that is older than what runs was good at its time, and came late.
    applied = CASE WHEN $3 >= coalesce(applied, 0) THEN $3 ELSE applied END,
    applied_sha256 = CASE WHEN $3 >= coalesce(applied, 0) THEN $4 ELSE applied_sha256 END,
    last_good = greatest(last_good, $3),
    -- Falling back to the last good one does not make the newest one less rejected.
    errors = CASE WHEN $4 = delivered_sha256 THEN '[]' ELSE errors END,
    rejected = CASE WHEN $4 = delivered_sha256 THEN NULL ELSE rejected END,
    rejected_sha256 = CASE WHEN $4 = delivered_sha256 THEN NULL ELSE rejected_sha256 END
WHERE instance_id = $1 AND {_SPEAKS}
  AND (applied_sha256 IS DISTINCT FROM $4 OR coalesce(last_good, -1) < $3)
"""  # noqa: S608 - a part of ours
# What is refused runs no more; what was refused before something else was delivered is history.
_REJECTED = f"""
UPDATE config_states SET rejected = $3, errors = $4, rejected_sha256 = delivered_sha256,
    applied = CASE WHEN applied_sha256 = delivered_sha256 THEN NULL ELSE applied END,
    applied_sha256 = CASE WHEN applied_sha256 = delivered_sha256 THEN NULL ELSE applied_sha256 END
WHERE instance_id = $1 AND {_SPEAKS} AND CASE WHEN $5 = ''
    THEN delivered IS NULL OR delivered = $3 ELSE delivered_sha256 = $5 END
"""  # noqa: S608 - a part of ours
_SEEN = """
UPDATE agent_sessions AS s SET seen_at = old.at, health = old.beat
FROM (SELECT s.id, s.state, s.health, i.at, i.beat
      FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::jsonb[])
          AS i (instance_id, id, at, beat)
      JOIN agent_sessions AS s ON s.id = i.id AND s.instance_id = i.instance_id
      ORDER BY s.id FOR UPDATE OF s) AS old
WHERE s.id = old.id
RETURNING s.id, old.state,
    old.health - 'spool_depth' - 'spool_bytes' - 'channels' - 'blacklist'
        IS DISTINCT FROM old.beat - 'spool_depth' - 'spool_bytes' - 'channels' - 'blacklist'
        AS changed,
    coalesce((SELECT version FROM blacklists AS b WHERE b.tenant_id = s.tenant_id), 0) AS blacklist
"""
# What an agent says that it runs is what it runs, whatever we believed: the next look repairs it.
_RUNS = """
UPDATE config_states AS c SET applied = i.applied, applied_sha256 = i.sha256,
    last_good = CASE WHEN i.good THEN greatest(c.last_good, i.applied) ELSE c.last_good END,
    rejected = CASE WHEN i.refuses THEN c.delivered ELSE c.rejected END,
    rejected_sha256 = CASE WHEN i.refuses THEN c.delivered_sha256 ELSE c.rejected_sha256 END,
    errors = CASE WHEN i.refuses THEN i.errors ELSE c.errors END
FROM (SELECT c.instance_id, c.applied_sha256 AS believed, i.session_id, i.applied, i.sha256,
             i.good, i.errors, coalesce(i.rejected_sha256 = c.delivered_sha256
                 AND i.rejected_sha256 IS DISTINCT FROM c.rejected_sha256, false) AS refuses
      FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::boolean[], $6::text[],
                  $7::jsonb[])
          AS i (instance_id, session_id, applied, sha256, good, rejected_sha256, errors)
      JOIN config_states AS c USING (instance_id)
      WHERE i.session_id = (SELECT id FROM agent_sessions AS s
                            WHERE s.instance_id = i.instance_id AND state IN ('standby', 'active')
                            ORDER BY id DESC LIMIT 1)) AS i
WHERE c.instance_id = i.instance_id
  AND (i.refuses OR (i.good AND coalesce(c.last_good, -1) < i.applied)
       OR (c.applied, c.applied_sha256) IS DISTINCT FROM (i.applied, i.sha256))
RETURNING c.instance_id, i.believed IS NOT NULL AND i.sha256 IS DISTINCT FROM i.believed
    AND i.sha256 IS DISTINCT FROM c.delivered_sha256 AS drifted
"""
# Of an entry that is gone meanwhile, the messages are in the stream alone.
_HITS = """
UPDATE blacklist_entries AS e SET hits = e.hits + i.n, hit_at = greatest(e.hit_at, i.at)
FROM (SELECT id, sum(n)::bigint AS n, max(at) AS at
      FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS i (id, n, at)
      GROUP BY id ORDER BY id) AS i
WHERE e.id = i.id AND e.tenant_id = $4
"""
# Sums are added once, and a failure counts once, however often their event comes.
_COUNTED = """
INSERT INTO received (channel_id, event_id, tenant_id, sha256, received_at)
SELECT id, $3, $4, '', $5 FROM channels WHERE id = $2 AND instance_id = $1
ON CONFLICT DO NOTHING RETURNING 1
"""
_NOTES = """
INSERT INTO timeline (id, tenant_id, instance_id, at, type, message, data)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[],
                     $6::text[], $7::jsonb[])
"""


class Dispatcher:
    """Writes groups; the `write` of a GroupCommit."""

    def __init__(self, database: Database, *, offline: str | None = None) -> None:
        """`offline`: the language of voices that are heard without a provider."""
        self._database = database
        self._offline = offline

    async def write(self, group: Sequence[Pending]) -> Told:
        """One transaction stores the whole group, speaking for exactly its tenants."""
        tenants = tuple(sorted({pending.proven.tenant_id for pending in group}))
        results = [pending.arrivals.begin(len(pending.batch.events)) for pending in group]
        arrivals = [arrival for pending in group for arrival in pending.arrivals.messages]
        if all(pending.plain for pending in group):
            told = await self._alone(results, arrivals, tenants)
            if told is not None:
                return told
        async with self._database.plain(Scope(tenants=tenants)) as session:
            await self._store(session, group, results, arrivals)
            # Last of all: whoever deletes one of these holds nothing else.
            await raw.keep(session, arrivals)
            await rejected.keep(session, group, results)
            found = session.info.get("gaps", ())
        gaps.count(found)
        return partial(_whole, results)

    async def _alone(
        self,
        results: list[Results],
        arrivals: Sequence[Arrival],
        tenants: Sequence[UUID],
    ) -> Told | None:
        """Store the group by one statement, which refuses a few: then nothing is stored."""
        new = list(once(arrivals).values())
        if len(new) < len(arrivals):
            return None
        try:
            async with self._database.lone(durable=True) as session:
                done = await store_alone(session, new, tenants)
        except asyncpg.PostgresError as error:
            if is_refusal(error):
                return None
            raise

        def told() -> list[list[EventResult]]:
            announce(session, new, done)
            self._database.tell(session)
            for arrival in new:
                arrival.settle("stored")
            return _whole(results)

        return told

    async def _store(
        self,
        session: Session,
        group: Sequence[Pending],
        results: list[Results],
        arrivals: Sequence[Arrival],
    ) -> None:
        await _remember(session, group)
        entries = defaultdict(list, await store(session, arrivals))
        for tenant, entry in await tasks.begin(session, _voices(arrivals), offline=self._offline):
            entries[tenant].append(entry)
        await _save_checkpoints(session, group)
        for pending, result in zip(group, results, strict=True):
            entries[pending.proven.tenant_id] += await _other_events(session, pending, result)
        await _hear_beats(session)
        await _write_notes(session)
        await leases.call(session, blacklist.WORK, session.info.get("listings", set()))
        await leases.call(session, instances.WORK, session.info.get("looks", set()))
        for tenant, entry in await quota.count_messages(session, new_messages(arrivals)):
            entries[tenant].append(entry)
        await stream.append_all(session, entries)


def _voices(arrivals: Sequence[Arrival]) -> list[Voiced]:
    """What was said now and nobody has written down."""
    return [
        Voiced(tenant_id=each.tenant_id, message_id=UUID(each.message_id), media_id=media_id)
        for each in arrivals
        if each.voices and each.is_new
        for media_id in sorted(each.voices)
    ]


def _whole(results: Sequence[Results]) -> list[list[EventResult]]:
    return [[item for item in result if item is not None] for result in results]


async def _remember(session: Session, group: Sequence[Pending]) -> None:
    """The same webhook id with another body is refused; a repeat goes on, and deduplicates."""
    ordered = sorted(by_webhook_id(group).items())
    if not ordered:
        return
    rows = await (await driver(session)).fetch(
        _BATCHES,
        [key[0] for key, _ in ordered],
        [key[1] for key, _ in ordered],
        [p.proven.tenant_id for _, p in ordered],
        [p.proven.sha256 for _, p in ordered],
        [p.received_at for _, p in ordered],
    )
    found = {(row["instance_id"], row["webhook_id"]): row["sha256"] for row in rows}
    for _, pending in ordered:
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


async def _apply(session: Session, pending: Pending, event: AnyEvent) -> Sequence[Entry]:
    match event.type:
        case "message.blocked":
            return await _blocked(session, pending, event, said(event, MessageBlocked))
        case "message.failed":
            return await _failed(session, pending, event, said(event, MessageFailed))
        case "channel.status":
            return await _channel(session, pending, said(event, ChannelStatus))
        case "config.applied":
            return await _applied(session, pending, said(event, ConfigApplied))
        case "config.rejected":
            return await _rejected(session, pending, said(event, ConfigRejected))
        case "instance.heartbeat":
            beat = said(event, Heartbeat)
            _number(beat.config.applied or 0)
            session.info.setdefault("beats", {})[pending.batch.session_id] = (pending, beat)
    return []


async def _blocked(
    session: Session, pending: Pending, event: AnyEvent, blocked: MessageBlocked
) -> list[Entry]:
    hits, proven = blocked.hits, pending.proven
    if not hits or len(hits) > MAX_BLOCKED_HITS:
        raise msgspec.DecodeError("this counts nothing, or too much")
    for each in hits:
        if _number(each.count) == 0 or None in (each.first_at.tzinfo, each.last_at.tzinfo):
            raise msgspec.DecodeError("a count is at least 1, and a time has its zone")
    connection = await driver(session)
    at = pending.received_at
    if not await connection.fetchval(
        _COUNTED, proven.instance_id, blocked.channel_id, event.id, proven.tenant_id, at
    ):
        return []
    named = [each for each in hits if each.entry_id is not None]
    await connection.execute(
        _HITS,
        [each.entry_id for each in named],
        [each.count for each in named],
        [each.last_at for each in named],
        proven.tenant_id,
    )
    data = {
        "instance_id": str(proven.instance_id),
        "channel_id": str(blocked.channel_id),
        "count": sum(each.count for each in hits),
        "entry_ids": sorted({str(each.entry_id) for each in named}),
        "first_at": min(each.first_at for each in hits).isoformat(),
        "last_at": max(each.last_at for each in hits).isoformat(),
    }
    return [Entry(type="message.blocked", data=data)]


async def _failed(
    session: Session, pending: Pending, event: AnyEvent, failure: MessageFailed
) -> Sequence[Entry]:
    if not failure.platform_message_id:
        raise msgspec.DecodeError("this names no message")
    proven, at = pending.proven, pending.received_at
    if not await (await driver(session)).fetchval(
        _COUNTED, proven.instance_id, failure.channel_id, event.id, proven.tenant_id, at
    ):
        return []
    return await late.failed(session, proven.instance_id, failure, now=at)


async def _channel(session: Session, pending: Pending, status: ChannelStatus) -> list[Entry]:
    row = await (await driver(session)).fetchrow(
        _CHANNEL,
        pending.proven.instance_id,
        status.channel_id,
        status.state,
        status.reason,
        status.proof_at,
        pending.batch.session_id,
    )
    if row is None:
        return []
    gap = await _gap(session, pending, status, row)
    if not (row["changed"] or gap):
        return []
    data: dict[str, Any] = {
        "channel_id": str(status.channel_id),
        "state": status.state,
        "reason": status.reason,
        "gap": gap.data if gap else None,
    }
    _note(session, pending, "channel.status", f"channel {status.state}", data)
    if gap is not None:
        _note(session, pending, "channel.gap", gaps.sentences(gap)[0], data)
    _look(session, pending)
    return [Entry(type="channel.status", data=data)]


async def _gap(session: Session, pending: Pending, status: ChannelStatus, row: Any) -> Gap | None:
    """What may have been missed before it was connected again."""
    at = status.proof_at
    if status.state != "connected" or at is None or not row["was_away"]:
        return None
    back = Back(
        channel_id=status.channel_id,
        instance_id=pending.proven.instance_id,
        session_id=pending.batch.session_id,
        kind=row["kind"],
        settings=row["settings"],
        proof_at=row["proof_at"],
        connected_at=at,
    )
    if (found := await gaps.note(session, back)) is not None:
        session.info.setdefault("gaps", []).append(found)
    return found


async def _applied(session: Session, pending: Pending, applied: ConfigApplied) -> list[Entry]:
    done = await (await driver(session)).execute(
        _APPLIED,
        pending.proven.instance_id,
        pending.batch.session_id,
        _number(applied.revision),
        applied.sha256,
    )
    if done != "UPDATE 1":
        return []
    data = {"instance_id": str(pending.proven.instance_id), "revision": applied.revision}
    _note(session, pending, "config.applied", f"revision {applied.revision} applied", data)
    _look(session, pending)
    return [Entry(type="config.applied", data=data)]


async def _rejected(session: Session, pending: Pending, rejected: ConfigRejected) -> list[Entry]:
    errors: list[DocumentError] = rejected.errors
    done = await (await driver(session)).execute(
        _REJECTED,
        pending.proven.instance_id,
        pending.batch.session_id,
        _number(rejected.revision),
        msgspec.json.encode(errors).decode(),
        rejected.sha256,
    )
    if done != "UPDATE 1":
        return []
    data: dict[str, Any] = {
        "instance_id": str(pending.proven.instance_id),
        "revision": rejected.revision,
        "running": rejected.running,
        "errors": msgspec.to_builtins(errors),
    }
    _note(session, pending, "config.rejected", f"revision {rejected.revision} rejected", data)
    _look(session, pending)
    return [Entry(type="config.rejected", data=data)]


async def _hear_beats(session: Session) -> None:
    """All of a group's at once: seen, and what they say of the configuration, if that is news.

    A session that has ended hears so once it has nothing to tell.
    """
    beats: dict[UUID, tuple[Pending, Heartbeat]] = session.info.get("beats", {})
    if not beats:
        return
    # Configurations before sessions, as everywhere: a group with both takes them so.
    await _compare(session, list(beats.values()))
    rows = await (await driver(session)).fetch(
        _SEEN,
        [pending.proven.instance_id for pending, _ in beats.values()],
        list(beats),
        [pending.received_at for pending, _ in beats.values()],
        [msgspec.json.encode(beat).decode() for _, beat in beats.values()],
    )
    found = {row["id"]: row for row in rows}
    for session_id, (pending, beat) in beats.items():
        row = found.get(session_id)
        only_beats = all(event.type == "instance.heartbeat" for event in pending.batch.events)
        ended = row is None or row["state"] in ("draining", "ended")
        if ended and only_beats and beat.spool_depth == 0:
            raise Gone("session_ended", "Another agent acts for this instance now.")
        if row is not None and row["changed"]:
            _look(session, pending)
        if row is not None and beat.blacklist not in (None, row["blacklist"]):
            key = (pending.proven.instance_id, pending.proven.tenant_id)
            session.info.setdefault("listings", set()).add(key)


async def _compare(session: Session, beats: Sequence[tuple[Pending, Heartbeat]]) -> None:
    """Where an agent runs another configuration than we believed, believe it, and look."""
    by_instance = {pending.proven.instance_id: pending for pending, _ in beats}
    states = [beat.config for _, beat in beats]
    rows = await (await driver(session)).fetch(
        _RUNS,
        [pending.proven.instance_id for pending, _ in beats],
        [pending.batch.session_id for pending, _ in beats],
        [state.applied for state in states],
        [state.applied_sha256 for state in states],
        [
            state.applied is not None and state.applied == state.last_good and not state.on_trial
            for state in states
        ],
        [state.rejected_sha256 for state in states],
        [msgspec.json.encode(state.errors).decode() for state in states],
    )
    for row in rows:
        pending = by_instance[row["instance_id"]]
        if row["drifted"]:
            _note(session, pending, "config.drift", "the agent runs another configuration", {})
        _look(session, pending)


def _number(revision: int) -> int:
    """Raises DecodeError for one that no column holds."""
    if not 0 <= revision <= _MAX_NUMBER:
        raise msgspec.DecodeError("a revision's number is out of range")
    return revision


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
