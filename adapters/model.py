"""The neutral model: what every platform's messages become, and what a callback may turn out to be.

Plain values only. Both the agent (which decodes) and the control plane (which verifies callbacks
while an agent is away, and stores segments) read this module.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field


class Text(Struct, tag="text", frozen=True, kw_only=True):
    """Plain text, verbatim; never empty."""

    text: str


class Unsupported(Struct, tag="unsupported", frozen=True, kw_only=True, omit_defaults=True):
    """Something the platform sent that we cannot carry; never dropped in silence."""

    platform_type: str
    text: str | None = None
    reason: str | None = None


Segment = Text | Unsupported


class ConversationKey(Struct, frozen=True, kw_only=True):
    """Where a message was said, in the platform's own words."""

    type: Literal["direct", "group", "channel"]
    id: str


class Sender(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who said it: the platform's id, and a name where the platform gives one."""

    id: str
    name: str | None = None


class Author(Struct, frozen=True, kw_only=True):
    """Who says it, for platforms that can show it."""

    kind: Literal["bot", "human", "system"] = "bot"
    name: str = ""


class Inbound(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message from a platform.

    `dedupe_key` is the platform's own notion of sameness: a redelivery repeats it.
    `occurred_at` is in Unix seconds. `reply_handle` is whatever a passive reply needs.
    """

    dedupe_key: str
    message_id: str
    occurred_at: float
    conversation: ConversationKey
    sender: Sender
    segments: list[Segment]
    mentions_bot: bool = True
    reply_handle: dict[str, str] = field(default_factory=dict)


class RawCallback(Struct, frozen=True, kw_only=True):
    """A platform's HTTP call as it arrived: verify over these bytes, parse only afterwards.

    Header names are lower case. `received_at` is in Unix seconds.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    received_at: float


class CallbackAnswer(Struct, frozen=True, kw_only=True):
    """What the platform gets back."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"


class Verified(Struct, frozen=True, kw_only=True):
    """The platform really sent this; `answer` is what it takes as "received"."""

    answer: CallbackAnswer


class Challenge(Struct, frozen=True, kw_only=True):
    """A URL check: `answer` proves that we hold the secret. There is no message in it."""

    answer: CallbackAnswer


class Rejected(Struct, frozen=True, kw_only=True):
    """Not from the platform, or too old: never stored, wakes nobody. `reason` names no secret."""

    reason: str


Verification = Verified | Challenge | Rejected
