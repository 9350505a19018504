"""Event streams, whatever pieces they come in."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import sse
from adapters.sse import MAX_EVENT, ServerEvent, TooLarge

STREAM = (
    "event: ping\n\ndata: 一\r\ndata:二\r\n\r\n"
    ': note\nid: 1\nevent: error\ndata: {"a":1}\n\ndata: end'
)


async def read(*chunks: bytes, max_bytes: int = 10_000) -> list[ServerEvent]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in sse.events(coming(), max_bytes=max_bytes)]


EVENTS = [
    ServerEvent(name="message", data="一\n二"),
    ServerEvent(name="error", data='{"a":1}'),
    ServerEvent(name="message", data="end"),
]


class TestEvents:
    @given(st.lists(st.integers(0, len(STREAM.encode())), max_size=20))
    async def test_are_the_same_wherever_the_stream_is_cut(self, cuts: list[int]) -> None:
        raw = STREAM.encode()
        places = [0, *sorted(cuts), len(raw)]
        chunks = [raw[a:b] for a, b in pairwise(places)]

        assert await read(*chunks) == EVENTS

    async def test_end_with_a_stream_that_has_none(self) -> None:
        with pytest.raises(TooLarge):
            await read(*[b": still here\n"] * 2000)

    @pytest.mark.parametrize("piece", [b"x" * 10_000, b"data: " + b"x" * 10_000 + b"\n"])
    async def test_are_bounded_each(self, piece: bytes) -> None:
        with pytest.raises(TooLarge):
            await read(*[piece] * (MAX_EVENT // 10_000 + 2), max_bytes=10 * MAX_EVENT)

    async def test_are_text(self) -> None:
        with pytest.raises(UnicodeDecodeError):
            await read(b"data: \xff\n\n")
