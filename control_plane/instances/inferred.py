"""A model's answer as the agent streams it, gathered; it is bounded, since it becomes a message."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from adapters import sse
from instance_agent.protocol import MAX_INFERRED, Completion, Problem, Usage

# Bytes of the stream: each piece comes in some hundred bytes of JSON.
MAX_STREAM_BYTES = 16 * 1024 * 1024
# What a provider may count, and call a conversation: more is nonsense, and would fit in no column.
_MAX_TOKENS = 1_000_000_000
_MAX_ID = 200
_END = "[DONE]"


class ModelFailed(Exception):
    """No answer; `error_class` is one of the wire contract."""

    def __init__(self, error_class: str, detail: str) -> None:
        super().__init__(f"{error_class}: {detail}")
        self.error_class = error_class
        self.detail = detail


class StreamCut(Exception):
    """The agent went in the middle of an answer."""


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """A whole answer. `conversation` is the provider's own id, `renewed` if it had to be a new."""

    text: str
    usage: Usage
    conversation: str | None = None
    renewed: bool = False


def unheard(_text: str) -> None:
    """For whom nobody listens while the answer grows."""


async def inferred(chunks: AsyncIterator[bytes], grew: Callable[[str], None] = unheard) -> Inferred:
    """Read a stream to its end; raises ModelFailed, StreamCut, or what cannot be read.

    `grew` is told all that was said so far, whenever that is more.
    """
    text, end = "", None
    async with aclosing(sse.events(chunks, max_bytes=MAX_STREAM_BYTES)) as events:
        async for event in events:
            if event.name == "error":
                problem = msgspec.json.decode(event.data, type=Problem)
                raise ModelFailed(problem.code, problem.title)
            if event.data == _END:
                break
            end = msgspec.json.decode(event.data, type=Completion)
            more = "".join(choice.delta.content for choice in end.choices if choice.delta)
            text += more
            if len(text) > MAX_INFERRED:
                raise sse.TooLarge
            if more:
                grew(text)
        else:
            raise StreamCut
    if end is None or not text.strip():
        raise ModelFailed("bad_answer", "the answer is empty")
    return Inferred(
        # PostgreSQL cannot hold U+0000 in text.
        text=text.replace("\0", ""),
        usage=_counted(end.usage or Usage()),
        conversation=_id(end.conversation),
        renewed=end.renewed,
    )


def _counted(usage: Usage) -> Usage:
    return Usage(
        prompt_tokens=min(max(usage.prompt_tokens, 0), _MAX_TOKENS),
        completion_tokens=min(max(usage.completion_tokens, 0), _MAX_TOKENS),
    )


def _id(given: str | None) -> str | None:
    return given if given and len(given) <= _MAX_ID and given.isprintable() else None
