"""Tags, notes and canned replies; links between them are plain rows."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger
from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class Tag(Row, table=True):
    """A word of the tenant's for contacts and conversations."""

    __tablename__ = "tags"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    name: str
    colour: str
    created_at: datetime = Field(sa_type=Timestamp)


class Note(Row, table=True):
    """What a member wrote for the others, about a contact or behind a message of a conversation."""

    __tablename__ = "notes"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    contact_id: UUID
    conversation_id: UUID | None = None
    after_number: int | None = Field(default=None, sa_type=BigInteger)
    author_id: UUID
    author_name: str
    text: str
    created_at: datetime = Field(sa_type=Timestamp)
    edited_at: datetime | None = Field(default=None, sa_type=Timestamp)


class CannedReply(Row, table=True):
    """A text to answer with, a member's own or, without one, everybody's."""

    __tablename__ = "canned_replies"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    member_id: UUID | None = None
    code: str
    title: str
    text: str
    uses: int = 0
    used_at: datetime | None = Field(default=None, sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)
