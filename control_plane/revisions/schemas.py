"""What the revision routes take and give."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from control_plane.access.schemas import Body

# What the database's integer holds.
MAX_NUMBER = 2**31 - 1

Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


class RevisionIn(Body):
    """Sections that are left out have their defaults. `channels` have rows of their own."""

    document: dict[str, Any]
    note: Note = ""


class RollbackIn(Body):
    """Which revision's document to publish again."""

    number: int = Field(ge=0, le=MAX_NUMBER)


class RevisionOut(BaseModel):
    id: UUID
    instance_id: UUID
    number: int
    document: dict[str, Any]
    state: str
    note: str
    reverts: int | None
    created_at: datetime
    published_at: datetime | None


class WrongOut(BaseModel):
    """One thing wrong; `path` is a JSON pointer into the document."""

    path: str
    code: str
    message: str


class StandingOut(BaseModel):
    """Revision numbers; 0 is the built-in default, null means never."""

    desired: int
    delivered: int | None
    applied: int | None
    last_good: int | None
    rejected: int | None
    errors: list[WrongOut]
    pending_restart: bool


class RevisionsOut(BaseModel):
    """A page of revisions, newest first, and where the bot stands."""

    items: list[RevisionOut]
    next: str | None
    standing: StandingOut


class ChangeOut(BaseModel):
    """One difference; a side that is absent is null."""

    path: str
    before: Any
    after: Any


class DiffOut(BaseModel):
    """What `number` changes against `against`."""

    number: int
    against: int
    changes: list[ChangeOut]
