"""What the routes of contacts, tags, notes and canned replies take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.conversations.schemas import ContactOut, Preview, TagOut

# Characters of what members call a contact, and of a field's name and value.
MAX_REMARK, MAX_FIELD_NAME, MAX_FIELD = 200, 40, 500
# Fields of one contact: as many as a panel beside the chat can show.
MAX_FIELDS = 20
# Characters of a tag's name, of a note, and of a canned reply's code, title and text.
MAX_TAG_NAME, MAX_NOTE = 40, 4000
MAX_CODE, MAX_TITLE, MAX_CANNED = 40, 100, 4000
# Members that one note calls.
MAX_MENTIONS = 20

Colour = Literal["grey", "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"]
FieldName = Annotated[str, StringConstraints(max_length=MAX_FIELD_NAME, pattern=r"\S")]
FieldValue = Annotated[str, StringConstraints(min_length=1, max_length=MAX_FIELD)]
NoteText = Annotated[str, StringConstraints(max_length=MAX_NOTE, pattern=r"\S")]
TagName = Annotated[str, StringConstraints(max_length=MAX_TAG_NAME, pattern=r"\S")]
Code = Annotated[str, StringConstraints(max_length=MAX_CODE, pattern=r"^[^\s/]+$")]
Title = Annotated[str, StringConstraints(max_length=MAX_TITLE, pattern=r"\S")]
CannedText = Annotated[str, StringConstraints(max_length=MAX_CANNED, pattern=r"\S")]


# --- contacts ----------------------------------------------------------------------------------


class ContactEntryOut(ContactOut):
    """A contact in a list; `seen_at` is when they were heard last."""

    channel_id: UUID
    channel_kind: str
    tags: list[TagOut]
    created_at: datetime
    seen_at: datetime


class ContactTalkOut(BaseModel):
    """A conversation of a contact's, in short."""

    id: UUID
    channel_id: UUID
    owner: str
    last_number: int
    last_message_at: datetime
    preview: Preview
    created_at: datetime


class ContactDetailOut(ContactEntryOut):
    """With what members wrote down, and the newest of their conversations."""

    platform_id: Words
    channel_name: str
    fields: dict[str, Words]
    conversations: list[ContactTalkOut]


class ContactPatch(Body):
    """What is left out stays. A `remark` of null, and a field of null, are removed."""

    remark: Annotated[str, StringConstraints(max_length=MAX_REMARK, pattern=r"\S")] | None = None
    fields: dict[FieldName, FieldValue | None] | None = Field(
        default=None, max_length=2 * MAX_FIELDS
    )


# --- tags --------------------------------------------------------------------------------------


class TagIn(Body):
    name: TagName
    colour: Colour = "grey"


class TagPatch(Body):
    name: TagName | None = None
    colour: Colour | None = None


class TagListOut(BaseModel):
    """The tags that a contact or a conversation has now, by name."""

    items: list[TagOut]


# --- notes -------------------------------------------------------------------------------------


class AuthorOut(BaseModel):
    """Who wrote it, by the name of then."""

    id: UUID
    name: str


class NoteOut(BaseModel):
    """For members alone. In a conversation it stands behind message `after_number`."""

    id: UUID
    contact_id: UUID
    conversation_id: UUID | None
    after_number: int | None
    author: AuthorOut
    text: Words
    mentions: list[UUID]
    created_at: datetime
    edited_at: datetime | None


class NoteIn(Body):
    text: NoteText


Mentions = Annotated[list[UUID], Field(max_length=MAX_MENTIONS)]


class TalkNoteIn(NoteIn):
    """`mentions` are the members who are called; their inbox shows it."""

    mentions: Mentions = Field(default_factory=list)


class NotePatch(Body):
    """`mentions` only in a conversation; left out, they stay."""

    text: NoteText
    mentions: Mentions | None = None


# --- canned replies ----------------------------------------------------------------------------


class CannedReplyOut(BaseModel):
    """`text` may hold `{contact}` and `{member}`; whoever writes with it puts the names there.

    Without `member_id` it is everybody's.
    """

    id: UUID
    member_id: UUID | None
    code: str
    title: str
    text: str
    uses: int
    used_at: datetime | None
    created_at: datetime
    updated_at: datetime


class CannedReplyIn(Body):
    """`code` is what one types behind the slash."""

    code: Code
    title: Title
    text: CannedText


class CannedReplyPatch(Body):
    code: Code | None = None
    title: Title | None = None
    text: CannedText | None = None
