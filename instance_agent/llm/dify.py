"""Dify's chat applications: they keep what was said, so only what is new is sent.

A conversation's id can vanish, then it begins anew. The stream may stay open behind its last
event, so we go by ourselves. Two calls at once on one conversation spoil it (see `inference`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from adapters.sse import ServerEvent
from instance_agent.llm import failures
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.pieces import ConversationGone, Piece, Question
from instance_agent.protocol import InferRequest, Usage


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Metadata(Struct):
    usage: _Usage | None = None


class _Event(Struct):
    event: str = ""
    answer: str | None = None
    conversation_id: str | None = None
    metadata: _Metadata | None = None
    status: int | None = None
    code: str | None = None


class Dify:
    """POST {base_url}/chat-messages, streamed."""

    def question(self, ask: InferRequest) -> Question:
        said = [message.content for message in ask.messages if message.role == "user"]
        body = {
            "inputs": {},
            "query": said[-1] if said else "",
            "response_mode": "streaming",
            "conversation_id": ask.conversation or "",
            "user": ask.user,
            "auto_generate_name": False,
        }
        return Question(path="/chat-messages", body=msgspec.json.encode(body))

    def failure(
        self, status: int, headers: Mapping[str, str], body: bytes, ask: InferRequest
    ) -> ModelFailed | ConversationGone:
        words = failures.words_of(body)
        if status == 404 and ask.conversation and "conversation" in words:
            return ConversationGone()
        return failures.of_answer(status, headers, body)

    async def pieces(self, events: AsyncIterator[ServerEvent]) -> AsyncGenerator[Piece, None]:
        """Raises ModelFailed; ends with `message_end`, whatever the connection does."""
        async for event in events:
            if event.name == "ping":
                continue
            said = msgspec.json.decode(event.data, type=_Event)
            if said.event in {"message", "agent_message"}:
                yield Piece(text=said.answer or "")
            elif said.event == "message_end":
                yield Piece(
                    finish_reason="stop",
                    usage=_counted(said.metadata),
                    conversation=said.conversation_id,
                )
                return
            elif said.event == "message_replace":
                raise ModelFailed("refused", "the provider's filter replaced the answer")
            elif said.event == "error":
                error_class = failures.classify(said.status or 500, (said.code or "").lower())
                raise ModelFailed(error_class, "the provider broke off")
        raise ModelFailed("server_error", "the provider broke off")


def _counted(metadata: _Metadata | None) -> Usage:
    usage = (metadata and metadata.usage) or _Usage()
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0, completion_tokens=usage.completion_tokens or 0
    )
