"""Endpoints, and what each is to be told."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Text
from sqlmodel import Field

from control_plane.db.types import Row, Timestamp


class WebhookState(StrEnum):
    """Whether an endpoint is called."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class Reason(StrEnum):
    """Why an endpoint is disabled."""

    SWITCHED_OFF = "switched_off"
    GONE = "gone"
    FAILING = "failing"


class MessageState(StrEnum):
    """Where a message stands; `dead` is tried again only when somebody asks for it."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


class Webhook(Row, table=True):
    """An endpoint; what is behind (epoch, seq) in the tenant's stream it has not seen yet."""

    __tablename__ = "webhooks"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    url: str
    description: str = ""
    events: list[str] = Field(sa_type=ARRAY(Text))
    state: str = WebhookState.ENABLED
    reason: str | None = None
    secret: bytes
    old_secret: bytes | None = None
    old_secret_until: datetime | None = Field(default=None, sa_type=Timestamp)
    epoch: int = Field(sa_type=BigInteger)
    seq: int = Field(sa_type=BigInteger)
    failing_since: datetime | None = Field(default=None, sa_type=Timestamp)
    rest_until: datetime | None = Field(default=None, sa_type=Timestamp)
    created_at: datetime = Field(sa_type=Timestamp)
    updated_at: datetime = Field(sa_type=Timestamp)


class WebhookMessage(Row, table=True):
    """What one endpoint is to be told of one stream entry; the id is the same in every attempt."""

    __tablename__ = "webhook_messages"

    id: UUID = Field(primary_key=True)
    tenant_id: UUID
    webhook_id: UUID
    epoch: int = Field(sa_type=BigInteger)
    seq: int = Field(sa_type=BigInteger)
    type: str
    body: str
    state: str = MessageState.PENDING
    attempts: int = 0
    due_at: datetime = Field(sa_type=Timestamp)
    ended_at: datetime | None = Field(default=None, sa_type=Timestamp)
    last_status: int | None = None
    last_error: str | None = None
    created_at: datetime = Field(sa_type=Timestamp)
