"""Dead letters: callbacks and events that came and could not be used, with the reason.

A callback is one that no agent took for too long, or that its adapter refused; an event is one
that could not be stored. Replaying a callback puts it back in its channel's queue, where it is the
oldest; replaying an event stores it as if it came now, or leaves it with the newest reason.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import msgspec
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.channels import callbacks
from control_plane.db import leases
from control_plane.db.session import Database, Scope, driver
from control_plane.ingest.commit import GroupCommit
from control_plane.ingest.verify import Proven
from control_plane.kit.clock import Clock
from control_plane.kit.errors import Conflict, NotFound, not_found
from control_plane.kit.ids import new_id
from instance_agent.protocol import Event, EventBatch

_ROWS = """
SELECT * FROM (
    SELECT k.id, k.tenant_id, 'callback' AS source, c.instance_id, k.channel_id, k.method AS type,
        k.dead_reason AS reason, k.received_at, k.path, k.query, k.headers, k.body, c.deleted_at
    FROM callbacks AS k JOIN channels AS c ON c.id = k.channel_id
    WHERE k.dead_reason IS NOT NULL
    UNION ALL
    SELECT id, tenant_id, 'event', instance_id, NULL, type, reason, received_at, NULL, NULL, NULL,
        body, NULL
    FROM rejected_events
) AS d
"""
_LIST = f"{_ROWS} WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
_CHOSEN = f"""{_ROWS} WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id > $2)
    AND ($3::text IS NULL OR source = $3) AND ($4::text IS NULL OR reason = $4)
    AND ($5::uuid IS NULL OR instance_id = $5) AND ($6::uuid IS NULL OR channel_id = $6)
    AND ($7::timestamptz IS NULL OR received_at >= $7)
    AND ($8::timestamptz IS NULL OR received_at < $8)
ORDER BY id LIMIT $9"""
_THERE = {
    "instance": "SELECT true FROM instances WHERE id = $1",
    "channel": "SELECT true FROM channels WHERE id = $1",
}
_ONE = f"{_ROWS} WHERE id = $1"
_REVIVE = """
UPDATE callbacks SET dead_reason = NULL, replayed_at = $2
WHERE id = $1 AND dead_reason IS NOT NULL
"""
_DONE = "DELETE FROM rejected_events WHERE id = $1"
# The function counts for operators alone.
_GATHERED = """
SELECT d.tenant_id, t.name AS tenant, d.source, d.reason, d.depth, d.oldest
FROM dead_letters() AS d JOIN tenants AS t ON t.id = d.tenant_id
ORDER BY d.depth DESC, d.tenant_id, d.source, d.reason LIMIT $1
"""
_LAST = UUID(int=2**128 - 1)
# What proves something to somebody, by the name of its header or parameter.
_SECRET = re.compile(r"authorization|cookie|secret|token|sign|password|key", re.IGNORECASE)
MASK = "***"

Became = Literal["waiting", "stored", "duplicate", "conflict", "rejected", "refused"]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of it; `reason` when it was rejected again, or not replayed (`refused`)."""

    became: Became
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which dead letters: those to which all applies that is given; `after` is an id."""

    source: str | None = None
    reason: str | None = None
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None


async def letters(
    session: AsyncSession, tenant_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Any]:
    """Newest first; one more than `limit` if any."""
    rows: Sequence[Any] = await (await driver(session)).fetch(
        _LIST, tenant_id, before or _LAST, limit + 1
    )
    return rows


async def letter(session: AsyncSession, letter_id: UUID) -> Any:
    """One dead letter."""
    row = await (await driver(session)).fetchrow(_ONE, letter_id)
    if row is None:
        raise not_found("dead_letter")
    return row


def raw(row: Any) -> dict[str, Any]:
    """What came, without what proves anything: the body in base64, since it may be encrypted."""
    headers = json.loads(row["headers"] or "{}")
    query = parse_qsl(row["query"] or "", keep_blank_values=True)
    return {
        "path": row["path"],
        "query": urlencode([(name, _shown(name, value)) for name, value in query]),
        "headers": {name: _shown(name, value) for name, value in headers.items()},
        "body": base64.b64encode(row["body"]).decode(),
    }


def _shown(name: str, value: str) -> str:
    return MASK if _SECRET.search(name) else value


async def gathered(session: AsyncSession, limit: int) -> Sequence[Any]:
    """How many each tenant has, by what and why, most first; of their contents nothing."""
    rows: Sequence[Any] = await (await driver(session)).fetch(_GATHERED, limit)
    return rows


class Replays:
    """Has dead letters dealt with once more."""

    def __init__(self, database: Database, commits: GroupCommit, clock: Clock) -> None:
        self._database = database
        self._commits = commits
        self._clock = clock

    async def replay(self, letter_id: UUID, actor: Actor, tenant_id: UUID) -> Replayed:
        """Replay one, by somebody who may; repeating it after a crash does no harm."""
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            row = await letter(session, letter_id)
            if row["deleted_at"] is not None:
                raise Conflict("channel_deleted", "Its channel was deleted: nobody would take it.")
            if row["source"] == "callback":
                await (await driver(session)).execute(_REVIVE, letter_id, now)
                await leases.call(session, callbacks.WORK, [(row["channel_id"], tenant_id)])
            audit.record(
                session,
                actor=actor,
                tenant_id=tenant_id,
                action="dead_letter.replay",
                target=("dead_letter", letter_id),
                now=now,
                before={"source": row["source"], "reason": row["reason"]},
            )
        return Replayed(became="waiting") if row["source"] == "callback" else await self._again(row)

    async def replay_many(
        self, choice: Choice, limit: int, actor: Actor, tenant_id: UUID
    ) -> tuple[list[tuple[UUID, Replayed]], UUID | None]:
        """Replay the oldest of them, each by itself; also where to go on, None at the end.

        What was replayed is dead no longer, so a repeat passes it by.
        """
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            connection = await driver(session)
            for what, named in (("instance", choice.instance_id), ("channel", choice.channel_id)):
                if named and not await connection.fetchval(_THERE[what], named):
                    raise not_found(what)
            rows = await connection.fetch(
                _CHOSEN,
                tenant_id,
                choice.after,
                choice.source,
                choice.reason,
                choice.instance_id,
                choice.channel_id,
                choice.since,
                choice.until,
                limit + 1,
            )
        chosen = [row["id"] for row in rows[:limit]]
        done = [
            (letter_id, await self._replayed(letter_id, actor, tenant_id)) for letter_id in chosen
        ]
        return done, chosen[-1] if len(rows) > limit else None

    async def _replayed(self, letter_id: UUID, actor: Actor, tenant_id: UUID) -> Replayed:
        try:
            return await self.replay(letter_id, actor, tenant_id)
        except (Conflict, NotFound) as error:
            # Its channel is gone, or somebody else was quicker.
            return Replayed(became="refused", reason=error.code)

    async def _again(self, row: Any) -> Replayed:
        event = msgspec.json.decode(row["body"], type=Event)
        proven = Proven(
            tenant_id=row["tenant_id"],
            instance_id=row["instance_id"],
            webhook_id=f"replay_{row['id']}_{new_id()}",
            sha256=hashlib.sha256(row["body"]).digest(),
        )
        batch = EventBatch(session_id=row["id"], events=[event])
        [result] = await self._commits.submit(proven, batch, self._clock.now())
        if result.status != "rejected":
            async with self._database.session(Scope(tenants=(row["tenant_id"],))) as session:
                await (await driver(session)).execute(_DONE, row["id"])
        return Replayed(became=result.status, reason=result.code)
