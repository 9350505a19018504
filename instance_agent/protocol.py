"""The wire contract between control plane and agent: events, sends, configuration, health.

Wire messages are msgspec structs (hot path); the configuration document that some of them carry
is in `instance_agent.document`. Times are RFC 3339 in UTC. Both sides import this module; it
imports nothing but that and the neutral model.
"""

import hashlib
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType, field

from adapters.model import Author as Author
from adapters.model import ConversationKey, Segment, Sender
from instance_agent.document import DocumentError

PROTOCOL_VERSION = 1
# Events in one signed batch: 100 per post carry 73 times as many as one; more gains little.
MAX_BATCH_EVENTS = 100
# Bytes of one signed batch.
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Bytes of one picture, voice, film or file: the most that the platforms take.
MAX_MEDIA_BYTES = 20 * 1024 * 1024
# Entries of one page of the blacklist, and of one delta: some 150 KiB.
MAX_BLACKLIST_PAGE = 1000
# Entries of a tenant's blacklist: some 2 MB of an agent's memory.
MAX_BLACKLIST = 20_000
# Entries that one `message.blocked` counts.
MAX_BLOCKED_HITS = 100

CALLBACK_HEADER = "x-botyard-callback"  # base64url of a CallbackMeta, beside the raw body
ANSWER_HEADER = "x-botyard-answer"  # the platform's status; without it the agent itself failed


# --- configuration ---------------------------------------------------------------------------


class Revision(Struct, frozen=True, kw_only=True):
    """A compiled document under its number."""

    number: int
    sha256: str
    document: dict[str, Any]


class ConfigUpdate(Struct, frozen=True, kw_only=True):
    """Body of POST /astrbot-api/v1/config/update.

    Numbers never go back; the same number comes again with another digest when the channels that
    are compiled into the document have changed.
    """

    revision: int
    sha256: str
    document: dict[str, Any]
    config_type: Literal["document"] = "document"


class ConfigOutcome(Struct, frozen=True, kw_only=True):
    """What became of an update; `revision` is the one that the agent now runs.

    `on_trial`: it runs, and `config.applied` or `config.rejected` will say whether it is good.
    """

    outcome: Literal["applied", "needs_restart", "rejected"]
    revision: int | None
    errors: list[DocumentError] = field(default_factory=list)
    on_trial: bool = False


class ConfigState(Struct, frozen=True, kw_only=True):
    """Answer of GET /astrbot-api/v1/config; numbers and digests only."""

    applied: int | None
    applied_sha256: str | None
    last_good: int | None
    rejected: int | None
    errors: list[DocumentError] = field(default_factory=list)
    on_trial: bool = False
    rejected_sha256: str | None = None


# --- who is not heard ------------------------------------------------------------------------


class BlacklistEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody who is not heard: on one channel, on all of a kind, or, with neither, on all."""

    id: UUID
    platform_id: str
    kind: str = ""
    channel_id: UUID | None = None
    expires_at: datetime | None = None


class BlacklistRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of POST /api/v1/instances/{id}/blacklist, signed like events: the page behind `after`.

    All pages together are the whole list. Its version is that of the first: what changes while
    the others are read comes again with the changes since.
    """

    after: UUID | None = None


class BlacklistPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its answer 200; `next` is missing on the last page. A version of 0: never had one."""

    version: int
    entries: list[BlacklistEntry]
    next: UUID | None = None


class BlacklistUpdate(Struct, frozen=True, kw_only=True):
    """The other body of POST /astrbot-api/v1/config/update: what has changed since `base`.

    An agent that is at another version, or is given no base, pulls the whole list.
    """

    version: int
    base: int | None
    entries: list[BlacklistEntry] = field(default_factory=list)
    removed: list[UUID] = field(default_factory=list)
    config_type: Literal["blacklist"] = "blacklist"


class BlacklistOutcome(Struct, frozen=True, kw_only=True):
    """The version that the agent now has; when it is another, it is about to pull."""

    version: int


# --- identity --------------------------------------------------------------------------------


class BootstrapRequest(Struct, frozen=True, kw_only=True):
    """Body of POST /api/v1/instances/{id}/bootstrap, authorised by the bootstrap token."""

    protocol: int
    schema_version: int
    version: str
    endpoint: str
    journal_id: UUID
    generation: int
    public_key: str = ""  # PEM; of an agent that is called by TLS


class Bootstrap(Struct, frozen=True, kw_only=True):
    """What a new agent needs, given once. `api_token` is what the control plane will present."""

    session_id: UUID
    session_token: str
    api_token: str
    webhook_secrets: list[str]
    heartbeat_s: float
    newest: Revision | None
    last_good: Revision | None
    checkpoints: dict[str, str] = field(default_factory=dict)
    certificate: str = ""  # PEM; for the public key of the request
    refused: list[DocumentError] = field(default_factory=list)  # why one before refused the newest


class SecretsRenewal(Struct, frozen=True, kw_only=True):
    """Body of POST /astrbot-api/v1/secrets: newest first; repeating it changes nothing.

    The agent signs with the first webhook secret from then on. The token of this call goes on to
    count until some time after the new one was shown.
    """

    api_token: str
    webhook_secrets: list[str]


# --- accounts that take one connection -------------------------------------------------------

# "not_active": another session acts for the instance, or none does yet.
LeaseState = Literal["held", "elsewhere", "not_active"]


class LeaseRequest(Struct, frozen=True, kw_only=True):
    """Body of POST /api/v1/instances/{id}/leases, signed like events.

    `accounts` are claimed or held on to, by channel; all others of the session are given back. An
    account is named by the SHA-256 of its kind and of what its platform knows it by. `number` rises
    from one call to the next, so that one that comes late undoes nothing.
    """

    session_id: UUID
    accounts: dict[str, UUID]
    number: int


class LeaseAnswer(Struct, frozen=True, kw_only=True):
    """Its answer 200: what became of each; `life_s` is counted from when the call was begun."""

    accounts: dict[str, LeaseState]
    life_s: float


# --- events up -------------------------------------------------------------------------------

EventType = Literal[
    "message.received",
    "message.blocked",
    "message.failed",
    "channel.status",
    "config.applied",
    "config.rejected",
    "instance.heartbeat",
]


class MessageReceived(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """data of `message.received`."""

    channel_id: UUID
    dedupe_key: str
    message_id: str
    conversation: ConversationKey
    sender: Sender
    segments: list[Segment]
    mentions_bot: bool = True
    reply_handle: dict[str, str] = field(default_factory=dict)
    raw: str = ""


class BlockedHits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many messages one entry kept away; without an entry, several together."""

    count: int
    first_at: datetime
    last_at: datetime
    entry_id: UUID | None = None


class MessageBlocked(Struct, frozen=True, kw_only=True):
    """data of `message.blocked`: counts since the last one, never what was said."""

    channel_id: UUID
    hits: list[BlockedHits]


class MessageFailed(Struct, frozen=True, kw_only=True):
    """data of `message.failed`: what the platform took, and says later that nobody got."""

    channel_id: UUID
    conversation: ConversationKey
    platform_message_id: str
    error_class: str
    detail: str


ChannelState = Literal["connecting", "connected", "failed", "stopped"]


class ChannelStatus(Struct, frozen=True, kw_only=True):
    """data of `channel.status`, and a row of `Health`."""

    channel_id: UUID
    state: ChannelState
    reason: str | None = None
    proof_at: datetime | None = None


class ChannelFault(Struct, frozen=True, kw_only=True):
    """What is wrong with a channel, in plain words; `path` is a JSON pointer into its settings."""

    error_class: str
    detail: str
    path: str = ""


class ChannelCheck(Struct, frozen=True, kw_only=True):
    """Answer of POST /astrbot-api/v1/channels/{id}/check: tried now, and what is known besides.

    `probe`: why the platform does not take the settings; `run`: why the channel is not connected;
    `sends`: why it takes no messages. `probed` is false when no answer came in time.
    """

    status: ChannelStatus
    probed: bool
    probe: ChannelFault | None = None
    run: ChannelFault | None = None
    sends: ChannelFault | None = None


class ConfigApplied(Struct, frozen=True, kw_only=True):
    """data of `config.applied`: it runs, and it is good."""

    revision: int
    sha256: str


class ConfigRejected(Struct, frozen=True, kw_only=True):
    """data of `config.rejected`; `running` is what the agent fell back to."""

    revision: int
    running: int | None
    errors: list[DocumentError]
    sha256: str = ""  # agents of before do not say it


class Heartbeat(Struct, frozen=True, kw_only=True):
    """data of `instance.heartbeat`."""

    config: ConfigState
    channels: list[ChannelStatus]
    spool_depth: int
    spool_bytes: int
    blacklist: int | None = None  # its version; agents of before have none


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. `data` is one of the structs above, by `type`.

    `id` of a message is derived from the platform's dedupe key (see `event_id`), so an agent
    that was rebuilt from nothing repeats it. `trace` is a W3C traceparent: where it comes from.
    """

    id: UUID
    type: EventType
    occurred_at: datetime
    data: dict[str, Any]
    trace: str = ""


class EventBatch(Struct, frozen=True, kw_only=True):
    """Body of POST /api/v1/instances/{id}/events, signed as a whole.

    `checkpoints` (channel id to cursor) commit in the same transaction as the events.
    """

    session_id: UUID
    events: list[Event]
    checkpoints: dict[str, str] = field(default_factory=dict)


EventStatus = Literal["stored", "duplicate", "conflict", "rejected"]


class EventResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event; `rejected` is final and says why."""

    id: UUID
    status: EventStatus
    code: str | None = None


class EventResults(Struct, frozen=True, kw_only=True):
    """Answer 202 of the events call, in the order of the batch."""

    results: list[EventResult]


_NOT_VERSION = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5 = 0x5000 << 64 | 0x8000 << 48


def event_id(channel_id: UUID, dedupe_key: str) -> UUID:
    """The id of a message event: the same for every redelivery, whoever decodes it."""
    # A UUIDv5; the standard library's own takes three times as long, and each event has one.
    name = channel_id.bytes + dedupe_key.encode()
    number = int.from_bytes(hashlib.sha1(name, usedforsecurity=False).digest()[:16], "big")
    return UUID(int=number & _NOT_VERSION | _VERSION_5)


# --- media -----------------------------------------------------------------------------------


class MediaRequest(Struct, frozen=True, kw_only=True):
    """Body of POST /api/v1/instances/{id}/media, signed like events: room for these bytes.

    A repeated `webhook-id` gets the same reservation. What the bytes are is told by themselves.
    """

    size: int
    name: str = ""
    content_type: str = ""


class MediaReserved(Struct, frozen=True, kw_only=True):
    """Its answer 201: PUT the bytes to `upload_url`, a path below the control plane's address."""

    media_id: UUID
    upload_url: str
    expires_at: datetime


class MediaLink(Struct, frozen=True, kw_only=True):
    """Answer of GET /api/v1/instances/{id}/media/{media id}: where the bytes are for a while.

    The call is signed over `media_target`, since it has no body.
    """

    url: str
    name: str
    content_type: str
    size: int
    sha256: str


def media_target(instance_id: UUID, media_id: UUID) -> bytes:
    """What the signature of a request for a link covers in the place of a body."""
    return f"GET /api/v1/instances/{instance_id}/media/{media_id}".encode()


# --- sends down ------------------------------------------------------------------------------


class SendRequest(Struct, frozen=True, kw_only=True):
    """Body of POST /astrbot-api/v1/message/send: one attempt, idempotent by `message_id`.

    Repeating an `attempt` repeats its answer; a higher one tries again what was not sent. An agent
    whose journal is not `journal_id` refuses (409 `journal_mismatch`), and so does one that has
    seen a higher `epoch` (409 `stale_epoch`). `insist` says that a person wants this attempt, so
    that also what an earlier one left unknown is sent again. `room`: how many parts the platform
    takes of us for now; what is beyond them is not tried (`window_count_exceeded`).
    """

    message_id: UUID
    attempt: int = 1
    insist: bool = False
    room: int | None = None
    author: Author = Author()
    channel_id: UUID
    epoch: int
    journal_id: UUID
    conversation: ConversationKey
    reply_handle: dict[str, str]
    segments: list[Segment]


class PartOutcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one part of a message; `moved_to` is where its chat is now."""

    outcome: Literal["sent", "failed", "unknown"]
    platform_message_id: str | None = None
    error_class: str | None = None
    detail: str | None = None
    retry_after_s: float | None = None
    moved_to: str | None = None


class SendResult(Struct, frozen=True, kw_only=True):
    """Answer of the send call, a row per part, in order."""

    parts: list[PartOutcome]


# --- models asked ----------------------------------------------------------------------------

# Characters of one answer: the most that one text of a message holds.
MAX_INFERRED = 20_000

FailureClass = Literal[
    "rate_limited",
    "unauthorized",
    "model_unknown",
    "context_too_long",
    "refused",
    "server_error",
    "timeout",
    "bad_answer",
    "too_large",
]


class ChatMessage(Struct, frozen=True, kw_only=True):
    """One thing said, as models take it."""

    role: Literal["system", "user", "assistant"]
    content: str


class InferRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of POST /astrbot-api/v1/llm/infer: a chat completion of a configured provider.

    `conversation` is Dify's own id of what was said before, `user` our conversation. Deadlines
    are the configuration's. A failure is a problem 502 with its class as code.
    """

    provider: UUID
    messages: list[ChatMessage]
    model: str = ""
    user: str = ""
    conversation: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = False


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The next piece of an answer."""

    content: str = ""


class Choice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one answer: a piece of it in a stream, all of it otherwise."""

    index: int
    delta: Delta | None = None
    message: ChatMessage | None = None
    finish_reason: str | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """What an answer took, in tokens, as the provider counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole answer, or with `stream` each event: OpenAI's form, the last with `usage`.

    `conversation` is the id to name next time, `renewed` that the one named had vanished. A
    stream that fails midway ends with an event `error` that holds a problem.
    """

    object: str
    choices: list[Choice]
    usage: Usage | None = None
    conversation: str | None = None
    renewed: bool = False


# --- speech ----------------------------------------------------------------------------------

# Seconds that a provider may take to write down a voice, after the agent has its bytes.
TRANSCRIBE_S = 60.0
# Seconds that the agent may take to get the bytes, and its turn.
LISTEN_S = 60.0
# Characters of one transcript: as many as one text of a message holds.
MAX_TRANSCRIPT = 20_000
MAX_LANGUAGE = 40  # characters of the name of a language
MAX_DURATION_S = 24 * 3600.0  # of a voice; more is nonsense


class TranscribeRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of POST /astrbot-api/v1/speech/transcribe: what a stored voice says.

    Repeating it asks the provider again; who keeps the answer is whoever asks. A failure of the
    provider is a problem 502 with its class as code; 404 `media_gone` when there are no bytes.
    """

    task_id: UUID
    media_id: UUID
    provider: UUID
    model: str
    language: str | None = None


class Transcript(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its answer 200; the text is empty where nobody speaks. `confidence` is from 0 to 1."""

    text: str
    language: str | None = None
    duration_s: float | None = None
    confidence: float | None = None


# --- callbacks passed on, health, errors -----------------------------------------------------


class CallbackMeta(Struct, frozen=True, kw_only=True):
    """What the raw body of a passed-on callback does not say (see CALLBACK_HEADER)."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    received_at: float
    verified: bool


class Health(Struct, frozen=True, kw_only=True):
    """Answer of GET /astrbot-api/v1/health. Ready means: a configuration is applied."""

    version: str
    instance_id: UUID
    ready: bool
    draining: bool
    journal_id: UUID
    config: ConfigState
    channels: list[ChannelStatus]
    spool_depth: int
    blacklist: int | None = None  # its version; agents of before have none


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details, as both sides speak them."""

    title: str
    status: int
    code: str
    type: str = "about:blank"
    detail: str | UnsetType = UNSET
