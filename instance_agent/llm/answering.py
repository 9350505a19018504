"""A model's answer on the wire: whole as JSON, or event by event; ended when the caller goes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from instance_agent.gate import Gate
from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.pieces import Piece
from instance_agent.protocol import ChatMessage, Choice, Completion, Delta, Problem, Usage

# What a reader may be slower than the model, in seconds; then the connection is cut.
_SLOWER_S = 5.0
_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}


class Answering(Response):
    """Sends what a model says, for as long as somebody listens.

    A failure before the first piece is raised, and becomes a problem; a later one ends the stream.
    """

    def __init__(
        self, gate: Gate, pieces: AsyncGenerator[Piece, None], *, stream: bool, within_s: float
    ) -> None:
        super().__init__(media_type="application/json")
        self._gate = gate
        self._pieces = pieces
        self._send = self._streamed if stream else self._whole
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gate:
            answering = asyncio.create_task(self._answer(send), name="infer")
            leaving = asyncio.create_task(_left(receive), name="infer-caller")
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                answering.cancel()
                leaving.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)
        if not answering.cancelled():
            answering.result()

    async def _answer(self, send: Send) -> None:
        async with asyncio.timeout(self._within_s + _SLOWER_S), aclosing(self._pieces):
            await self._send(send)

    async def _whole(self, send: Send) -> None:
        text, finish, last = "", None, Piece()
        async for piece in self._pieces:
            text += piece.text
            finish = piece.finish_reason or finish
            last = _joined(last, piece)
        answer = Completion(
            object="chat.completion",
            choices=[
                Choice(
                    index=0,
                    message=ChatMessage(role="assistant", content=text),
                    finish_reason=finish,
                )
            ],
            usage=last.usage or Usage(),
            conversation=last.conversation,
            renewed=last.renewed,
        )
        body = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _streamed(self, send: Send) -> None:
        last = Piece()
        started = False
        try:
            async for piece in self._pieces:
                last = _joined(last, piece)
                if not piece.text and piece.finish_reason is None:
                    continue
                if not started:
                    await send(_HEAD)
                    started = True
                await send(_event(msgspec.json.encode(_chunk(piece))))
        except ModelFailed as failure:
            if not started:
                raise
            await send(_event(msgspec.json.encode(_problem(failure)), b"error"))
        else:
            end = Completion(
                object="chat.completion.chunk",
                choices=[],
                usage=last.usage or Usage(),
                conversation=last.conversation,
                renewed=last.renewed,
            )
            await send(_event(msgspec.json.encode(end)))
            await send(_event(b"[DONE]"))
        await send({"type": "http.response.body", "body": b""})


def _joined(last: Piece, piece: Piece) -> Piece:
    """What an answer's end says, wherever in the stream it was said."""
    return Piece(
        usage=piece.usage or last.usage,
        conversation=piece.conversation or last.conversation,
        renewed=piece.renewed or last.renewed,
    )


def _chunk(piece: Piece) -> Completion:
    return Completion(
        object="chat.completion.chunk",
        choices=[
            Choice(index=0, delta=Delta(content=piece.text), finish_reason=piece.finish_reason)
        ],
    )


def _problem(failure: ModelFailed) -> Problem:
    title = failure.code.replace("_", " ")
    return Problem(title=title, status=failure.status, code=failure.code, detail=failure.detail)


def _event(data: bytes, name: bytes = b"") -> dict[str, object]:
    head = b"event: " + name + b"\n" if name else b""
    body = head + b"data: " + data + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
