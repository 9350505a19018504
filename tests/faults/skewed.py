"""A part whose clock a file sets: `skewed.py FILE AGENTS_FILE WORDS` runs `botyard` or an agent.

A file holds by how many seconds the clock is ahead of the machine's. Monotonic time goes on as it
does, as it would when somebody sets a machine's clock.
"""

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_AHEAD = struct.Struct("d")


def set_ahead(file: Path, seconds: float) -> None:
    """Set the clock of who reads this file, at once."""
    if not file.exists():
        file.write_bytes(_AHEAD.pack(seconds))
    with file.open("r+b") as opened:
        opened.write(_AHEAD.pack(seconds))


def follow(file: Path) -> None:
    """From here on `time.time` is what the file says."""
    with file.open("r+b") as opened:
        ahead = mmap.mmap(opened.fileno(), _AHEAD.size)
    machines = time.time
    time.time = lambda: machines() + _AHEAD.unpack_from(ahead)[0]


def _run(own: str, agents: str, name: str, *words: str) -> None:
    follow(Path(own))
    sys.argv = [name, *words]
    if name == "instance_agent":
        runpy.run_module(name, run_name="__main__")
        return
    from control_plane.fleet.provision import process_launch

    # Before anything has taken it for a default.
    process_launch.AGENT_COMMAND = (
        *(sys.executable, "-P", __file__),
        *(agents, agents, "instance_agent"),
    )
    from control_plane.cli import main

    sys.exit(main())


if __name__ == "__main__":
    _run(*sys.argv[1:])
