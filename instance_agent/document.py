"""The configuration document: what one tenant's bot is, as its agent applies it.

It is pydantic, because its errors and its JSON Schema are shown to people. Both sides import this
module; it imports nothing of either.
"""

import hashlib
import json
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from adapters import egress

# Raised when the document's shape changes; the control plane compiles for what the agent speaks.
SCHEMA_VERSION = 4
# Host names and networks that a plan opens: each is looked at in every call.
MAX_EGRESS = 50
# Providers of one document: one for each of five models, and one that hears.
MAX_PROVIDERS = 6
Reload = Literal["hot", "reconnect", "restart"]
ProviderKind = Literal["openai", "dify"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelConfig(_Section):
    """One IM account; `settings` are checked by the kind's own model."""

    id: UUID
    kind: str
    name: str
    settings: dict[str, Any]


class LlmModel(_Section):
    """One model of a provider; the list of them is the order in which they are asked."""

    provider: UUID
    model: str = Field(
        default="",
        max_length=120,
        pattern=r"^[^\x00-\x1f]*$",
        description="The name that the provider knows; an application of Dify has none.",
    )
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=32_000)


class LlmProvider(_Section):
    """Who runs models, compiled in from its own row."""

    id: UUID
    kind: ProviderKind
    base_url: str
    api_key: SecretStr | None = None


class Llm(_Section):
    """Which models answer; without any, the bot has its question-and-answer list alone."""

    models: list[LlmModel] = Field(default_factory=list, max_length=5)
    context_messages: int = Field(
        default=20, ge=1, le=50, description="Messages of the conversation that a model is shown."
    )
    first_token_s: float = Field(
        default=15, ge=1, le=60, description="How long a model may take to begin."
    )
    total_s: float = Field(
        default=60, ge=2, le=120, description="How long a model may take in all."
    )
    on_failure: Literal["human", "text"] = Field(
        default="human", description="Who goes on when no model answers: a person, or this text."
    )
    fallback_text: str = Field(
        default="抱歉，我现在答不上来，请稍后再问我一次。", min_length=1, max_length=1000
    )
    providers: list[LlmProvider] = Field(default_factory=list, max_length=MAX_PROVIDERS)

    @model_validator(mode="before")
    @classmethod
    def _from_first_version(cls, given: Any) -> Any:
        """Schema 1 had one field, which said that there is no model."""
        if isinstance(given, dict) and given.get("provider") == "none":
            return {name: value for name, value in given.items() if name != "provider"}
        return given


class Persona(_Section):
    """How the bot presents itself."""

    name: str = Field(default="Bot", min_length=1, max_length=40)
    hand_over_text: str = Field(
        default="这个问题我还不会，已经转给人工客服，请稍等。",
        min_length=1,
        max_length=1000,
        description="Said when the bot hands the conversation to a human.",
    )
    instructions: str = Field(
        default="",
        max_length=8000,
        description="What a model is told of its task, before anything that customers say.",
    )


class Rules(_Section):
    """What the bot may do by itself."""

    answer_threshold: float = Field(
        default=0.62,
        ge=0.3,
        le=1.0,
        description="How alike a question must be to one on the list to be answered, 0 to 1.",
    )
    quiet_s: float = Field(
        default=0,
        ge=0,
        le=30,
        description="A turn waits until nothing was said for so long, four times that at most.",
    )


class Speech(_Section):
    """Who writes down what voices say; without a provider, nobody does."""

    provider: UUID | None = Field(
        default=None,
        description="One of /providers that speaks OpenAI's audio transcriptions.",
        examples=["0190a7c0-6f6e-7cc3-98c4-dc0c0c07398f"],
    )
    model: str = Field(
        default="",
        max_length=120,
        pattern=r"^[^\x00-\x1f]*$",
        description="The name that the provider knows.",
        examples=["whisper-1", "FunAudioLLM/SenseVoiceSmall"],
    )
    language: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2,3}$",
        description="ISO 639 code of what is spoken; without one the model finds out.",
        examples=["zh", "en"],
    )
    wait_s: float = Field(
        default=10,
        ge=0,
        le=30,
        description="How long the bot's turn waits for what a voice says; nothing else does.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_third_version(cls, given: Any) -> Any:
        """Schemas 1 to 3 had one field, which said that nobody hears."""
        if isinstance(given, dict) and given.get("enabled") is False:
            return {name: value for name, value in given.items() if name != "enabled"}
        return given


class Limits(_Section):
    """What the agent may use of its pod."""

    spool_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes of events kept on disk while the control plane is away; "
        "must fit on the agent's volume.",
    )


class Network(_Section):
    """Where the bot may go beside the public internet; compiled in from the tenant's plan."""

    egress_allow: list[str] = Field(
        default_factory=list, max_length=MAX_EGRESS, description="Host names and networks."
    )

    @field_validator("egress_allow")
    @classmethod
    def _parses(cls, entries: list[str]) -> list[str]:
        egress.read(entries)
        return entries


class Document(_Section):
    """One tenant's bot, as the agent applies it.

    Channels, providers and network are compiled in from rows of their own.
    """

    channels: list[ChannelConfig] = Field(default_factory=list, max_length=50)
    llm: Llm = Llm()
    persona: Persona = Persona()
    rules: Rules = Rules()
    speech: Speech = Speech()
    limits: Limits = Limits()
    network: Network = Network()


RELOADS: dict[str, Reload] = {
    "channels": "reconnect",  # only the channels that changed
    "llm": "hot",
    "persona": "hot",
    "rules": "hot",
    "speech": "hot",
    "network": "hot",
    "limits": "restart",  # sizes are fixed when the spool is opened
}


class DocumentError(Struct, frozen=True, kw_only=True):
    """One thing wrong with a document; `path` is a JSON pointer."""

    path: str
    code: str
    message: str


def document_errors(error: ValidationError, prefix: str = "") -> list[DocumentError]:
    """A validation error as pointers, without the offending input (it may hold a secret)."""
    return [
        DocumentError(
            path=prefix + "".join(f"/{step}" for step in item["loc"]),
            code=item["type"],
            message=item["msg"],
        )
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def canonical(document: Any) -> bytes:
    """The bytes whose SHA-256 names a document: sorted keys, no spaces, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(document: Any) -> str:
    """SHA-256 of the canonical form, hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()
