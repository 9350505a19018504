"""Calls of a client's API: over the socket that it opened, or by HTTP.

Both say the same: an `Answer` that was a yes, or one of the errors of `adapters.platform`.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import httpx2
import msgspec

from adapters import platform
from adapters.model import Rejected
from adapters.onebot import codec
from adapters.onebot.codec import Answer, Decoded
from adapters.onebot.outgoing import Call, framed
from adapters.platform import Cut, PlatformError, Unreachable
from adapters.sockets import Closed, Socket

# Less than a send may take in all; clients answer when QQ has answered them.
TIMEOUT_S = 15.0
# Calls of one socket that wait for their answers.
MAX_WAITING = 64
# Of silence, before the client is asked how it does, and until it has to answer.
QUIET_S = 20.0
PROBE_S = 10.0
STATUS = Call("get_status", {})

# Close codes: another socket of the account is newer; nothing is heard from this one.
REPLACED = 4001
SILENT = 4008

Heard = Callable[[Decoded | Rejected], Awaitable[None]]


class Calls(Protocol):
    """Somebody who can be asked."""

    async def ask(self, call: Call, *, timeout_s: float = TIMEOUT_S) -> Answer:
        """A yes; raises PlatformError, Unreachable or Cut."""


class Line:
    """One socket: events and answers come in together, and answers find who asked."""

    def __init__(self, socket: Socket, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket = socket
        self._clock = clock
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._heard_at = clock()
        self._ended = False

    async def serve(self, heard: Heard) -> None:
        """Listen until the connection ends or the client does not answer any more."""
        listening = asyncio.create_task(self._listen(heard), name="onebot-listen")
        watching = asyncio.create_task(self._watch(heard), name="onebot-watch")
        try:
            await asyncio.wait({listening, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ended = True
            for task in (listening, watching):
                task.cancel()
            results = await asyncio.gather(listening, watching, return_exceptions=True)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Cut())
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def close(self, code: int) -> None:
        await self._socket.close(code)

    async def ask(self, call: Call, *, timeout_s: float = TIMEOUT_S) -> Answer:
        if self._ended:
            raise Unreachable
        if len(self._waiting) >= MAX_WAITING:
            raise PlatformError("busy", "server_busy", "too many calls wait", retry_after_s=1)
        echo = str(next(self._numbers))
        future = self._waiting[echo] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._socket.send(msgspec.json.encode(framed(call, echo)).decode())
                return yes(await future)
        except (TimeoutError, Closed):
            raise Cut from None
        finally:
            del self._waiting[echo]
            # Whoever asked may be gone; nobody else looks at what became of it.
            if future.done() and not future.cancelled():
                future.exception()

    async def _listen(self, heard: Heard) -> None:
        while True:
            try:
                raw = await self._socket.receive()
            except Closed:
                return
            self._heard_at = self._clock()
            fields = codec.read(raw)
            found = fields if isinstance(fields, Rejected) else codec.decode(fields)
            if isinstance(found, Answer):
                future = self._waiting.get(found.echo)
                if future is not None and not future.done():
                    future.set_result(found)
            else:
                await heard(found)

    async def _watch(self, heard: Heard) -> None:
        """Ask how the account does at the beginning, and whenever nothing was heard for long."""
        while True:
            online = True
            try:
                answer = await self.ask(STATUS, timeout_s=PROBE_S)
            except PlatformError:
                # It is there, and has no word for how it does.
                pass
            except Cut:
                with contextlib.suppress(Closed):
                    await self._socket.close(SILENT)
                return
            else:
                online = codec.online(answer.data)
            await heard(codec.Meta(event="heartbeat", online=online))
            await self._silence()

    async def _silence(self) -> None:
        while True:
            left = self._heard_at + QUIET_S - self._clock()
            if left <= 0:
                return
            await asyncio.sleep(left)


class Http:
    """The client's own server."""

    def __init__(self, http: httpx2.AsyncClient, *, url: str, token: str) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token = token

    async def ask(self, call: Call, *, timeout_s: float = TIMEOUT_S) -> Answer:
        async with platform.called(
            self._http,
            "POST",
            f"{self._url}/{call.action}",
            body=msgspec.json.encode(call.params),
            headers={
                "content-type": "application/json",
                "authorization": f"Bearer {self._token}",
            },
            timeout_s=timeout_s,
        ) as response:
            if response.status_code >= 500:
                raise Cut
            if response.status_code != 200:
                status = response.status_code
                return yes(Answer(status="failed", retcode=1000 + status))
            fields = codec.read(await platform.read(response, max_bytes=codec.MAX_BYTES))
        found = fields if isinstance(fields, Rejected) else codec.decode(fields)
        if not isinstance(found, Answer):
            raise Cut
        return yes(found)


def yes(answer: Answer) -> Answer:
    """The answer if it is one; raises PlatformError for a no, and Cut for a perhaps."""
    failed = codec.failure(answer)
    if failed is None:
        return answer
    if failed.unsure:
        raise Cut
    detail = f"the QQ client answered {answer.retcode} ({failed.name})"
    raise PlatformError(answer.retcode, failed.error_class, detail)


class Nobody:
    """While no client has opened a socket."""

    async def ask(self, call: Call, *, timeout_s: float = TIMEOUT_S) -> Answer:
        raise Unreachable
