"""Where the vendors' SDKs are: an environment of their own, since they cannot share ours.

It is made once from the lock beside this file, checked by hash, and kept outside the checkout.
"""

import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.substrate.build import cache, locked
from tests.cluster.substrate.packages import run

LOCK = Path(__file__).with_name("requirements.lock")
CHILD = Path(__file__).with_name("child.py")
# The largest SDK takes many seconds to import for the first time on a busy machine.
ANSWER_S = 120.0

_PYTHON = Path("bin", "python")


class PeerError(Exception):
    """The SDK did not take it; in its own words."""


def interpreter() -> Path:
    """The Python of that environment, which is made if need be."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(LOCK.read_bytes() + version.encode()).hexdigest()
    kept = cache() / "peers"
    kept.mkdir(exist_ok=True)
    folder = kept / digest[:16]
    with locked(kept / "peers.lock"):
        if not folder.exists():
            print("• installing the vendors' SDKs (100 MB, once)", flush=True)
            with tempfile.TemporaryDirectory(prefix="making-", dir=kept) as work:
                _install(Path(work)).rename(folder)
    return folder / _PYTHON


def _install(work: Path) -> Path:
    made = work / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(made)], work)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # Of ten thousand files few are ever read, so none is compiled before it is.
    wanted = ["install", "-q", "--require-hashes", "--no-compile", "-r", str(LOCK)]
    run([*pip, "--python", str(made / _PYTHON), *wanted], work)
    return made


class Peers:
    """The program beside the SDKs, in a process that knows nothing of ours."""

    def __init__(self) -> None:
        python = interpreter()
        self._home = tempfile.TemporaryDirectory(prefix="botyard-peers-")
        self._process = subprocess.Popen(
            [str(python), str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._home.name,
            env={"HOME": self._home.name, "PATH": os.defpath},
            text=True,
            encoding="utf-8",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._home.cleanup()

    def ask(self, do: str, **given: Any) -> Any:
        """What the program's function `do` comes to; raises PeerError."""
        told, heard = self._process.stdin, self._process.stdout
        assert told is not None
        assert heard is not None
        told.write(json.dumps({"do": do, "given": given}) + "\n")
        told.flush()
        # One line answers one line, so none can lie in the buffer already.
        ready, _, _ = select.select([heard], [], [], ANSWER_S)
        line = heard.readline() if ready else ""
        assert line, f"the peers' process did not answer {do}"
        answer = json.loads(line)
        if "refused" in answer:
            raise PeerError(answer["refused"])
        return answer["made"]
