"""Control groups of a cluster's pods: made before, gone afterwards."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
GONE_WITHIN_S = 30
LOOK_EVERY_S = 0.1


def hierarchies() -> Iterator[Path]:
    """One folder with version 2, one per controller with version 1."""
    if (ROOT / "cgroup.procs").exists():
        yield ROOT
    else:
        yield from (path.parent for path in sorted(ROOT.glob("*/cgroup.procs")))


def make(name: str) -> None:
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # A version 1 group has none to begin with, and takes no process without.
            if hierarchy.name == "cpuset" and (hierarchy / setting).exists():
                value = (hierarchy / setting).read_text(encoding="ascii")
                (hierarchy / name / setting).write_text(value, encoding="ascii")


def remove(name: str) -> None:
    """Returns when the last process has left and the groups are gone."""
    deadline = time.monotonic() + GONE_WITHIN_S
    for hierarchy in hierarchies():
        while (hierarchy / name).exists():
            try:
                _remove(hierarchy / name)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_EVERY_S)


def _remove(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        Path(path).rmdir()
