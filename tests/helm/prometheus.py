"""Prometheus' own tool for rules, out of Debian's package; it is not installed."""

import subprocess
import tempfile
from pathlib import Path

from tests.cluster.substrate.build import cache, locked
from tests.cluster.substrate.packages import Archive


def promtool() -> Path:
    """The program, fetched if need be."""
    kept = cache()
    program = kept / "promtool"
    with locked(kept / "promtool.lock"):
        if not program.exists():
            print("• fetching promtool (19 MB, once)", flush=True)
            with tempfile.TemporaryDirectory(prefix="fetching-", dir=kept) as work:
                Archive(Path(work)).unpack(("prometheus",), Path(work) / "root")
                (Path(work) / "root" / "usr" / "bin" / "promtool").rename(program)
    return program


def run(program: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *words], cwd=cwd, env={}, capture_output=True, text=True, check=False
    )
