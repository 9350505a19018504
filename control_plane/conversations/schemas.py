"""What the conversation routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from control_plane.access import view
from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.conversations.segments import PREVIEW_LENGTH, SendableSegments, ShownSegments

Preview = Annotated[str, view.line_for_reader(PREVIEW_LENGTH)]


class ContactOut(BaseModel):
    """`blocked`: on the blacklist, so that the bot of this conversation does not hear them."""

    id: UUID
    name: Words | None
    blocked: bool


class ConversationOut(BaseModel):
    """`owner` is who answers; send `owner_version` back to change it safely."""

    id: UUID
    instance_id: UUID
    channel_id: UUID
    contact: ContactOut
    owner: str
    owner_member_id: UUID | None
    owner_version: int
    waiting_reason: str | None
    last_number: int
    last_message_at: datetime
    preview: Preview
    created_at: datetime


class ConversationStandingOut(ConversationOut):
    """`notice` says in a sentence what does not work at the moment; null while all does."""

    notice: str | None


class SenderOut(BaseModel):
    """`kind` is contact, bot, human or system."""

    kind: str
    id: UUID | None
    name: Words | None


class DeliveryOut(BaseModel):
    """Where an outgoing message stands; derived from the attempts to send it."""

    state: str
    error_class: str | None
    attempts: int


class MessageOut(BaseModel):
    """`number` counts from 1 in each conversation, without gaps."""

    id: UUID
    number: int
    sender: SenderOut
    segments: ShownSegments
    occurred_at: datetime
    created_at: datetime
    delivery: DeliveryOut | None


class FoundMessageOut(MessageOut):
    """And where it was said."""

    conversation_id: UUID
    channel_id: UUID
    contact: ContactOut


class MessageIn(Body):
    segments: SendableSegments


class OwnershipIn(Body):
    """The version that the caller has seen; without it the current one is taken."""

    owner_version: int | None = Field(default=None, ge=1)
