"""Logs as they grow, for readers of every kind."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from control_plane.fleet.following import BUFFERED, Readers
from control_plane.fleet.provision.base import Transient
from control_plane.kit.errors import TooMany


class Log:
    """A log that grows by hand."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = asyncio.Event()
        self.more: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def say(self, *lines: str | Exception | None) -> None:
        for line in lines:
            self.more.put_nowait(line)

    async def lines(self) -> AsyncIterator[str]:
        try:
            while (line := await self.more.get()) is not None:
                if isinstance(line, Exception):
                    raise line
                self.given += 1
                yield line
        finally:
            self.closed.set()


def read(pieces: list[str]) -> list[str]:
    return [json.loads(line) for line in "".join(pieces).split("\n") if line]


class TestFollow:
    async def test_has_every_line_in_order_to_the_end(self) -> None:
        log = Log()
        log.say(*(f"line {n}" for n in range(3 * BUFFERED)), 'a "quote"', "", None)

        pieces = [piece async for piece in Readers().follow(log.lines())]

        assert read(pieces) == [f"line {n}" for n in range(3 * BUFFERED)] + ['a "quote"', ""]
        assert log.closed.is_set()

    async def test_an_empty_line_says_that_there_is_nothing_new(self) -> None:
        log = Log()
        log.say("one")
        pieces = Readers().follow(log.lines())

        assert await anext(pieces) == '"one"\n'
        assert await anext(pieces) == "\n"
        log.say("two", None)
        assert read([piece async for piece in pieces]) == ["two"]

    async def test_ends_by_itself_in_the_middle_of_a_log(self) -> None:
        log = Log()
        log.say("one")

        pieces = [piece async for piece in Readers(follow_for_s=0.05).follow(log.lines())]

        assert read(pieces) in ([], ["one"])
        assert log.closed.is_set() or log.given == 0

    async def test_a_place_that_fails_ends_it_in_order(self) -> None:
        log = Log()
        log.say("one", Transient("the cluster is away"))

        assert read([piece async for piece in Readers().follow(log.lines())]) == ["one"]

    async def test_a_slow_reader_lets_the_log_wait(self) -> None:
        log = Log()
        log.say(*(str(n) for n in range(5 * BUFFERED)))
        pieces = Readers().follow(log.lines())

        await anext(pieces)
        for _ in range(10):
            await asyncio.sleep(0)

        # What it was handed, what waits for it, and the one that is being put.
        assert log.given <= 2 * BUFFERED + 2
        await pieces.aclose()
        assert log.closed.is_set()


class TestReaders:
    async def test_are_so_many_and_no_more(self) -> None:
        log, readers = Log(), Readers(most=1)
        first = readers.follow(log.lines())

        with pytest.raises(TooMany):
            readers.follow(log.lines())

        await first.aclose()
        del first
        assert readers.follow(log.lines())

    async def test_an_answer_that_was_never_begun_counts_for_nothing(self) -> None:
        readers = Readers(most=1)
        readers.follow(Log().lines())

        assert readers.follow(Log().lines())
