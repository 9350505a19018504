"""One call of a model: through the guarded door, within deadlines and bounds, never on its own.

Nothing is gathered here: each piece is passed on before the next is read, so whoever reads slowly
slows the provider, and whoever goes ends the call.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec

from adapters import sse
from adapters.outbound import Outbound, OutboundError, Refused
from instance_agent.document import Llm, LlmProvider
from instance_agent.llm.circuits import Circuits
from instance_agent.llm.counting import Counting
from instance_agent.llm.dify import Dify
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.openai import OpenAi
from instance_agent.llm.pieces import ConversationGone, Dialect, Piece, headers
from instance_agent.metrics import Metrics
from instance_agent.problems import Refusal
from instance_agent.protocol import MAX_INFERRED, InferRequest

# Bytes of one streamed answer: each token comes in some hundred bytes of JSON.
MAX_STREAM_BYTES = 16 * 1024 * 1024
# Bytes of an error that are read for its class.
MAX_ERROR_BYTES = 64 * 1024

_DIALECTS: dict[str, Dialect] = {"openai": OpenAi(), "dify": Dify()}


class Inference:
    """Asks the models of the running configuration."""

    def __init__(
        self,
        llm: Callable[[], Llm],
        outbound: Callable[[], Outbound],
        *,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._llm = llm
        self._metrics = metrics
        self._make_outbound = outbound
        self._outbound: Outbound | None = None
        self._circuits = Circuits(now)
        self._alone: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()

    @property
    def within_s(self) -> float:
        """How long a call may take in all."""
        return self._llm().total_s

    async def close(self) -> None:
        if self._outbound is not None:
            await self._outbound.close()

    async def pieces(self, ask: InferRequest) -> AsyncGenerator[Piece, None]:
        """The answer, as it comes; raises ModelFailed, also midway."""
        llm = self._llm()
        provider = provider_of(llm, ask.provider)
        with Counting(self._metrics, provider.kind) as counting:
            async with aclosing(self._within(llm, provider, ask)) as pieces:
                async for piece in pieces:
                    counting.saw(piece)
                    yield piece

    async def _within(
        self, llm: Llm, provider: LlmProvider, ask: InferRequest
    ) -> AsyncGenerator[Piece, None]:
        self._circuits.check(provider.id)
        now = asyncio.get_running_loop().time()
        ends_at, by = now + llm.total_s, now + min(llm.first_token_s, llm.total_s)
        # A worker that lost its lease may still be calling: two calls at once spoil what Dify
        # keeps of a conversation.
        alone = asyncio.Lock()
        if provider.kind == "dify":
            alone = self._alone.setdefault((provider.id, ask.user), alone)
        length = 0
        try:
            async with asyncio.timeout_at(ends_at):
                await alone.acquire()
            try:
                async with aclosing(self._speak(provider, ask, llm.total_s)) as speaking:
                    while True:
                        async with asyncio.timeout_at(by):
                            piece = await anext(speaking, None)
                        if piece is None:
                            break
                        by = ends_at
                        length += len(piece.text)
                        if length > MAX_INFERRED:
                            raise ModelFailed("bad_answer", "the answer has no end")
                        yield piece
            finally:
                alone.release()
            if not length:
                raise ModelFailed("bad_answer", "the answer is empty")
        except TimeoutError:
            self._circuits.failed(provider.id, failure := _late())
            raise failure from None
        except ModelFailed as failure:
            self._circuits.failed(provider.id, failure)
            raise
        self._circuits.worked(provider.id)

    async def _speak(
        self, provider: LlmProvider, ask: InferRequest, within_s: float
    ) -> AsyncGenerator[Piece, None]:
        try:
            async with aclosing(self._exchange(provider, ask, within_s)) as pieces:
                async for piece in pieces:
                    yield piece
        except ConversationGone:
            anew = msgspec.structs.replace(ask, conversation=None)
            yield Piece(renewed=True)
            async with aclosing(self._exchange(provider, anew, within_s)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _exchange(
        self, provider: LlmProvider, ask: InferRequest, within_s: float
    ) -> AsyncGenerator[Piece, None]:
        dialect = _DIALECTS[provider.kind]
        question = dialect.question(ask)
        if self._outbound is None:
            self._outbound = self._make_outbound()
        try:
            async with self._outbound.stream(
                "POST",
                provider.base_url.rstrip("/") + question.path,
                headers=headers(provider),
                content=question.body,
                within=timedelta(seconds=within_s),
            ) as answer:
                if answer.status != 200:
                    body = await _beginning(answer.chunks)
                    raise dialect.failure(answer.status, answer.headers, body, ask)
                async with (
                    aclosing(sse.events(answer.chunks, max_bytes=MAX_STREAM_BYTES)) as events,
                    aclosing(dialect.pieces(events)) as pieces,
                ):
                    async for piece in pieces:
                        yield piece
        except Refused:
            raise ModelFailed("refused", "the provider's address may not be called") from None
        except OutboundError as error:
            raise ModelFailed("server_error", str(error)) from None
        except (sse.TooLarge, UnicodeDecodeError, msgspec.MsgspecError):
            raise ModelFailed("bad_answer", "the answer cannot be read") from None


def provider_of(llm: Llm, provider_id: UUID) -> LlmProvider:
    """The provider that the running configuration has under this id; raises Refusal."""
    for provider in llm.providers:
        if provider.id == provider_id:
            return provider
    # Not a failure of a model: the configuration that has it may be on its way.
    raise Refusal(409, "unknown_provider", "this agent has no such provider")


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES]


def _late() -> ModelFailed:
    return ModelFailed("timeout", "the model took too long")
