"""OpenAI's chat completions, as most providers and local servers speak them."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from adapters.sse import ServerEvent
from instance_agent.llm import failures
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.pieces import Piece, Question
from instance_agent.protocol import InferRequest, Usage

_END = "[DONE]"


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


class OpenAi:
    """POST {base_url}/chat/completions, streamed."""

    def question(self, ask: InferRequest) -> Question:
        body = {
            "model": ask.model,
            "messages": ask.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if ask.temperature is not None:
            body["temperature"] = ask.temperature
        if ask.max_tokens is not None:
            body["max_tokens"] = ask.max_tokens
        return Question(path="/chat/completions", body=msgspec.json.encode(body))

    def failure(
        self, status: int, headers: Mapping[str, str], body: bytes, ask: InferRequest
    ) -> ModelFailed:
        return failures.of_answer(status, headers, body)

    async def pieces(self, events: AsyncIterator[ServerEvent]) -> AsyncGenerator[Piece, None]:
        """Raises ModelFailed; a stream that ends before the model said so has broken off."""
        finish: str | None = None
        async for event in events:
            if event.data == _END:
                break
            chunk = msgspec.json.decode(event.data, type=_Chunk)
            if bytes(chunk.error) not in {b"", b"null"}:
                words = failures.words_of(b'{"error":' + bytes(chunk.error) + b"}")
                raise ModelFailed(failures.classify(500, words), "the provider broke off")
            for choice in chunk.choices[:1]:
                finish = choice.finish_reason or finish
                text = choice.delta.content if choice.delta else None
                yield Piece(text=text or "", finish_reason=choice.finish_reason)
            if chunk.usage is not None:
                yield Piece(usage=_counted(chunk.usage))
        if finish is None:
            raise ModelFailed("server_error", "the provider broke off")
        if finish == "content_filter":
            raise ModelFailed("refused", "the provider's filter stopped the answer")


def _counted(usage: _Usage) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0, completion_tokens=usage.completion_tokens or 0
    )
