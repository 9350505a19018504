"""Turns: one per conversation at a time; what arrives meanwhile makes the next one.

1. `_begin` opens a turn over the messages that have none, or finds the one that a crash left.
2. Each step's result is stored under (turn, step): a turn that is run again does not repeat it.
3. What the list does not answer is put to models (`asking`), where the tenant has any.
4. `_end` answers by compare-and-set on `owner_version`: when somebody took over meanwhile, the
   turn is dropped and nothing is sent; what a model said stays as a suggestion.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
from control_plane.instances.client import AgentClient
from control_plane.kit import tracing
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.kit.metrics import STAGE_SECONDS
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants import service as tenants
from control_plane.turns import answers, documents, steps
from control_plane.turns.asking import Asking, Attempt
from control_plane.turns.models import Turn
from instance_agent.protocol import Document

WORK = conversations.TURN
# Ends that need a word of why.
_REASONED = frozenset({"handed_over", "fell_back"})
# Messages that one turn looks at; a burst that is longer is answered by its end.
_MAX_MESSAGES = 50

_SAID = """
SELECT segments FROM messages
WHERE conversation_id = $1 AND number BETWEEN $2 AND $3 AND sender_kind = 'contact'
ORDER BY number DESC LIMIT $4
"""
# A talker without end does not put the answer off for ever: so many quiet times, no more.
_QUIET_TIMES = 4
_QUIET = """
SELECT coalesce((r.document -> 'rules' ->> 'quiet_s')::float8, 0) FROM conversations AS c
JOIN config_states AS s ON s.instance_id = c.instance_id
LEFT JOIN revisions AS r ON r.instance_id = s.instance_id AND r.number = s.desired
WHERE c.id = $1
"""
_SPOKE = """
SELECT min(created_at) AS first, max(created_at) AS last FROM messages
WHERE conversation_id = $1 AND number > $2 AND sender_kind = 'contact'
"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a turn came to: an answer, or None to hand over for a reason.

    `ask`: the list has none, and there are models; `fell_back`: none of them had one either.
    """

    answer: str | None
    question: str | None
    score: float
    reason: str = "no_answer"
    ask: bool = False
    fell_back: bool = False


class Turns:
    """Runs the bot's turns."""

    def __init__(
        self, database: Database, keys: Keyring, clock: Clock, agents: AgentClient
    ) -> None:
        self._database = database
        self._clock = clock
        self._asking = Asking(database, keys, clock, agents)

    async def run(self, lease: Lease) -> timedelta | None:
        """Work handler: one turn of a conversation."""
        turn = await self._begin(lease)
        if not isinstance(turn, Turn):
            return turn
        decision = await self._decide(lease, turn)
        asked = await self._asking.ask(lease, turn) if decision.ask else []
        if isinstance(asked, timedelta):
            return asked
        more = await self._end(lease, turn, decision, asked)
        return timedelta(0) if more else None

    async def _begin(self, lease: Lease) -> Turn | timedelta | None:
        """The turn to run; a pause while the tenant rests or somebody talks, None without news."""
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            pause = await tenants.rest(session, lease.tenant_id)
            if pause is not None:
                return pause
            conversation = await conversations.lock(session, lease.key)
            tracing.follow(conversation.trace)
            turn = await _running(session, conversation)
            if turn is None and _has_news(conversation):
                pause = await _talking(session, conversation, self._clock)
                if pause is not None:
                    return pause
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
            known = await steps.known(session, turn, "answer")
            if known is not None:
                return Decision(**known)
            rows = await connection.fetch(
                _SAID, lease.key, turn.from_number, turn.through_number, _MAX_MESSAGES
            )
            if await quota.over_messages(session, lease.tenant_id, now=self._clock.now()):
                decision = Decision(answer=None, question=None, score=0.0, reason="over_quota")
            else:
                document = await documents.of(session, lease.key)
                decision = await _look_up(session, [row["segments"] for row in rows], document)
            await steps.keep(session, turn, "answer", asdict(decision), now=self._clock.now())
            await leases.hold(session, lease)
        return decision

    async def _end(
        self, lease: Lease, turn: Turn, decision: Decision, asked: Sequence[Attempt] = ()
    ) -> bool:
        """Answer or hand over, unless somebody took over; whether there is more to do."""
        now = self._clock.now()
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            conversation = await conversations.lock(session, lease.key)
            still_ours = conversation.owner_version == turn.owner_version
            entries: list[Entry] = []
            # A person who was there and left again has dealt with more than this turn saw.
            conversation.turned_number = max(conversation.turned_number, turn.through_number)
            if still_ours:
                document = await documents.of(session, lease.key)
                decision = _concluded(decision, asked, document)
                entries = await self._answer(session, conversation, decision, document)
            turn.state = _outcome(still_ours, decision)
            turn.reason = decision.reason if turn.state in _REASONED else None
            turn.ended_at = now
            _account(turn, asked)
            if not still_ours and asked and asked[-1].answer is not None:
                entries = [Entry(type="turn.suggested", data=_told(turn))]
            entries.append(Entry(type="turn.ended", data=_told(turn)))
            session.add(conversation)
            await session.merge(turn)
            await session.flush()
            await leases.hold(session, lease)
            await stream.append(session, lease.tenant_id, entries)
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


async def _talking(
    session: AsyncSession, conversation: Conversation, clock: Clock
) -> timedelta | None:
    """How long to wait for whoever may still be writing; None without a quiet time."""
    connection = await driver(session)
    quiet = timedelta(seconds=await connection.fetchval(_QUIET, conversation.id) or 0)
    if not quiet:
        return None
    spoke = await connection.fetchrow(_SPOKE, conversation.id, conversation.turned_number)
    if spoke["first"] is None:
        return None
    until = min(spoke["last"] + quiet, spoke["first"] + _QUIET_TIMES * quiet)
    left: timedelta = until - clock.now()
    return left if left > timedelta(0) else None


def _concluded(decision: Decision, asked: Sequence[Attempt], document: Document) -> Decision:
    """With what the models came to; when all failed, as the tenant wishes."""
    if not asked:
        return decision
    if asked[-1].answer is not None:
        return replace(decision, answer=asked[-1].answer)
    if document.llm.on_failure == "text":
        text = document.llm.fallback_text
        return replace(decision, answer=text, reason="model_failed", fell_back=True)
    return replace(decision, reason="model_failed")


def _account(turn: Turn, asked: Sequence[Attempt]) -> None:
    """What the models took, answer or not."""
    if not asked:
        return
    turn.provider_id = UUID(asked[-1].provider)
    turn.model = asked[-1].model
    turn.prompt_tokens = sum(attempt.prompt_tokens for attempt in asked)
    turn.completion_tokens = sum(attempt.completion_tokens for attempt in asked)
    turn.latency_ms = sum(attempt.latency_ms for attempt in asked)


async def _look_up(session: AsyncSession, said: list[Any], document: Document) -> Decision:
    """Newest message first: in a burst the last line is usually the question."""
    best: answers.Match | None = None
    for segments in said:
        match = await answers.best(session, plain_text(decode(segments)))
        if match is not None and (best is None or match.score > best.score):
            best = match
        if best is not None and best.score >= document.rules.answer_threshold:
            return Decision(answer=best.answer, question=best.question, score=best.score)
    return Decision(
        answer=None,
        question=None,
        score=best.score if best else 0.0,
        ask=bool(document.llm.models),
    )


def _outcome(still_ours: bool, decision: Decision) -> str:
    if not still_ours:
        return "dropped"
    if decision.fell_back:
        return "fell_back"
    return "answered" if decision.answer is not None else "handed_over"


def _told(turn: Turn) -> dict[str, Any]:
    return {
        "conversation_id": str(turn.conversation_id),
        "turn": turn.number,
        "state": turn.state,
        "through_number": turn.through_number,
    }
