"""Programs that touch bytes of strangers: each runs in a process of its own that has nothing.

No environment, no terminal, no file but its two pipes, an end in time. What else it may use, memory
and processor, it limits itself before it reads the first byte; see `decoder`.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Bytes read at a time.
_PIECE = 64 * 1024
KILLED = -9


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended, by its exit code (negative: the signal), and what it wrote."""

    code: int
    written: bytes


async def run(program: Path, given: bytes, *, within_s: float, at_most: int) -> Ended:
    """Have a program read `given`; one that takes longer or writes more is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-B",
        str(program),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
    )
    written = b""
    try:
        async with asyncio.timeout(within_s):
            feeding = asyncio.create_task(_feed(process, given))
            try:
                written = await _read(process, at_most)
            finally:
                feeding.cancel()
            if len(written) <= at_most:
                return Ended(code=await process.wait(), written=written)
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            # A killed process ends, whatever it was doing.
            await asyncio.shield(_gone(process))
    return Ended(code=KILLED, written=b"")


async def _gone(process: Process) -> None:
    """One that was killed is said to have ended once nothing that it wrote is left to read."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    while await process.stdout.read(_PIECE):
        pass
    await process.wait()


async def _feed(process: Process, given: bytes) -> None:
    """One that has seen enough closes its end, which is fine."""
    assert process.stdin is not None  # noqa: S101 - it was asked for
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()


async def _read(process: Process, at_most: int) -> bytes:
    """What it writes, up to a byte more than it may."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    written = bytearray()
    while len(written) <= at_most:
        piece = await process.stdout.read(min(_PIECE, at_most + 1 - len(written)))
        if not piece:
            break
        written += piece
    return bytes(written)
