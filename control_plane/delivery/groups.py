"""What is usual of a lane, for many lanes of one tenant in one transaction.

`begin` puts heads that were never tried into `sending`; whatever is not plain about one is left to
`Lanes`, which looks at it alone. `end` records what came of attempts. Lock order and promises are
those of `control_plane.delivery.lanes`: deliveries, then work, then the stream.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

import msgspec

from adapters import registry
from control_plane.db.leases import Lease, LeaseLost
from control_plane.db.session import Session, driver
from control_plane.delivery import pace
from control_plane.delivery.models import DeliveryState
from control_plane.delivery.verdict import Verdict, judge
from control_plane.instances import sessions
from control_plane.instances.sessions import AgentAddress
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from instance_agent.protocol import PartOutcome

# What has waited for longer may have waited for too long.
_FRESH = timedelta(hours=1)

_HEADS = """
SELECT d.*, d.due_at <= now() AS due, c.kind AS channel_kind, c.deleted_at, t.state AS tenant_state,
       s.id AS session_id, s.endpoint, s.api_token, s.epoch, s.journal_id
FROM unnest($1::uuid[]) AS i (conversation_id)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries
    WHERE conversation_id = i.conversation_id AND state IN ('queued', 'sending')
    ORDER BY number LIMIT 1 FOR UPDATE
) AS d
JOIN tenants AS t ON t.id = d.tenant_id
JOIN channels AS c ON c.id = d.channel_id
LEFT JOIN agent_sessions AS s ON s.instance_id = d.instance_id AND s.state = 'active'
"""
# Only what is still leased changes; the heads are locked already.
_BEGIN = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[])
        AS g (conversation_id, token, delivery_id, attempt_id, journal_id, paced_id)
), held AS (
    SELECT w.key FROM work AS w JOIN given AS g ON w.key = g.conversation_id AND w.token = g.token
    WHERE w.kind = $7 ORDER BY w.tenant_id, w.key FOR UPDATE OF w
), begun AS (
    INSERT INTO attempts (id, tenant_id, delivery_id, number, journal_id, started_at,
        paced_conversation_id)
    SELECT g.attempt_id, $8, g.delivery_id, 1, g.journal_id, $9, g.paced_id
    FROM given AS g JOIN held AS h ON h.key = g.conversation_id
)
UPDATE deliveries AS d SET state = 'sending', error_class = NULL, attempts = 1, due_at = now()
FROM given AS g JOIN held AS h ON h.key = g.conversation_id
WHERE d.id = g.delivery_id RETURNING d.conversation_id
"""
# The work is locked behind the deliveries, as everywhere.
_END = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[],
                         $7::text[], $8::text[], $9::integer[], $10::interval[])
        AS g (conversation_id, token, delivery_id, attempt_id, outcome, parts, state, error_class,
              attempts, pause)
), locked AS (
    SELECT d.id FROM deliveries AS d JOIN given AS g ON g.delivery_id = d.id
    ORDER BY d.id FOR UPDATE OF d
), held AS (
    SELECT w.key FROM work AS w JOIN given AS g ON w.key = g.conversation_id AND w.token = g.token
    CROSS JOIN (SELECT count(*) FROM locked) AS l
    WHERE w.kind = $11 ORDER BY w.tenant_id, w.key FOR UPDATE OF w
), ours AS (
    SELECT g.* FROM given AS g JOIN held AS h ON h.key = g.conversation_id
), ended AS (
    UPDATE attempts AS a SET ended_at = $12, outcome = o.outcome, parts = o.parts
    FROM ours AS o WHERE a.id = o.attempt_id
), marked AS (
    UPDATE deliveries AS d SET state = o.state, error_class = o.error_class,
        attempts = o.attempts, due_at = now() + o.pause
    FROM ours AS o WHERE d.id = o.delivery_id
)
SELECT o.conversation_id, EXISTS (
    SELECT 1 FROM deliveries AS n WHERE n.conversation_id = o.conversation_id
      AND n.id <> o.delivery_id AND n.state IN ('queued', 'sending')) AS more
FROM ours AS o
"""
_AGE = """
SELECT now() - min(coalesce(began_at, started_at)) FROM attempts
WHERE delivery_id = $1 AND number > $2
"""
_LOCK = "SELECT 1 FROM deliveries WHERE id = $1 FOR UPDATE"
_TAKEN = "SELECT owner IN ('human', 'closed') FROM conversations WHERE id = $1"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call to make: the delivery, the attempt that is on record, the agent to call.

    `doubt`: an earlier attempt may have sent it. `room`: parts that the platform takes for now.
    `fresh`: nobody has called the agent for it before.
    """

    delivery: Any
    attempt_id: UUID
    number: int
    doubt: bool
    agent: AgentAddress
    room: int | None = None
    fresh: bool = False


class Head(Enum):
    """A lane where nothing was begun."""

    NONE = auto()
    UNUSUAL = auto()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an attempt made under a lease."""

    lease: Lease
    attempt: Attempt
    parts: Sequence[PartOutcome]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The pause before this delivery is tried again; whether others wait behind it."""

    pause: timedelta
    more: bool


async def begin(
    session: Session, keys: Keyring, leases: Sequence[Lease], *, now: datetime
) -> list[Attempt | Head | Exception]:
    """Put the plain ones among these lanes' heads into `sending`."""
    rows = await (await driver(session)).fetch(_HEADS, [lease.key for lease in leases])
    heads = {row["conversation_id"]: row for row in rows}
    plain = {key: row for key, row in heads.items() if _is_plain(row, now)}
    plain = await _with_room(session, plain, now=now)
    addresses = _addresses(keys, plain.values())
    attempts = {
        key: Attempt(
            delivery=row,
            attempt_id=new_id(),
            number=1,
            doubt=False,
            agent=addresses[row["session_id"]],
            fresh=True,
        )
        for key, row in plain.items()
    }
    begun = await _begin(session, leases, attempts, now=now) if attempts else set()
    found: list[Attempt | Head | Exception] = []
    for lease in leases:
        attempt = attempts.get(lease.key)
        if attempt is None:
            found.append(Head.UNUSUAL if lease.key in heads else Head.NONE)
        elif lease.key in begun:
            found.append(attempt)
        else:
            found.append(LeaseLost(f"{lease.kind} {lease.key}"))
    return found


def _is_plain(row: Any, now: datetime) -> bool:
    return (
        row["tenant_state"] == "active"
        and row["session_id"] is not None
        and row["deleted_at"] is None
        and row["state"] == DeliveryState.QUEUED
        and row["attempts"] == 0
        and row["due"]
        and row["decision"] is None
        and now - row["created_at"] < _FRESH
        and not registry.kind(row["channel_kind"]).windows
    )


async def _with_room(session: Session, heads: dict[UUID, Any], *, now: datetime) -> dict[UUID, Any]:
    """Without those whose chat has had as much as its platform lets it get for now."""
    by_kind: dict[str, list[UUID]] = defaultdict(list)
    for key, row in heads.items():
        by_kind[row["channel_kind"]].append(key)
    full: set[UUID] = set()
    for name, keys in by_kind.items():
        full |= (await pace.pauses(session, registry.kind(name), keys, now=now)).keys()
    return {key: row for key, row in heads.items() if key not in full}


def _addresses(keys: Keyring, rows: Any) -> dict[UUID, AgentAddress]:
    """Each agent's once: its token has to be opened."""
    agents = {row["session_id"]: row for row in rows}
    return {
        session_id: sessions.address({**dict(row), "id": session_id}, keys)
        for session_id, row in agents.items()
    }


async def _begin(
    session: Session,
    leases: Sequence[Lease],
    attempts: dict[UUID, Attempt],
    *,
    now: datetime,
) -> set[UUID]:
    tokens = {lease.key: lease.token for lease in leases}
    rows = [
        (
            key,
            tokens[key],
            attempt.delivery["id"],
            attempt.attempt_id,
            attempt.agent.journal_id,
            key if pace.counted(registry.kind(attempt.delivery["channel_kind"])) else None,
        )
        for key, attempt in attempts.items()
    ]
    columns = map(list, zip(*rows, strict=True))
    found = await (await driver(session)).fetch(
        _BEGIN, *columns, leases[0].kind, leases[0].tenant_id, now
    )
    return {row["conversation_id"] for row in found}


async def end(
    session: Session, outcomes: Sequence[Outcome], *, now: datetime
) -> list[Recorded | Exception]:
    """Record what came of these attempts, and tell the tenant's stream."""
    verdicts = [
        await judged(
            session,
            outcome.attempt.delivery,
            outcome.parts,
            number=outcome.attempt.number,
            doubt=outcome.attempt.doubt,
        )
        for outcome in outcomes
    ]
    settled = list(zip(outcomes, verdicts, strict=True))
    rows = [_ended(outcome, verdict) for outcome, verdict in settled]
    columns = map(list, zip(*rows, strict=True))
    lease = outcomes[0].lease
    found = await (await driver(session)).fetch(_END, *columns, lease.kind, now)
    more = {row["conversation_id"]: row["more"] for row in found}
    entries, results = [], list[Recorded | Exception]()
    for outcome, verdict in settled:
        key = outcome.lease.key
        if key not in more:
            results.append(LeaseLost(f"{outcome.lease.kind} {key}"))
            continue
        entries.append(told(outcome.attempt.delivery, verdict))
        pause = verdict.again_after or timedelta(0)
        results.append(Recorded(pause=pause, more=more[key]))
    await stream.append(session, lease.tenant_id, entries)
    return results


def _ended(outcome: Outcome, verdict: Verdict) -> tuple[Any, ...]:
    return (
        outcome.lease.key,
        outcome.lease.token,
        outcome.attempt.delivery["id"],
        outcome.attempt.attempt_id,
        outcome_of(outcome.parts),
        msgspec.json.encode(outcome.parts).decode(),
        str(verdict.state),
        verdict.error_class,
        outcome.attempt.number,
        verdict.again_after or timedelta(0),
    )


def outcome_of(parts: Sequence[PartOutcome]) -> str:
    """The whole attempt's outcome: that of the first part which was not sent."""
    return next((part.outcome for part in parts if part.outcome != "sent"), "sent")


async def judged(
    session: Session,
    delivery: Any,
    parts: Sequence[PartOutcome],
    *,
    number: int,
    doubt: bool,
) -> Verdict:
    """What the outcome of attempt `number` means for its delivery, whoever owns it by now."""
    kind = registry.kind(delivery["channel_kind"])
    safe_s = min(kind.resend_safe(delivery["key_type"]), 1e9)
    is_known = outcome_of(parts) != "unknown" and not doubt
    verdict = judge(
        parts,
        attempt=number - delivery["resent_from"],
        age=timedelta(0) if is_known else await _age(session, delivery),
        resend_safe=timedelta(seconds=safe_s),
        doubt=doubt,
    )
    if verdict.state == DeliveryState.QUEUED and await _taken(session, delivery):
        return _withheld(verdict)
    return verdict


async def _age(session: Session, delivery: Any) -> timedelta:
    """Since the first attempt behind a person's last decision, by the clock that all share."""
    found: timedelta = await (await driver(session)).fetchval(
        _AGE, delivery["id"], delivery["resent_from"]
    )
    return found


async def untouched(session: Session, delivery: Any) -> Verdict:
    """Where a delivery stands that was not begun after all, whoever owns it by now."""
    before = Verdict(state=DeliveryState.QUEUED, error_class=delivery["error_class"])
    return _withheld(before) if await _taken(session, delivery) else before


async def _taken(session: Session, delivery: Any) -> bool:
    """Whether a person has taken over what the bot would say again by itself."""
    if delivery["author_kind"] != "bot" or delivery["decision"] == "resend":
        return False
    connection = await driver(session)
    # The lock first, so that what is read behind it is what a take-over has left.
    await connection.execute(_LOCK, delivery["id"])
    return bool(await connection.fetchval(_TAKEN, delivery["conversation_id"]))


def _withheld(verdict: Verdict) -> Verdict:
    unknown = verdict.error_class == "unknown_outcome"
    state = DeliveryState.UNCONFIRMED if unknown else DeliveryState.WITHHELD
    return Verdict(state=state, error_class=verdict.error_class)


def told(delivery: Any, verdict: Verdict) -> Entry:
    """The stream entry that says how a delivery stands."""
    data = {
        "conversation_id": str(delivery["conversation_id"]),
        "message_id": str(delivery["message_id"]),
        "number": delivery["number"],
        "state": str(verdict.state),
        "error_class": verdict.error_class,
    }
    return Entry(type="delivery.changed", data=data)
