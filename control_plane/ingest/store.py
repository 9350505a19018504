"""Writes the messages of a group of batches, and says what became of each."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from control_plane.conversations.service import TURN, topic
from control_plane.db import leases
from control_plane.db.session import Session, Transaction, driver, hint, written
from control_plane.ingest.arrivals import Arrival, joined, placed
from control_plane.ingest.commit import Pending
from control_plane.ingest.statement import CLAIM, STORE, STORE_ALONE
from control_plane.kit.errors import Conflict
from control_plane.media import service as media
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota

_KNOWN = """
SELECT event_id, sha256 FROM received
WHERE (channel_id, event_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
"""

# The state by which a statement says that it has refused itself (`refuse()` of the schema).
_REFUSED = "BY001"

Claims = Mapping[tuple[UUID, UUID], Arrival]
"""The first arrival of each event and instance, in the order in which they are stored."""


async def store(session: Session, arrivals: Sequence[Arrival]) -> dict[UUID, list[Entry]]:
    """Store what is new and settle every arrival; the stream entries of each tenant."""
    own = await _own_media(session, arrivals)
    if not own:
        return {}
    first = once(own)
    connection = await driver(session)
    rows = joined(arrival.row for arrival in first.values())
    claimed = await connection.fetchrow(CLAIM, rows)
    settle(own, first, claimed, await _known(session, first, claimed))
    each = list(first.values())
    new = [each[n - 1] for n in claimed["stored"]]
    if not new:
        return {}
    done = await connection.fetchrow(STORE, placed(new))
    hint(session, *_topics(new, done))
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    for tenant_id, data in zip(done["tenants"], done["entries"], strict=True):
        entries[tenant_id].append(Entry(type="message.created", data=msgspec.json.decode(data)))
    return entries


async def store_alone(
    session: Transaction, new: Sequence[Arrival], tenants: Sequence[UUID]
) -> Mapping[str, Any]:
    """The same for a group that has nothing else, with all that follows, by the one statement.

    Raises what `is_refusal` knows where that alone would not do, as where some are not new: then
    nothing was stored.
    """
    counts = sorted(_counted(new).items())
    done: Mapping[str, Any]
    (done,) = await session.connection.fetch(
        STORE_ALONE,
        placed(new),
        written(tenants),
        [tenant_id for (tenant_id, _), _ in counts],
        [month for (_, month), _ in counts],
        [count for _, count in counts],
    )
    return done


def announce(session: Session, new: Sequence[Arrival], done: Mapping[str, Any]) -> None:
    """Tell who waits for what the one statement has stored."""
    stream.appended(session, {arrival.tenant_id for arrival in new}, done)
    hint(session, *_topics(new, done))


def is_refusal(error: Exception) -> bool:
    """Whether a statement has refused itself."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate == _REFUSED


def new_messages(arrivals: Iterable[Arrival]) -> Counter[tuple[UUID, int]]:
    """How many were stored now, per tenant and month: what their quota counts."""
    return _counted(arrival for arrival in arrivals if arrival.is_new)


def _counted(arrivals: Iterable[Arrival]) -> Counter[tuple[UUID, int]]:
    return Counter((arrival.tenant_id, quota.month_of(arrival.received_at)) for arrival in arrivals)


def by_webhook_id(group: Sequence[Pending]) -> dict[tuple[UUID, str], Pending]:
    """The group's batches whose ids could come with another body; raises Conflict if two do."""
    found: dict[tuple[UUID, str], Pending] = {}
    for pending in group:
        proven = pending.proven
        if proven.named_by_body:
            continue
        same = found.setdefault((proven.instance_id, proven.webhook_id), pending)
        if same.proven.sha256 != proven.sha256:
            raise reused()
    return found


def reused() -> Conflict:
    return Conflict("webhook_id_reused", "This webhook-id came with another body before.")


async def _own_media(session: Session, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """A message may only speak of its own tenant's stored objects, whoever else is in the group."""
    if not any(arrival.media for arrival in arrivals):
        return list(arrivals)
    wanted: dict[UUID, set[UUID]] = defaultdict(set)
    for arrival in arrivals:
        if arrival.media:
            wanted[arrival.tenant_id] |= arrival.media
    known = {tenant: await media.stored(session, tenant, ids) for tenant, ids in wanted.items()}
    own = []
    for arrival in arrivals:
        if arrival.media <= known.get(arrival.tenant_id, set()):
            own.append(arrival)
        else:
            arrival.settle("rejected", "unknown_media")
    return own


def once(arrivals: Iterable[Arrival]) -> Claims:
    """The first of each event: one of the same id from elsewhere only claims to be it."""
    first: dict[tuple[UUID, UUID], Arrival] = {}
    for arrival in arrivals:
        first.setdefault(arrival.claim, arrival)
    return first


def settle(
    arrivals: Sequence[Arrival],
    first: Claims,
    claimed: Mapping[str, Any],
    known: Mapping[UUID, bytes],
) -> None:
    """Say what became of each; `known` is what came before under the ids of repeats."""
    each = list(first.values())
    for n in claimed["strange"]:
        each[n - 1].settle("rejected", "unknown_channel")
    for arrival in arrivals:
        original = first[arrival.claim]
        result = original.results[original.index]
        if result is not None and result.status == "rejected":
            arrival.settle("rejected", result.code)
        elif arrival is original and arrival.event.id not in known:
            arrival.settle("stored")
        else:
            same = known.get(arrival.event.id, original.sha256) == arrival.sha256
            arrival.settle("duplicate" if same else "conflict")


async def _known(session: Session, first: Claims, claimed: Mapping[str, Any]) -> dict[UUID, bytes]:
    """What came before under the ids of repeats.

    By a statement that sees what others have committed.
    """
    others = {*claimed["stored"], *claimed["strange"]}
    again = [arrival for n, arrival in enumerate(first.values(), start=1) if n not in others]
    if not again:
        return {}
    rows = await (await driver(session)).fetch(
        _KNOWN,
        [arrival.message.channel_id for arrival in again],
        [arrival.event.id for arrival in again],
    )
    return {row["event_id"]: row["sha256"] for row in rows}


def _topics(new: Sequence[Arrival], done: Mapping[str, Any]) -> list[str]:
    """What to listen to for what was stored."""
    topics = [topic(arrival.message.channel_id, arrival.message.conversation.id) for arrival in new]
    if done["turns"]:
        topics.append(leases.topic(TURN))
    return topics
