"""Tasks to write down what voices say: rows of ids that exist until their end.

A task begins in the transaction that stores its message, and ends in the one that writes the words:
so it begins once and ends once, whoever dies in between.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from control_plane.conversations import search
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Owner
from control_plane.conversations.segments import decode, encode, preview
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Session, driver
from control_plane.kit.ids import new_id
from control_plane.speech.voices import unheard, written_down
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from instance_agent.protocol import Transcript

WORK = "speech"
# A turn waits so long in all for voices that follow each other, counted from the first message.
LONGEST_WAIT = timedelta(seconds=60)

# Only where the document that counts now names who hears.
_BEGIN = """
INSERT INTO speech_tasks AS t
    (id, tenant_id, conversation_id, message_id, media_id, created_at, turn_by)
SELECT g.id, g.tenant_id, m.conversation_id, g.message_id, g.media_id, m.created_at,
    m.created_at + make_interval(secs => (r.document -> 'speech' ->> 'wait_s')::float)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
        AS g (id, tenant_id, message_id, media_id)
    JOIN messages AS m ON m.id = g.message_id AND m.tenant_id = g.tenant_id
    JOIN conversations AS c ON c.id = m.conversation_id AND c.tenant_id = g.tenant_id
    JOIN config_states AS s ON s.instance_id = c.instance_id
    JOIN revisions AS r ON r.instance_id = s.instance_id AND r.number = s.desired
WHERE r.document -> 'speech' ->> 'provider' IS NOT NULL
    OR r.document -> 'speech' ->> 'language' = $5
RETURNING t.id, t.tenant_id, t.conversation_id, t.message_id,
    (SELECT number FROM messages AS m WHERE m.id = t.message_id) AS number
"""
_WAITED_FOR = """
SELECT least(min(t.turn_by), (
    SELECT min(m.created_at) + $3::interval FROM messages AS m
    WHERE m.conversation_id = $1 AND m.number > $2 AND m.sender_kind = 'contact'))
FROM speech_tasks AS t WHERE t.conversation_id = $1 HAVING count(*) > 0
"""
_TASK = """
SELECT t.id, t.tenant_id, t.conversation_id, t.message_id, t.media_id, t.failures, t.created_at,
    coalesce(v.id, t.media_id) AS played_id, coalesce(o.conversion = 'pending', false) AS awaited,
    c.instance_id, m.number, m.trace, r.document -> 'speech' AS speech,
    (SELECT state FROM tenants AS n WHERE n.id = t.tenant_id) AS tenant_state
FROM speech_tasks AS t
    JOIN conversations AS c ON c.id = t.conversation_id
    JOIN messages AS m ON m.id = t.message_id
    JOIN config_states AS s ON s.instance_id = c.instance_id
    LEFT JOIN revisions AS r ON r.instance_id = s.instance_id AND r.number = s.desired
    LEFT JOIN media AS o ON o.id = t.media_id
    LEFT JOIN media AS v ON v.original_id = o.id AND v.tenant_id = o.tenant_id
        AND v.state = 'stored'
WHERE t.id = $1
"""
_FAILED = "UPDATE speech_tasks SET failures = failures + 1 WHERE id = $1"
_CONVERSATION = """
SELECT owner, turned_number, last_number FROM conversations WHERE id = $1 FOR NO KEY UPDATE
"""
_END = "DELETE FROM speech_tasks WHERE id = $1 RETURNING 1"
_SEGMENTS = "SELECT segments FROM messages WHERE id = $1"
_WRITE = "UPDATE messages SET segments = $2 WHERE id = $1"
_PREVIEW = "UPDATE conversations SET preview = $2 WHERE id = $1"


@dataclass(frozen=True, kw_only=True)
class Voiced:
    """A stored message with a voice of which nobody knows what it says."""

    tenant_id: UUID
    message_id: UUID
    media_id: UUID


@dataclass(frozen=True, kw_only=True)
class Task:
    """One voice; `speech` is the section of the document that counts now.

    `played_id` is what was made of a voice that no browser plays, nor many a provider; it is
    `awaited` while that may still come.
    """

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    message_id: UUID
    media_id: UUID
    played_id: UUID
    awaited: bool
    failures: int
    created_at: datetime
    instance_id: UUID
    number: int
    trace: bytes | None
    speech: dict[str, Any]
    tenant_state: str


async def begin(
    session: Session, voices: Sequence[Voiced], *, offline: str | None = None
) -> list[tuple[UUID, Entry]]:
    """Begin a task for each voice whose bot has somebody who hears; what there is to tell.

    `offline` is the language that is heard without a provider, if one is.
    """
    if not voices:
        return []
    rows = await (await driver(session)).fetch(
        _BEGIN,
        [new_id() for _ in voices],
        [voice.tenant_id for voice in voices],
        [voice.message_id for voice in voices],
        [voice.media_id for voice in voices],
        offline,
    )
    await leases.call(session, WORK, [(row["id"], row["tenant_id"]) for row in rows])
    return [(row["tenant_id"], Entry(type="asr.started", data=_named(row))) for row in rows]


async def waited_for(session: Session, conversation_id: UUID, turned: int) -> datetime | None:
    """Until when a turn over what came after `turned` waits; None where there is no voice."""
    until: datetime | None = await (await driver(session)).fetchval(
        _WAITED_FOR, conversation_id, turned, LONGEST_WAIT
    )
    return until


async def read(session: Session, task_id: UUID) -> Task | None:
    """The task, unless it has ended; one whose message was forgotten ends here."""
    connection = await driver(session)
    row = await connection.fetchrow(_TASK, task_id)
    if row is None:
        await connection.execute(_END, task_id)
        return None
    return Task(**{**row, "speech": json.loads(row["speech"] or "{}")})


async def count_failure(session: Session, lease: Lease) -> None:
    """One more call brought nothing."""
    await (await driver(session)).execute(_FAILED, lease.key)
    await leases.hold(session, lease)


async def end(session: Session, lease: Lease, task: Task, outcome: Transcript | str) -> None:
    """Write the words into the message, or only say of which class the failure is; once.

    What was erased meanwhile stays so, and nothing is told of it.
    """
    connection = await driver(session)
    # The conversation's row lock comes first, as everywhere.
    conversation = await connection.fetchrow(_CONVERSATION, task.conversation_id)
    if await connection.fetchval(_END, task.id) is None:
        return
    segments = decode(await connection.fetchval(_SEGMENTS, task.message_id))
    there = task.media_id in unheard(segments)
    if there and isinstance(outcome, Transcript):
        written = written_down(segments, task.media_id, outcome.text)
        await connection.execute(_WRITE, task.message_id, encode(written))
        if conversation["last_number"] == task.number:
            await connection.execute(_PREVIEW, task.conversation_id, preview(written))
        await search.renew(session, task.tenant_id, task.message_id)
    if conversation["owner"] == Owner.BOT and conversation["turned_number"] < task.number:
        turn = (task.conversation_id, task.tenant_id)
        await leases.call(session, conversations.TURN, [turn])
    await leases.hold(session, lease)
    if there:
        entry = Entry(type="asr.completed", data=_named(asdict(task)) | _told(outcome))
        await stream.append(session, task.tenant_id, [entry])


def _named(row: Any) -> dict[str, Any]:
    return {
        "task_id": str(row["id"]),
        "conversation_id": str(row["conversation_id"]),
        "message_id": str(row["message_id"]),
        "number": row["number"],
    }


def _told(outcome: Transcript | str) -> dict[str, Any]:
    heard = outcome if isinstance(outcome, Transcript) else None
    return {
        "text": heard.text if heard else None,
        "language": heard.language if heard else None,
        "duration_s": heard.duration_s if heard else None,
        "confidence": heard.confidence if heard else None,
        "error_class": None if heard else outcome,
    }
