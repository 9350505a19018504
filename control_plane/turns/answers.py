"""The tenant's question-and-answer list: kept in PostgreSQL, found there, no model asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.access import audit
from control_plane.access.permissions import Actor
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Invalid
from control_plane.kit.ids import new_id
from control_plane.turns import matching
from control_plane.turns.models import Answer
from control_plane.turns.schemas import AnswerItem

# No sound has a line break in it.
_MATCHES = """
SELECT i.grams, m.question, m.answer, m.score FROM unnest($1::text[]) AS i (grams)
CROSS JOIN LATERAL answer_matches(string_to_array(i.grams, E'\\n'), 1) AS m
"""


@dataclass(frozen=True, kw_only=True)
class Match:
    """The entry most like a question; `score` from 0 to 1."""

    question: str
    answer: str
    score: float


async def list_answers(session: AsyncSession, *, after: int | None, limit: int) -> Sequence[Answer]:
    """The list in its order; one more than `limit` when there are more."""
    query = select(Answer).order_by(col(Answer.position)).limit(limit + 1)
    if after is not None:
        query = query.where(Answer.position > after)
    return (await session.exec(query)).all()


async def replace(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    items: Sequence[AnswerItem],
    actor: Actor | None,
    now: datetime,
) -> None:
    """Put a new list in the place of the old one, at once."""
    _check(items)
    # Two editors at once: the later one waits, and its list stands whole.
    await (await driver(session)).execute(
        "SELECT 1 FROM tenants WHERE id = $1 FOR UPDATE", tenant_id
    )
    await session.exec(delete(Answer).where(col(Answer.tenant_id) == tenant_id))
    session.add_all(
        Answer(
            id=new_id(),
            tenant_id=tenant_id,
            position=position,
            question=item.question,
            answer=item.answer,
            grams=matching.grams(item.question),
            created_at=now,
        )
        for position, item in enumerate(items, start=1)
    )
    audit.record(
        session,
        actor=actor,
        tenant_id=tenant_id,
        action="answers.replace",
        target=("tenant", tenant_id),
        now=now,
        after={"entries": len(items)},
    )
    await session.flush()


async def best(session: Session, question: str) -> Match | None:
    """The entry most like `question`, if any shares a sound with it."""
    [found] = await best_of(session, [question])
    return found


async def best_of(session: Session, questions: Sequence[str]) -> list[Match | None]:
    """For each question the entry most like it, if any shares a sound with it."""
    asked = ["\n".join(matching.grams(question)) for question in questions]
    wanted = {sounds for sounds in asked if sounds}
    if not wanted:
        return [None] * len(asked)
    rows = await (await driver(session)).fetch(_MATCHES, list(wanted))
    found = {
        row["grams"]: Match(question=row["question"], answer=row["answer"], score=row["score"])
        for row in rows
    }
    return [found.get(sounds) for sounds in asked]


def _check(items: Sequence[AnswerItem]) -> None:
    errors = [
        {
            "path": f"/items/{index}/question",
            "code": "no_words",
            "message": "The question has neither letters nor digits.",
        }
        for index, item in enumerate(items)
        if not matching.grams(item.question)
    ]
    if errors:
        raise Invalid("invalid_answers", "Some questions cannot be found.", errors=errors)
