"""Parts that run together: what ends by itself ends all, and is named."""

import asyncio

import pytest
from structlog.testing import capture_logs

from control_plane.parts import Background, run_until


async def fail() -> None:
    raise OSError("the server is away")


async def last() -> None:
    await asyncio.Event().wait()


class TestRunUntil:
    async def test_names_what_ended_by_itself_and_why(self) -> None:
        groups = [[Background("steady", last())], [Background("weak", fail())]]
        with capture_logs() as lines, pytest.raises(OSError, match="away"):
            await run_until(groups, asyncio.Event())

        [line] = [line for line in lines if line["event"] == "a part ended by itself"]
        assert (line["part"], line["error"]) == ("weak", "OSError")
        assert line["detail"] == "the server is away"

    async def test_names_nothing_when_it_was_asked_to_stop(self) -> None:
        stopping = asyncio.Event()
        stopping.set()
        with capture_logs() as lines:
            await run_until([[Background("steady", last())]], stopping)

        assert lines == []
