"""What the blacklist's routes take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from control_plane.access.schemas import Body
from control_plane.access.view import Words
from control_plane.kit.given import Moment

# Characters of a person's id at a platform: as many as of one who writes.
MAX_PLATFORM_ID = 500
# Characters of what members write to themselves about it.
MAX_REASON = 500
# Entries that one call adds, and that it removes: a delta still carries them.
MAX_BULK = 500

PlatformId = Annotated[str, Field(min_length=1, max_length=MAX_PLATFORM_ID)]


class EntryIn(Body):
    """Who is not to be heard: a `platform_id`, or the `contact_id` of somebody who wrote.

    With neither `instance_id` nor `channel_id` it is for all of the tenant's bots. Without `kind`
    it is for all kinds of channels, for a contact for their channel's kind.
    """

    platform_id: PlatformId | None = None
    contact_id: UUID | None = None
    kind: str | None = Field(default=None, min_length=1, max_length=40)
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    expires_at: Moment | None = None


class EntryOut(BaseModel):
    """`hits` are the messages that it kept away, told by the bots in sums; `kind` null is all."""

    id: UUID
    platform_id: Words
    kind: str | None
    instance_id: UUID | None
    channel_id: UUID | None
    reason: Words | None
    author_id: UUID
    author_name: str
    version: int
    hits: int
    hit_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class BulkIn(Body):
    """All of it happens, or nothing. What is listed already is changed; unknown ids are gone."""

    add: list[EntryIn] = Field(default_factory=list, max_length=MAX_BULK)
    remove: list[UUID] = Field(default_factory=list, max_length=MAX_BULK)


class BulkOut(BaseModel):
    """How many entries are new, were changed and are gone, and the list's version now."""

    added: int
    changed: int
    removed: int
    version: int


class BlacklistOut(BaseModel):
    """Where the list stands: bots that have another `version` are about to get this one."""

    version: int
    entries: int
    limit: int
