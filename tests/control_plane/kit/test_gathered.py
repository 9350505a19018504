import asyncio

from control_plane.kit.gathered import Gathered


class Line(asyncio.Transport):
    """What the system was called with."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def gathered(line: Line) -> Gathered:
    return Gathered(line, asyncio.get_running_loop())


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


class TestGathered:
    async def test_sends_one_turns_writes_together_and_each_turns_by_themselves(self) -> None:
        line = Line()
        transport = gathered(line)
        transport.write(b"head ")
        transport.write(b"body")
        assert line.calls == []
        await turn()
        transport.write(b"more")
        await turn()
        assert line.calls == [b"head body", b"more"]

    async def test_sends_what_was_written_before_it_closes(self) -> None:
        line = Line()
        transport = gathered(line)
        transport.write(b"last")
        transport.close()
        await turn()
        assert (line.calls, line.closed) == ([b"last"], True)

    async def test_writes_nothing_to_a_line_that_was_cut(self) -> None:
        line = Line()
        transport = gathered(line)
        transport.write(b"too late")
        line.close()
        await turn()
        assert line.calls == []

    async def test_is_the_transport_in_all_else(self) -> None:
        assert gathered(Line()).get_extra_info("peername") == ("127.0.0.1", 1)
