"""A model's answer, as an agent streams it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.sse import TooLarge
from control_plane.instances.inferred import Inferred, ModelFailed, StreamCut, inferred
from instance_agent.protocol import MAX_INFERRED

DONE = b"data: [DONE]\n\n"


def event(*texts: str, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}} for text in texts]
    said = {"object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


async def read(*chunks: bytes) -> Inferred:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return await inferred(coming())


class TestInferred:
    async def test_is_the_pieces_and_what_the_end_says(self) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        found = await read(event("一"), event("二"), event(usage=usage, conversation="c"), DONE)

        assert (found.text, found.usage.prompt_tokens, found.conversation) == ("一二", 3, "c")
        assert not found.renewed

    async def test_is_told_as_it_grows(self) -> None:
        grown: list[str] = []

        async def coming() -> AsyncIterator[bytes]:
            for chunk in (event(""), event("一"), event("二", "三"), event(usage={}), DONE):
                yield chunk

        await inferred(coming(), grown.append)

        assert grown == ["一", "一二三"]

    async def test_that_is_cut_is_none(self) -> None:
        with pytest.raises(StreamCut):
            await read(event("一"))

    async def test_that_fails_midway_says_why(self) -> None:
        problem = {"title": "t", "status": 502, "code": "timeout"}
        with pytest.raises(ModelFailed, match="timeout"):
            await read(
                event("一"), b"event: error\ndata: " + json.dumps(problem).encode() + b"\n\n"
            )

    @pytest.mark.parametrize("text", ["", " \n"])
    async def test_that_says_nothing_is_none(self, text: str) -> None:
        with pytest.raises(ModelFailed, match="bad_answer"):
            await read(event(text), DONE)

    async def test_has_an_end(self) -> None:
        with pytest.raises(TooLarge):
            await read(*[event("x" * 1000)] * (MAX_INFERRED // 1000 + 1), DONE)

    async def test_holds_nothing_that_the_database_could_not(self) -> None:
        usage = {"prompt_tokens": 2**63, "completion_tokens": -1}
        end = event(usage=usage, conversation="a\0b")
        found = await read(event("a\0b"), end, DONE)

        assert (found.text, found.conversation) == ("ab", None)
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (1_000_000_000, 0)
