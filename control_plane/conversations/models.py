"""Contacts, conversations, and what was said."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Computed
from sqlmodel import Field

from control_plane.db.types import Json, Row, Timestamp


class Owner(StrEnum):
    """Who answers: ownership changes by compare-and-set on `owner_version`."""

    BOT = "bot"
    WAITING = "waiting"
    HUMAN = "human"
    CLOSED = "closed"


class Contact(Row, table=True):
    """A person on a platform."""

    __tablename__ = "contacts"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    channel_id: UUID
    platform_id: str
    name: str | None = None
    created_at: datetime = Field(sa_type=Timestamp)
    seen_at: datetime = Field(sa_type=Timestamp)


class Conversation(Row, table=True):
    """Contact and tenant on a channel. Messages are numbered from 1, without gaps.

    `heard_number` is the contact's newest message and `turned_number` the last one that the bot has
    dealt with; `reply_handle` is what a passive reply to the newest message needs.
    """

    __tablename__ = "conversations"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    instance_id: UUID
    channel_id: UUID
    contact_id: UUID
    key_type: str
    key: str
    owner: str = Owner.BOT
    owner_member_id: UUID | None = None
    owner_version: int = 1
    waiting_reason: str | None = None
    waiting_since: datetime | None = Field(default=None, sa_type=Timestamp)
    """The database's own, from the owner and the numbers."""
    last_number: int = 0
    heard_number: int = 0
    turned_number: int = 0
    last_turn: int = 0
    reply_handle: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    trace: bytes | None = None
    preview: str = ""
    last_message_at: datetime = Field(sa_type=Timestamp)
    last_message_hour: datetime | None = Field(
        default=None, sa_type=Timestamp, sa_column_args=[Computed("last_message_at", True)]
    )
    """The database's own; lists are found by it."""
    created_at: datetime = Field(sa_type=Timestamp)


class Message(Row, table=True):
    """One thing that was said."""

    __tablename__ = "messages"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    conversation_id: UUID
    number: int
    sender_kind: str
    sender_id: UUID | None = None
    sender_name: str | None = None
    segments: list[dict[str, Any]] = Field(sa_type=Json)
    platform_id: str | None = None
    trace: bytes | None = None
    occurred_at: datetime = Field(sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
