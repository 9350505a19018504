"""A turn that a worker has in hand, and what it comes to; without the ORM."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from control_plane.conversations.models import Owner
from control_plane.kit.ids import new_id
from instance_agent.document import Document


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A conversation that is locked for a transaction, as turns need it.

    `desired` is the revision that counts now, `last_state` the state of its newest turn;
    `rating_id` names the question how it was, while that is open;
    `over_quota`: the tenant had more messages this month than its plan has, None before the first.
    """

    id: UUID
    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID
    key_type: str
    key: str
    owner: str
    owner_version: int
    last_number: int
    heard_number: int
    turned_number: int
    last_turn: int
    reply_handle: str
    trace: bytes | None
    last_message_at: datetime
    desired: int
    last_state: str | None
    tenant_state: str
    over_quota: bool | None
    rating_id: UUID | None


@dataclass(frozen=True, kw_only=True)
class Running:
    """A turn over the messages `from_number` to `through_number`."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    number: int
    from_number: int
    through_number: int
    owner_version: int
    created_at: datetime


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


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What asking one model came to."""

    provider: str
    model: str
    answer: str | None = None
    error_class: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_ms: int = 0
    renewed: bool = False


def has_news(conversation: Locked) -> bool:
    """Whether the contact has said what no turn has dealt with, and the bot is to answer."""
    unheard = conversation.turned_number < conversation.heard_number
    return conversation.owner == Owner.BOT and unheard


def opened(conversation: Locked, *, now: datetime) -> Running:
    """The next turn of a locked conversation."""
    return Running(
        id=new_id(),
        tenant_id=conversation.tenant_id,
        conversation_id=conversation.id,
        number=conversation.last_turn + 1,
        from_number=conversation.turned_number + 1,
        through_number=conversation.heard_number,
        owner_version=conversation.owner_version,
        created_at=now,
    )


def concluded(decision: Decision, asked: Sequence[Attempt], document: Document) -> Decision:
    """With what the models came to; when all failed, as the tenant wishes."""
    if not asked:
        return decision
    if asked[-1].answer is not None:
        return replace(decision, answer=asked[-1].answer)
    if document.llm.on_failure == "text":
        text = document.llm.fallback_text
        return replace(decision, answer=text, reason="model_failed", fell_back=True)
    return replace(decision, reason="model_failed")


def outcome(decision: Decision, *, still_ours: bool) -> str:
    """The state of a turn that has ended."""
    if not still_ours:
        return "dropped"
    if decision.fell_back:
        return "fell_back"
    return "answered" if decision.answer is not None else "handed_over"
