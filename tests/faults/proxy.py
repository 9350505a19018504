"""A link between two parts that a test can cut, slow down, or make unreliable."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType

# Bytes passed on at a time.
CHUNK = 16 * 1024
Address = tuple[str, int] | Path
Meant = Callable[[tuple[str, int]], tuple[str, int]]
"""Where to go on to, by the address that was called; raises OSError for one that means nothing."""


class Proxy:
    """Passes connections to a port of its own on to `target`, a port or a Unix socket."""

    def __init__(self, name: str, target: Address | Meant, random: Random) -> None:
        self.name = name
        self.target = target
        self.delay_s = 0.0
        self.loss = 0.0
        """Chance that a connection breaks with a chunk of bytes."""
        self.connections = 0
        self._random = random
        self._cut = False
        self._pipes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        # Whoever goes by the address called is reached at all of this machine's own.
        host = "0.0.0.0" if callable(self.target) else "127.0.0.1"  # noqa: S104
        self._server = await asyncio.start_server(self._accept, host, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        while self._pipes:
            await asyncio.wait(self._pipes)

    def cut(self) -> None:
        """End every connection, and every new one at once, until `heal`."""
        self._cut = True
        for pipe in self._pipes:
            pipe.cancel()

    def heal(self) -> None:
        self._cut, self.delay_s, self.loss = False, 0.0, 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = asyncio.current_task()
        assert pipe is not None
        self._pipes.add(pipe)
        far: asyncio.StreamWriter | None = None
        try:
            if self._cut:
                return
            answers, far = await self._connect(writer.get_extra_info("sockname"))
            self.connections += 1
            ways = [self._pass(reader, far), self._pass(answers, writer)]
            tasks = [asyncio.create_task(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nobody is there, or the link was cut: this connection ends
        finally:
            self._pipes.discard(pipe)
            for end in (writer, far):
                if end is not None and self._cut:
                    end.transport.abort()
                elif end is not None:
                    end.close()

    async def _connect(
        self, called: tuple[str, int]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self.target(called) if callable(self.target) else self.target
        if isinstance(target, Path):
            return await asyncio.open_unix_connection(str(target))
        return await asyncio.open_connection(*target)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self._random.random() < self.loss:
                    return
                writer.write(chunk)
                await writer.drain()
