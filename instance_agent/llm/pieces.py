"""What a provider's dialect is turned into, and what a dialect has to offer."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from adapters.sse import ServerEvent
from instance_agent.document import LlmProvider
from instance_agent.llm.failures import ModelFailed
from instance_agent.protocol import InferRequest, Usage


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The next of an answer; `usage` and `conversation` come with its end."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    conversation: str | None = None
    renewed: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request to a provider; `body` is JSON."""

    path: str
    body: bytes


class ConversationGone(Exception):
    """The provider has forgotten what was said before."""


class Dialect(Protocol):
    """How one kind of provider is spoken to."""

    def question(self, ask: InferRequest) -> Question: ...

    def failure(
        self, status: int, headers: Mapping[str, str], body: bytes, ask: InferRequest
    ) -> ModelFailed | ConversationGone: ...

    def pieces(self, events: AsyncIterator[ServerEvent]) -> AsyncGenerator[Piece, None]: ...


def headers(provider: LlmProvider) -> dict[str, str]:
    """What every request carries."""
    given = {"content-type": "application/json", "accept": "text/event-stream"}
    if provider.api_key is not None:
        given["authorization"] = f"Bearer {provider.api_key.get_secret_value()}"
    return given
