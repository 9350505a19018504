"""What the answers routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.turns import matching

# Entries of one tenant's list: what a person still keeps in order by hand.
MAX_ANSWERS = 2_000

# PostgreSQL cannot hold U+0000 in text.
_NO_NUL = r"^[^\x00]*$"

Question = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=matching.MAX_LENGTH, pattern=_NO_NUL
    ),
]
Reply = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000, pattern=_NO_NUL),
]


class AnswerItem(Body):
    question: Question
    answer: Reply


class AnswersIn(Body):
    """The whole list; what is not in it is gone."""

    items: Annotated[list[AnswerItem], Field(max_length=MAX_ANSWERS)]


class AnswerOut(BaseModel):
    position: int
    question: str
    answer: str


class AskedOut(BaseModel):
    """One model that a turn asked, and what came of it."""

    provider_id: UUID
    model: str
    error_class: str | None
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int


class TurnOut(BaseModel):
    """What the bot did about the messages `from_number` to `through_number`.

    `suggestion` is what a model said after a person had taken over; it was not sent.
    """

    number: int
    from_number: int
    through_number: int
    state: str
    reason: str | None
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    asked: list[AskedOut]
    suggestion: Words | None
    created_at: datetime
    ended_at: datetime | None


class TurnEntryOut(TurnOut):
    """And where it was."""

    conversation_id: UUID


class SummaryOut(BaseModel):
    """What a model makes of a conversation up to message `through_number`; kept nowhere."""

    text: Words
    model: str
    prompt_tokens: int
    completion_tokens: int
    through_number: int


class SuggestionsOut(BaseModel):
    """One to three texts to reply with; nothing is sent."""

    items: list[Words]
    model: str
    prompt_tokens: int
    completion_tokens: int
    through_number: int
