"""When nobody heard a channel whose platform says everything once.

What was said then is nowhere, so the least we can do is to say so. A gap is found when a channel
is connected again: from the last moment at which it surely was, told by its states and by the
heartbeats of whoever held it before, to that of the new connection. It may be told too long, by
the time between two proofs of life, and never too short.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from adapters import registry
from adapters.registry import UnknownKind
from control_plane.db.session import Session, driver

# Gaps that a channel shows: what a person reads. The stream and the timeline have all.
MAX_SHOWN = 20
# Sessions of an instance whose last heartbeats are looked at: the one before, and some that never
# got so far.
_SESSIONS = 10

_HEARD = f"""
SELECT max((told->>'proof_at')::timestamptz)
FROM (SELECT health FROM agent_sessions WHERE instance_id = $1 AND id <> $3
      ORDER BY id DESC LIMIT {_SESSIONS}) AS s,
    jsonb_array_elements(s.health->'channels') AS told
WHERE told->>'channel_id' = $2
"""  # noqa: S608 - a number of ours
# An event that comes again tells nothing new.
_KEEP = f"""
UPDATE channels SET gaps = (
    SELECT jsonb_agg(gap ORDER BY place)
    FROM jsonb_array_elements($2::jsonb || gaps) WITH ORDINALITY AS all_of_them (gap, place)
    WHERE place <= {MAX_SHOWN})
WHERE id = $1 AND NOT gaps @> $2::jsonb
"""  # noqa: S608 - a number of ours

GAPS = Counter(
    "botyard_channel_gaps_total",
    "Times in which nobody heard a channel whose platform says everything once.",
    ["kind"],
)
GAP_SECONDS = Counter(
    "botyard_channel_gap_seconds_total", "How long these were, together.", ["kind"]
)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """From the last proof of life before it to the first behind it."""

    kind: str
    begin: datetime
    end: datetime

    @property
    def data(self) -> dict[str, str]:
        """For the stream and the row."""
        return {"from": self.begin.isoformat(), "to": self.end.isoformat()}

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, kw_only=True)
class Back:
    """A channel that is connected again, as its row was before."""

    channel_id: UUID
    instance_id: UUID
    session_id: UUID
    kind: str
    settings: str
    proof_at: datetime | None
    connected_at: datetime


async def note(session: Session, back: Back) -> Gap | None:
    """Keep and return what may have been missed; None where nothing was, or it is known."""
    if not _loses(back.kind, json.loads(back.settings)):
        return None
    connection = await driver(session)
    told: datetime | None = await connection.fetchval(
        _HEARD, back.instance_id, str(back.channel_id), back.session_id
    )
    begin = max((each for each in (back.proof_at, told) if each is not None), default=None)
    if begin is None or begin >= back.connected_at:
        # It was never heard before, or another still heard it.
        return None
    gap = Gap(kind=back.kind, begin=begin, end=back.connected_at)
    done = await connection.execute(_KEEP, back.channel_id, json.dumps([gap.data]))
    return gap if done == "UPDATE 1" else None


def count(gaps: Iterable[Gap]) -> None:
    """Once they are stored."""
    for gap in gaps:
        GAPS.labels(gap.kind).inc()
        GAP_SECONDS.labels(gap.kind).inc(gap.seconds)


def told(kind: str, data: dict[str, str]) -> Gap:
    """As a row keeps it."""
    begin, end = (datetime.fromisoformat(data[name]) for name in ("from", "to"))
    return Gap(kind=kind, begin=begin, end=end)


def sentences(gap: Gap) -> tuple[str, str]:
    """For people, English and Chinese."""
    names = _title(gap.kind).split(" · ")
    begin, end = _moment(gap.begin), _moment(gap.end)
    english = (
        f"Between {begin} and {end} UTC nobody was connected for sure; {names[0]} does not "
        "deliver again what was said then."
    )
    return english, f"{begin} 至 {end}（UTC）期间可能没有连接；{names[-1]}不会补发这段时间的消息。"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _title(kind: str) -> str:
    try:
        return registry.kind(kind).title
    except UnknownKind:
        return kind


def _loses(kind: str, given: dict[str, Any]) -> bool:
    try:
        return registry.kind(kind).loses(given)
    except UnknownKind:
        return False
