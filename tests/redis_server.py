"""A Redis of the test's own, on a Unix socket, that can be killed and started again."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = "eady to accept connections"


class RedisServer:
    """Keeps nothing on disk, as a cache does."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    @contextmanager
    def running(cls, program: str) -> "Iterator[RedisServer]":
        # A short path: a socket's has at most 107 characters.
        with tempfile.TemporaryDirectory(prefix="redis-") as folder:
            server = cls(program, Path(folder))
            server.start()
            try:
                yield server
            finally:
                server.kill()

    @property
    def url(self) -> str:
        return f"unix://{self._folder / 'redis.sock'}"

    def start(self) -> None:
        """Returns when it takes connections."""
        options = {"port": "0", "unixsocket": "redis.sock", "save": "", "appendonly": "no"}
        self._process = subprocess.Popen(
            [
                self._program,
                *(word for name, value in options.items() for word in (f"--{name}", value)),
            ],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if READY in line:
                return
        raise RuntimeError(f"redis-server did not start: {''.join(said)}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As kill -9 does; returns when it is gone."""
        assert self._process is not None
        with self._process:
            self._process.kill()
