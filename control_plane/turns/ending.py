"""How turns end: the answer or the hand-over of several conversations, written at once.

The conversations are locked; an answer is by compare-and-set on `owner_version`: when somebody took
over meanwhile, the turn is dropped and nothing is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from adapters.model import Segment, Text
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Owner
from control_plane.conversations.ownership import Ownership
from control_plane.conversations.segments import preview
from control_plane.conversations.service import Author
from control_plane.db import leases
from control_plane.db.session import Session, driver, hint
from control_plane.delivery.lanes import Outgoing
from control_plane.stream.log import Entry
from control_plane.tenants.service import ROUTING
from control_plane.turns.running import Attempt, Decision, Locked, Running, concluded, outcome
from instance_agent.document import Document

# Ends that need a word of why.
_REASONED = frozenset({"handed_over", "fell_back"})

# A person who was there and left again has dealt with more than the turn saw.
_END = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::timestamptz[], $8::text[], $9::text[], $10::uuid[], $11::text[],
        $12::bigint[], $13::bigint[], $14::bigint[], $15::text[], $16::boolean[])
    AS g (conversation_id, turn_id, number, from_number, through_number, owner_version, created_at,
          state, reason, provider_id, model, prompt_tokens, completion_tokens, latency_ms, preview,
          handed_over)
), changed AS (
    UPDATE conversations AS c SET
        turned_number = greatest(c.turned_number, g.through_number),
        last_turn = greatest(c.last_turn, g.number),
        last_number = c.last_number + CASE WHEN g.preview IS NULL THEN 0 ELSE 1 END,
        preview = coalesce(g.preview, c.preview),
        last_message_at = CASE WHEN g.preview IS NULL THEN c.last_message_at ELSE $18 END,
        owner = CASE WHEN g.handed_over THEN 'waiting' ELSE c.owner END,
        owner_version = c.owner_version + CASE WHEN g.handed_over THEN 1 ELSE 0 END,
        waiting_reason = CASE WHEN g.handed_over THEN g.reason ELSE c.waiting_reason END
    FROM given AS g WHERE c.id = g.conversation_id
)
INSERT INTO turns AS t (id, tenant_id, conversation_id, number, from_number, through_number,
    owner_version, state, reason, provider_id, model, prompt_tokens, completion_tokens,
    latency_ms, created_at, ended_at)
SELECT g.turn_id, $17, g.conversation_id, g.number, g.from_number, g.through_number,
    g.owner_version, g.state, g.reason, g.provider_id, g.model, g.prompt_tokens,
    g.completion_tokens, g.latency_ms, g.created_at, $18
FROM given AS g
ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    provider_id = excluded.provider_id, model = excluded.model,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    latency_ms = excluded.latency_ms, ended_at = excluded.ended_at
"""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The end of one turn; made within its trace, so that the answer is in it."""

    conversation: Locked
    turn: Running
    decision: Decision
    asked: Sequence[Attempt]
    state: str
    said: tuple[Outgoing, Author] | None
    preview: str | None

    @property
    def handed_over(self) -> bool:
        return self.state == "handed_over"

    @property
    def left(self) -> Locked:
        """The conversation as it is behind this end."""
        before = self.conversation
        return replace(
            before,
            turned_number=max(before.turned_number, self.turn.through_number),
            owner=Owner.WAITING if self.handed_over else before.owner,
        )


def ending(
    conversation: Locked,
    turn: Running,
    decision: Decision,
    document: Document,
    asked: Sequence[Attempt] = (),
) -> Ending:
    """Answer or hand over, unless somebody took over."""
    still_ours = conversation.owner_version == turn.owner_version
    said = line = None
    if still_ours:
        decision = concluded(decision, asked, document)
        bot = Author(kind="bot", id=None, name=document.persona.name)
        segments: list[Segment] = [Text(text=decision.answer or document.persona.hand_over_text)]
        message = conversations.outgoing(
            conversation,
            reply_handle=conversation.reply_handle,
            number=conversation.last_number + 1,
            author=bot,
            segments=segments,
        )
        said, line = (message, bot), preview(segments)
    return Ending(
        conversation=conversation,
        turn=turn,
        decision=decision,
        asked=asked,
        state=outcome(decision, still_ours=still_ours),
        said=said,
        preview=line,
    )


async def write(
    session: Session, tenant_id: UUID, endings: Sequence[Ending], *, now: datetime
) -> list[Entry]:
    """Everything that these ends change but the stream, whose entries come back."""
    columns = map(list, zip(*map(_row, endings), strict=True))
    await (await driver(session)).execute(_END, *columns, tenant_id, now)
    said = [one.said for one in endings if one.said is not None]
    created = iter(await conversations.write(session, said, now=now) if said else ())
    entries: list[Entry] = []
    for one in endings:
        if one.said is not None:
            entries.append(next(created))
        if one.handed_over:
            entries.append(_handed_over(session, one))
        if one.state == "dropped" and one.asked and one.asked[-1].answer is not None:
            entries.append(Entry(type="turn.suggested", data=_told(one)))
        entries.append(Entry(type="turn.ended", data=_told(one)))
    if any(one.handed_over for one in endings):
        await leases.call_key(session, ROUTING, tenant_id)
    return entries


def _row(one: Ending) -> tuple[Any, ...]:
    """What the models took counts, answer or not."""
    turn, last = one.turn, one.asked[-1] if one.asked else None
    return (
        turn.conversation_id,
        turn.id,
        turn.number,
        turn.from_number,
        turn.through_number,
        turn.owner_version,
        turn.created_at,
        one.state,
        one.decision.reason if one.state in _REASONED else None,
        UUID(last.provider) if last else None,
        last.model if last else None,
        sum(attempt.prompt_tokens for attempt in one.asked),
        sum(attempt.completion_tokens for attempt in one.asked),
        sum(attempt.latency_ms for attempt in one.asked),
        one.preview,
        one.handed_over,
    )


def _handed_over(session: Session, one: Ending) -> Entry:
    row = one.conversation
    hint(session, conversations.topic(row.channel_id, row.key))
    version = row.owner_version + 1
    waiting = Ownership(owner=Owner.WAITING, member_id=None, version=version)
    return conversations.changed(row.id, waiting, reason=one.decision.reason)


def _told(one: Ending) -> dict[str, Any]:
    return {
        "conversation_id": str(one.turn.conversation_id),
        "turn": one.turn.number,
        "state": one.state,
        "through_number": one.turn.through_number,
    }
