"""Turns: one per conversation at a time; what arrives meanwhile makes the next one.

1. `_begin` opens a turn over the messages that have none, or finds the one that a crash left.
2. Each step's result is stored under (turn, step): a turn that is run again does not repeat it.
3. `_end` answers by compare-and-set on `owner_version`: when somebody took over meanwhile, the
   turn is dropped and nothing is sent.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.model import Text
from control_plane.conversations import service as conversations
from control_plane.conversations.models import Conversation, Owner
from control_plane.conversations.ownership import Ownership
from control_plane.conversations.segments import decode, plain_text
from control_plane.conversations.service import Author
from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.ids import new_id
from control_plane.kit.metrics import STAGE_SECONDS
from control_plane.revisions import service as revisions
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants import service as tenants
from control_plane.turns import answers
from control_plane.turns.models import Turn
from instance_agent.protocol import Document

WORK = conversations.TURN
# Messages that one turn looks at; a burst that is longer is answered by its end.
_MAX_MESSAGES = 50

_SAID = """
SELECT segments FROM messages
WHERE conversation_id = $1 AND number BETWEEN $2 AND $3 AND sender_kind = 'contact'
ORDER BY number DESC LIMIT $4
"""
_STEP = "SELECT result FROM turn_steps WHERE turn_id = $1 AND step = $2"
_KEEP_STEP = """
INSERT INTO turn_steps (turn_id, step, tenant_id, result, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a turn came to: an answer from the list, or None to hand over for a reason."""

    answer: str | None
    question: str | None
    score: float
    reason: str = "no_answer"


class Turns:
    """Runs the bot's turns."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self, lease: Lease) -> timedelta | None:
        """Work handler: one turn of a conversation."""
        turn = await self._begin(lease)
        if not isinstance(turn, Turn):
            return turn
        decision = await self._decide(lease, turn)
        more = await self._end(lease, turn, decision)
        return timedelta(0) if more else None

    async def _begin(self, lease: Lease) -> Turn | timedelta | None:
        """The turn to run; a pause while the tenant is not active, None without news."""
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            pause = await tenants.rest(session, lease.tenant_id)
            if pause is not None:
                return pause
            conversation = await conversations.lock(session, lease.key)
            tracing.follow(conversation.trace)
            turn = await _running(session, conversation)
            if turn is None and _has_news(conversation):
                turn = _open(conversation, self._clock)
                waited = turn.created_at - conversation.last_message_at
                STAGE_SECONDS.labels("turn_wait").observe(max(0.0, waited.total_seconds()))
                session.add_all([conversation, turn])
                await session.flush()
            await leases.hold(session, lease)
        return turn

    async def _decide(self, lease: Lease, turn: Turn) -> Decision:
        """The step `answer`: look the newest question up in the list."""
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            connection = await driver(session)
            known = await connection.fetchval(_STEP, turn.id, "answer")
            if known is not None:
                return Decision(**json.loads(known))
            rows = await connection.fetch(
                _SAID, lease.key, turn.from_number, turn.through_number, _MAX_MESSAGES
            )
            if await quota.over_messages(session, lease.tenant_id, now=self._clock.now()):
                decision = Decision(answer=None, question=None, score=0.0, reason="over_quota")
            else:
                document = await _document(session, lease.key)
                decision = await _look_up(session, [row["segments"] for row in rows], document)
            await connection.execute(
                _KEEP_STEP,
                turn.id,
                "answer",
                lease.tenant_id,
                json.dumps(decision.__dict__),
                self._clock.now(),
            )
            await leases.hold(session, lease)
        return decision

    async def _end(self, lease: Lease, turn: Turn, decision: Decision) -> bool:
        """Answer or hand over, unless somebody took over; whether there is more to do."""
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            conversation = await conversations.lock(session, lease.key)
            still_ours = conversation.owner_version == turn.owner_version
            entries: list[Entry] = []
            # A person who was there and left again has dealt with more than this turn saw.
            conversation.turned_number = max(conversation.turned_number, turn.through_number)
            if still_ours:
                document = await _document(session, lease.key)
                entries = await self._answer(session, conversation, decision, document)
            turn.state = _outcome(still_ours, decision)
            turn.ended_at = now
            session.add(conversation)
            await session.merge(turn)
            await session.flush()
            await leases.hold(session, lease)
            await stream.append(session, lease.tenant_id, [*entries, _entry(turn)])
        return _has_news(conversation)

    async def _answer(
        self,
        session: AsyncSession,
        conversation: Conversation,
        decision: Decision,
        document: Document,
    ) -> list[Entry]:
        bot = Author(kind="bot", id=None, name=document.persona.name)
        text = decision.answer or document.persona.hand_over_text
        _id, said = await conversations.say(
            session, conversation, author=bot, segments=[Text(text=text)], now=self._clock.now()
        )
        if decision.answer is not None:
            return [said]
        waiting = Ownership(
            owner=Owner.WAITING, member_id=None, version=conversation.owner_version + 1
        )
        handed = await conversations.own(session, conversation, waiting, reason=decision.reason)
        return [said, handed]


def _has_news(conversation: Conversation) -> bool:
    unheard = conversation.turned_number < conversation.heard_number
    return conversation.owner == Owner.BOT and unheard


def _open(conversation: Conversation, clock: Clock) -> Turn:
    conversation.last_turn += 1
    return Turn(
        id=new_id(),
        tenant_id=conversation.tenant_id,
        conversation_id=conversation.id,
        number=conversation.last_turn,
        from_number=conversation.turned_number + 1,
        through_number=conversation.heard_number,
        owner_version=conversation.owner_version,
        created_at=clock.now(),
    )


async def _running(session: AsyncSession, conversation: Conversation) -> Turn | None:
    found = await session.exec(
        select(Turn).where(Turn.conversation_id == conversation.id, col(Turn.state) == "running")
    )
    return found.one_or_none()


async def _document(session: AsyncSession, conversation_id: UUID) -> Document:
    """What people wrote for this bot, as published last."""
    instance_id = await (await driver(session)).fetchval(
        "SELECT instance_id FROM conversations WHERE id = $1", conversation_id
    )
    state = await revisions.standing(session, instance_id)
    return Document.model_validate(await revisions.document_of(session, instance_id, state.desired))


async def _look_up(session: AsyncSession, said: list[Any], document: Document) -> Decision:
    """Newest message first: in a burst the last line is usually the question."""
    best: answers.Match | None = None
    for segments in said:
        match = await answers.best(session, plain_text(decode(segments)))
        if match is not None and (best is None or match.score > best.score):
            best = match
        if best is not None and best.score >= document.rules.answer_threshold:
            return Decision(answer=best.answer, question=best.question, score=best.score)
    return Decision(answer=None, question=None, score=best.score if best else 0.0)


def _outcome(still_ours: bool, decision: Decision) -> str:
    if not still_ours:
        return "dropped"
    return "answered" if decision.answer is not None else "handed_over"


def _entry(turn: Turn) -> Entry:
    data = {
        "conversation_id": str(turn.conversation_id),
        "turn": turn.number,
        "state": turn.state,
        "through_number": turn.through_number,
    }
    return Entry(type="turn.ended", data=data)
