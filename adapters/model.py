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


class Ref(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where bytes are: `via` says who keeps them, `media` for our own store.

    `more` holds what fetching needs besides the id; it never leaves the agent.
    """

    via: str
    id: str
    more: dict[str, str] = field(default_factory=dict)


class Markdown(Struct, tag="markdown", frozen=True, kw_only=True, omit_defaults=True):
    """Formatted text; only sent, never received."""

    text: str
    title: str | None = None


class Image(Struct, tag="image", frozen=True, kw_only=True, omit_defaults=True):
    """A picture; `size` in bytes."""

    ref: Ref
    name: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None


class Voice(Struct, tag="voice", frozen=True, kw_only=True, omit_defaults=True):
    """Spoken words; `ref` is missing where the platform gives the transcript alone."""

    ref: Ref | None = None
    format: str | None = None
    duration_ms: int | None = None
    transcript: str | None = None


class Video(Struct, tag="video", frozen=True, kw_only=True, omit_defaults=True):
    """A film."""

    ref: Ref
    thumb: Ref | None = None
    name: str | None = None
    format: str | None = None
    duration_ms: int | None = None
    width: int | None = None
    height: int | None = None


class File(Struct, tag="file", frozen=True, kw_only=True, omit_defaults=True):
    """Any other file; `name` is the sender's and not to be trusted, `size` in bytes."""

    ref: Ref
    name: str | None = None
    size: int | None = None


class At(Struct, tag="at", frozen=True, kw_only=True, omit_defaults=True):
    """Somebody is addressed: an id of the platform, or `all`."""

    target: str
    name: str | None = None
    is_self: bool = False


class Reply(Struct, tag="reply", frozen=True, kw_only=True, omit_defaults=True):
    """What the message answers; the first segment, if there is one."""

    message_id: str | None = None
    quoted: list["Segment"] = field(default_factory=list)


class Face(Struct, tag="face", frozen=True, kw_only=True, omit_defaults=True):
    """A small picture of the platform's own set."""

    id: str
    text: str | None = None


class Sticker(Struct, tag="sticker", frozen=True, kw_only=True, omit_defaults=True):
    """A large one."""

    ref: Ref
    text: str | None = None


class Location(Struct, tag="location", frozen=True, kw_only=True, omit_defaults=True):
    """A place, in degrees."""

    lat: float
    lon: float
    title: str | None = None
    address: str | None = None


class Link(Struct, tag="link", frozen=True, kw_only=True, omit_defaults=True):
    """A page on the web."""

    url: str
    title: str | None = None
    desc: str | None = None
    image: str | None = None


class Card(Struct, tag="card", frozen=True, kw_only=True, omit_defaults=True):
    """Something of the platform's own form; `text` is what it says in words."""

    format: str
    data: str | None = None
    text: str | None = None


class BusinessCard(Struct, tag="contact", frozen=True, kw_only=True):
    """Somebody's business card, or a group's."""

    contact_type: Literal["user", "group"]
    id: str


class Forward(Struct, tag="forward", frozen=True, kw_only=True):
    """Messages from elsewhere, which must be fetched."""

    ref: Ref


Segment = (
    Text
    | Markdown
    | Image
    | Voice
    | Video
    | File
    | At
    | Reply
    | Face
    | Sticker
    | Location
    | Link
    | Card
    | BusinessCard
    | Forward
    | Unsupported
)


def in_words(segment: Segment) -> str:  # noqa: C901 - one line a kind
    """What a segment says where only text can be shown: lists, plain platforms, logs of a talk."""
    match segment:
        case Text() | Markdown():
            return segment.text
        case Voice():
            return segment.transcript or "[voice]"
        case File() | Video() | Image():
            kind = type(segment).__name__.lower()
            return f"[{kind} {segment.name}]" if segment.name else f"[{kind}]"
        case At():
            return f"@{segment.name or segment.target}"
        case Reply():
            return ""
        case Face() | Sticker():
            return segment.text or f"[{type(segment).__name__.lower()}]"
        case Location():
            place = " ".join(part for part in (segment.title, segment.address) if part)
            return place or f"{segment.lat}, {segment.lon}"
        case Link():
            return f"{segment.title} {segment.url}" if segment.title else segment.url
        case Card():
            return segment.text or "[card]"
        case BusinessCard():
            return f"[{segment.contact_type} {segment.id}]"
        case Forward():
            return "[forwarded messages]"
        case Unsupported():
            return segment.text or f"[{segment.platform_type}]"


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
    `occurred_at` is in Unix seconds. `reply_handle` is whatever a passive reply needs. `app` names
    the receiving application where one credential serves several; it stays in the agent. `raw` is
    what the platform sent, without secrets, where we cannot carry all of it (`adapters.raw`).
    """

    dedupe_key: str
    message_id: str
    occurred_at: float
    conversation: ConversationKey
    sender: Sender
    segments: list[Segment]
    mentions_bot: bool = True
    reply_handle: dict[str, str] = field(default_factory=dict)
    app: dict[str, str] = field(default_factory=dict)
    raw: str = ""


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
    """A URL check, whose `answer` proves that we hold the secret, or a call that says nothing.

    There is no message in it, so nothing is kept.
    """

    answer: CallbackAnswer


class Rejected(Struct, frozen=True, kw_only=True):
    """Not from the platform, or too old: never stored, wakes nobody. `reason` names no secret.

    `status` is for kinds whose platform wants to hear 401 where there was no proof at all.
    """

    reason: str
    status: Literal[401, 403] = 403


Verification = Verified | Challenge | Rejected
