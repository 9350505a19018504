"""What the conversation routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from control_plane.access import view
from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.conversations.segments import PREVIEW_LENGTH, SendableSegments, ShownSegments
from control_plane.kit.paging import Page

# Of messages in one conversation: what JSON's readers take for a whole number.
MAX_NUMBER = 2**53

Preview = Annotated[str, view.line_for_reader(PREVIEW_LENGTH)]


class ContactOut(BaseModel):
    """`remark` is what members call them; it goes before the name that they gave themselves.

    `blocked`: on the blacklist, so that the bot of this conversation does not hear them.
    """

    id: UUID
    name: Words | None
    remark: Words | None
    blocked: bool


class TagOut(BaseModel):
    """`colour` is a name; what it looks like is the theme's affair."""

    id: UUID
    name: str
    colour: str


class PositionOut(BaseModel):
    """A position in the tenant's stream."""

    epoch: int
    seq: int


class ConversationOut(BaseModel):
    """`owner` is who answers; send `owner_version` back to change it safely.

    `waiting_since`: the contact has waited for a person since then. `unread` are the contact's
    messages behind `seen_number`, one's own mark; only the newest 100 messages are counted.
    `mentioned`: somebody calls one by name in a note that one has not seen.
    """

    id: UUID
    instance_id: UUID
    channel_id: UUID
    channel_kind: str
    contact: ContactOut
    owner: str
    owner_member_id: UUID | None
    owner_name: str | None
    owner_version: int
    waiting_reason: str | None
    waiting_since: datetime | None
    last_number: int
    seen_number: int
    unread: int
    mentioned: bool
    tags: list[TagOut]
    last_message_at: datetime
    preview: Preview
    created_at: datetime


class InboxOut(Page[ConversationOut]):
    """What follows in the stream behind `position` may change this page; before it, nothing."""

    position: PositionOut


class CountsOut(BaseModel):
    """How many conversations are in each view; 100 stands for 100 and more."""

    all: int
    mine: int
    unassigned: int
    waiting: int
    bot: int
    closed: int
    mentions: int
    unread_mentions: int
    position: PositionOut


class SeenIn(Body):
    """The last message that was seen, 0 for none, and the last note."""

    number: int = Field(ge=0, le=MAX_NUMBER)
    note_id: UUID | None = None


class SeenOut(BaseModel):
    """Where one's mark is now: never before where it was, nor behind the last message."""

    number: int


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
    """`seen_number` is the last message that the writer has seen: with it, nothing is sent when a
    colleague has answered behind it.
    """

    segments: SendableSegments
    seen_number: int | None = Field(default=None, ge=0, le=MAX_NUMBER)


class OwnershipIn(Body):
    """The version that the caller has seen; without it the current one is taken."""

    owner_version: int | None = Field(default=None, ge=1)
