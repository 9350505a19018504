"""What turns come to by themselves: the newest question on the tenant's list, or a person."""

from collections.abc import Sequence

from control_plane.conversations.segments import decode, plain_text
from control_plane.db.session import Session
from control_plane.turns import answers
from control_plane.turns.answers import Match
from control_plane.turns.running import Decision
from instance_agent.document import Document

OVER_QUOTA = Decision(answer=None, question=None, score=0.0, reason="over_quota")


async def look_up(
    session: Session, asked: Sequence[tuple[Sequence[str], Document]]
) -> list[Decision]:
    """For each: messages, newest first, since in a burst the last line is usually the question."""
    best: list[Match | None] = [None] * len(asked)
    left = [n for n, (said, _) in enumerate(asked) if said]
    depth = 0
    while left:
        questions = [plain_text(decode(asked[n][0][depth])) for n in left]
        for n, match in zip(left, await answers.best_of(session, questions), strict=True):
            best[n] = max(best[n], match, key=_score)
        depth += 1
        left = [n for n in left if depth < len(asked[n][0]) and not _fits(best[n], asked[n][1])]
    return [_decision(match, document) for match, (_, document) in zip(best, asked, strict=True)]


def _score(match: Match | None) -> float:
    return -1.0 if match is None else match.score


def _fits(match: Match | None, document: Document) -> bool:
    return match is not None and match.score >= document.rules.answer_threshold


def _decision(match: Match | None, document: Document) -> Decision:
    if match is not None and _fits(match, document):
        return Decision(answer=match.answer, question=match.question, score=match.score)
    score = match.score if match else 0.0
    return Decision(answer=None, question=None, score=score, ask=bool(document.llm.models))
