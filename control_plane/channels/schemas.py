"""What the channel routes take and give."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from control_plane.access.schemas import Body
from control_plane.instances.schemas import Name


class ChannelIn(Body):
    """`settings` follow the kind's own schema."""

    kind: str = Field(max_length=40)
    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)


class ChannelKindOut(BaseModel):
    """A kind of channel that can be connected.

    `settings` is a JSON Schema; its properties may carry `title_zh` and `description_zh`, and
    `previous_of` where the server keeps a former value by itself.
    """

    name: str
    title: str
    title_zh: str
    callback: bool = Field(description="Whether its address is entered at the platform.")
    transports: list[str]
    conversations: list[str]
    receives: list[str] = Field(description="What it carries as such, from people.")
    sends: list[str] = Field(description="What it carries as such, to people.")
    settings: dict[str, Any]
    secrets: list[str] = Field(description="The settings that are write-only.")
    generated: list[str] = Field(description="The settings that we make up; nobody enters them.")


class ChannelKindsOut(BaseModel):
    """All kinds that are installed, by name."""

    items: list[ChannelKindOut]


class FindingOut(BaseModel):
    """One thing that was looked at; `ok` is null where it cannot be told now."""

    code: str = Field(
        description="agent, settings, credentials, permission, trusted_address, connection or "
        "callback."
    )
    ok: bool | None
    text: str
    text_zh: str
    path: str | None = Field(description="A JSON pointer into the settings, where one is to blame.")
    at: datetime | None = Field(description="The last proof of life, or the platform's last call.")


class ChannelCheckOut(BaseModel):
    """Whether a channel is ready, and what to do where it is not."""

    ready: bool
    findings: list[FindingOut]
    callback_url: str | None = Field(description="What to enter at the platform, if anything.")


class ChannelPatch(Body):
    """Only what is given changes; a setting given as null goes back to its default."""

    name: Name | None = None
    settings: dict[str, Any] | None = None
    keep_raw: bool | None = Field(
        default=None,
        description="Whether what the platform sent is kept for support, of messages that cannot be"
        " carried whole.",
    )


class GapOut(BaseModel):
    """A time in which nobody was connected, of a platform that says everything once."""

    from_at: datetime
    to_at: datetime
    text: str
    text_zh: str


class ChannelOut(BaseModel):
    """Secrets are write-only: `secrets_set` names those that have a value."""

    id: UUID
    instance_id: UUID
    kind: str
    name: str
    settings: dict[str, Any]
    secrets_set: list[str]
    state: str
    state_reason: str | None
    proof_at: datetime | None
    gaps: list[GapOut] = Field(
        description="When nobody heard it and its platform does not deliver again, newest first; "
        "the last 20."
    )
    keep_raw: bool
    callback_url: str | None = Field(description="What to enter at the platform, if anything.")
    webchat_url: str | None = Field(description="The page to chat on, for web chat.")
    created_at: datetime
