"""Server-sent events, read as they come: bounded in line, event and whole."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

# Characters of one event: a piece of an answer is some hundred.
MAX_EVENT = 256 * 1024


class TooLarge(Exception):
    """What came has no end within the bounds."""


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """One event; `name` is `message` unless the stream says otherwise."""

    name: str
    data: str


async def events(
    chunks: AsyncIterator[bytes], *, max_bytes: int
) -> AsyncGenerator[ServerEvent, None]:
    """The events of a stream; raises TooLarge, or UnicodeDecodeError for what is no text."""
    name, data, size = "message", list[str](), 0
    async for line in _lines(chunks, max_bytes):
        if not line:
            if data:
                yield ServerEvent(name=name, data="\n".join(data))
            name, data, size = "message", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(value)
        if size > MAX_EVENT:
            raise TooLarge
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    # Some servers end without the empty line behind the last event.
    if data:
        yield ServerEvent(name=name, data="\n".join(data))


async def _lines(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, total = "", 0
    async for chunk in chunks:
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        if len(rest) > MAX_EVENT:
            raise TooLarge
        for line in lines:
            yield line.removesuffix("\r")
    if rest + decoder.decode(b"", final=True):
        yield rest.removesuffix("\r")
