"""What the routes of providers take and give."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from control_plane.access.schemas import Body
from control_plane.instances.schemas import Name
from instance_agent.document import ProviderKind

# Characters of an address, and of a key; real ones have some dozens.
MAX_URL = 1000
MAX_KEY = 500


def _sendable(key: SecretStr) -> SecretStr:
    """A key travels in a header: no spaces, no lines, no other alphabets."""
    if not all("!" <= sign <= "~" for sign in key.get_secret_value()):
        raise ValueError("a key has visible ASCII characters only")
    return key


BaseUrl = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_URL, pattern=r"^[!-~]+$"),
]
ApiKey = Annotated[
    SecretStr,
    Field(min_length=1, max_length=MAX_KEY),
    AfterValidator(_sendable),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "writeOnly": True,
            "minLength": 1,
            "maxLength": MAX_KEY,
            "pattern": "^[!-~]+$",
        }
    ),
]


class ProviderIn(Body):
    """`base_url` ends before `/chat/completions` (openai) or `/chat-messages` (dify)."""

    name: Name
    kind: ProviderKind
    base_url: BaseUrl
    api_key: ApiKey | None = None


class ProviderPatch(Body):
    """Only what is given changes; another `base_url` needs its key with it."""

    name: Name | None = None
    base_url: BaseUrl | None = None
    api_key: ApiKey | None = None


class ProviderOut(BaseModel):
    """The key is write-only: `has_key` says whether there is one."""

    id: UUID
    name: str
    kind: ProviderKind
    base_url: str
    has_key: bool
    created_at: datetime
    updated_at: datetime


class ProviderCheckOut(BaseModel):
    """Whether a provider takes our calls, in plain words."""

    works: bool
    detail: str
    latency_ms: int
