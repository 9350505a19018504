"""The question-and-answer list, and the turns of the bot."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Text
from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class Answer(Row, table=True):
    """One question of the tenant's list; `grams` are what it is found by."""

    __tablename__ = "answers"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    position: int
    question: str
    answer: str
    grams: list[str] = Field(sa_type=ARRAY(Text))
    created_at: datetime = Field(sa_type=Timestamp)


class Turn(Row, table=True):
    """What the bot does between messages and its answer: numbers `from` to `through`.

    Tokens and time are of all models that were asked; `model` is the last of them.
    """

    __tablename__ = "turns"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    conversation_id: UUID
    number: int
    from_number: int
    through_number: int
    owner_version: int
    state: str = "running"
    reason: str | None = None
    provider_id: UUID | None = None
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_ms: int = 0
    created_at: datetime = Field(sa_type=Timestamp)
    ended_at: datetime | None = Field(default=None, sa_type=Timestamp)
