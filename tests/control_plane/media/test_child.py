"""Programs that are run beside us: fed, read, and ended whatever they do."""

import asyncio
import os
from pathlib import Path

import pytest

from control_plane.media import child
from tests.control_plane.conversations.scene import until


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


async def run(program: Path, text: str, given: bytes = b"", **limits: float) -> child.Ended:
    await asyncio.to_thread(program.write_text, text)
    most = {"within_s": 120.0, "at_most": 1_000_000, **limits}
    return await child.run(program, given, within_s=most["within_s"], at_most=int(most["at_most"]))


class TestRun:
    async def test_gives_and_takes_more_than_a_pipe_holds(self, program: Path) -> None:
        text = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
        given = bytes(range(256)) * 2000

        ended = await run(program, text, given)

        assert ended == child.Ended(code=0, written=given[::-1])

    async def test_says_how_it_ended(self, program: Path) -> None:
        assert (await run(program, "raise SystemExit(7)", b"x" * 500_000)).code == 7

    async def test_kills_one_that_writes_too_much(self, program: Path) -> None:
        text = "import sys\nwhile True: sys.stdout.write('x' * 1000)"

        assert await run(program, text, at_most=5000) == child.Ended(code=child.KILLED, written=b"")

    async def test_kills_one_that_wrote_more_than_is_read_ahead(self, program: Path) -> None:
        """Reading had been paused for good, and the end of the program was never seen."""
        text = """
import fcntl, signal, sys
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
sys.stdout.write('x' * 1_000_000)
sys.stdout.flush()
signal.pause()
"""
        async with asyncio.timeout(60):
            assert (await run(program, text, at_most=5000)).code == child.KILLED

    async def test_kills_one_that_takes_too_long(self, program: Path) -> None:
        text = "import signal; signal.pause()"

        assert (await run(program, text, within_s=0.2)).code == child.KILLED

    async def test_leaves_none_behind_when_nobody_waits_any_more(
        self, program: Path, tmp_path: Path
    ) -> None:
        there = tmp_path / "pid"
        text = f"""
import os, signal
with open({str(there)!r} + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename({str(there)!r} + ".new", {str(there)!r})
signal.pause()
"""
        task = asyncio.create_task(run(program, text))

        async def started() -> bool:
            return there.exists()

        await until(started, "the program")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        with pytest.raises(ProcessLookupError):
            os.kill(int(there.read_text()), 0)
