"""Hints say "look now" and carry nothing else.

A topic is a short string such as `work.turn`, `visitor.<id>` or `stream.<tenant id>`. Within one
process a hint arrives at once; between processes it travels through PostgreSQL or Redis (one
message for all topics that gathered while the last was under way, and for a moment after one with
many). Hints may get lost: whoever waits also looks by itself every `POLL_S` seconds.

Beside hints go notes: short texts for who listens right now, such as "somebody is typing". They are
kept nowhere, get lost like hints, and nobody looks for a lost one.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar, Protocol

import asyncpg
import msgspec
import structlog
from sqlalchemy.engine import make_url

from control_plane.kit.backoff import full_jitter
from control_plane.kit.ids import new_token
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS

# Seconds between looks without a hint: the price of a lost one.
POLL_S = 2.0
# Topics waiting to be sent; past that a hint is dropped, and the poll finds the row.
_MAX_WAITING = 10_000
# PostgreSQL refuses payloads of 8,000 bytes and more.
_MAX_PAYLOAD = 7_500
_CHANNEL = "botyard"
# Seconds without a message after one, for each of its topics, and the most of them: a message costs
# a transaction and wakes every process, so who has much to say says it in fewer.
_PAUSE_S = 0.0002
_MAX_PAUSE_S = 0.01
# A hint that a crash of PostgreSQL loses is one of those that may get lost.
_SETTINGS = {"synchronous_commit": "off"}
# What a note begins with where it travels among topics.
_NOTE = "!"

log = structlog.get_logger()


class Wake:
    """Set by a hint, cleared by `wait`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float = POLL_S) -> bool:
        """Whether a hint came within `timeout_s`; one that came before counts."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bus(Protocol):
    """Where hints go."""

    def publish(self, topics: Collection[str]) -> None: ...

    def listen(self, *topics: str) -> contextlib.AbstractContextManager[Wake]: ...

    def tell(self, note: str) -> None: ...

    def hear(self, callback: Callable[[str], None]) -> contextlib.AbstractContextManager[None]: ...


class LocalBus:
    """Hints within one process."""

    def __init__(self) -> None:
        self._wakes: dict[str, set[Wake]] = defaultdict(set)
        self._ears: set[Callable[[str], None]] = set()

    def publish(self, topics: Collection[str]) -> None:
        self.wake(topics)

    def wake(self, topics: Collection[str]) -> None:
        """Wake the listeners of this process."""
        for topic in topics:
            for wake in self._wakes.get(topic, ()):
                wake.set()

    def wake_all(self) -> None:
        """Hints may have been lost: let everybody look."""
        self.wake(list(self._wakes))

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Wake]:
        """A wake that any of `topics` sets, until the block ends."""
        wake = Wake()
        for topic in topics:
            self._wakes[topic].add(wake)
        try:
            yield wake
        finally:
            for topic in topics:
                self._wakes[topic].discard(wake)
                if not self._wakes[topic]:
                    del self._wakes[topic]

    def tell(self, note: str) -> None:
        """Say it to whoever hears notes, here and in the other processes."""
        for ear in tuple(self._ears):
            ear(note)

    @contextmanager
    def hear(self, callback: Callable[[str], None]) -> Iterator[None]:
        """Call back with every note, until the block ends."""
        self._ears.add(callback)
        try:
            yield
        finally:
            self._ears.discard(callback)


class SharedBus(LocalBus):
    """Hints between processes: one message for all topics that gathered while the last was sent."""

    name = "bus"
    lost: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What a server that went away looks like."""

    def __init__(self) -> None:
        super().__init__()
        self._origin = new_token()[:8]
        self._own = f'["{self._origin}"'
        self._waiting: set[str] = set()
        self._news = asyncio.Event()
        self._pause_s = 0.0

    def publish(self, topics: Collection[str]) -> None:
        self.wake(topics)
        self._send_soon(topics)

    def tell(self, note: str) -> None:
        super().tell(note)
        self._send_soon([_NOTE + note])

    def _send_soon(self, said: Collection[str]) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.update(said)
            self._news.set()

    async def run(self) -> None:
        """Listen and send until cancelled, connecting again whenever the server went away."""
        failures = 0
        while True:
            try:
                await self._connected()
                failures = 0
            except self.lost as error:
                LOOP_FAILURES.labels(self.name).inc()
                log.warning("bus lost its connection", error=type(error).__name__)
            pause = full_jitter(
                failures, base=timedelta(seconds=0.1), cap=timedelta(seconds=POLL_S)
            )
            failures += 1
            await asyncio.sleep(pause.total_seconds())

    async def _connected(self) -> None:
        """Serve one connection: wake everybody once it listens, end or raise when it is lost."""
        raise NotImplementedError

    async def _gathered(self) -> set[str]:
        """The topics to send, as soon as there are some, but not at once after many."""
        await asyncio.sleep(self._pause_s)
        await self._news.wait()
        self._news.clear()
        topics, self._waiting = self._waiting, set()
        self._pause_s = min(_PAUSE_S * len(topics), _MAX_PAUSE_S)
        return topics

    def _heard(self, payload: str | bytes) -> None:
        # Most of what is heard was said here: that is known by its beginning.
        text = payload.decode() if isinstance(payload, bytes) else payload
        if text.startswith(self._own):
            return
        _origin, *said = json.loads(text)
        self.wake([topic for topic in said if not topic.startswith(_NOTE)])
        for note in said:
            if note.startswith(_NOTE):
                super().tell(note.removeprefix(_NOTE))


class PostgresBus(SharedBus):
    """Hints over LISTEN and NOTIFY, on a connection of its own."""

    # A transport that was closed meanwhile is a RuntimeError of the event loop's.
    lost = (
        OSError,
        RuntimeError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )

    def __init__(self, url: str) -> None:
        super().__init__()
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def _connected(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5, server_settings=_SETTINGS)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await connection.add_listener(_CHANNEL, self._notified)
            self.wake_all()
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send(connection))
                await lost.wait()
                sender.cancel()
        except* self.lost as group_error:
            raise ConnectionError("lost while sending") from group_error
        finally:
            connection.terminate()

    async def _send(self, connection: asyncpg.Connection) -> None:
        while True:
            for payload in _payloads(self._origin, await self._gathered()):
                await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)
            LOOP_SUCCESS.labels(self.name).set_to_current_time()

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._heard(str(payload))


def _payloads(origin: str, topics: Collection[str]) -> Iterator[str]:
    first = msgspec.json.encode(origin)
    batch, size = [first], len(first) + 2
    for topic in sorted(topics):
        # As it is sent: JSON may make a platform's conversation key several times as long.
        said = msgspec.json.encode(topic)
        if len(first) + len(said) + 3 > _MAX_PAYLOAD:
            continue
        if size + len(said) + 1 > _MAX_PAYLOAD:
            yield _array(batch)
            batch, size = [first], len(first) + 2
        batch.append(said)
        size += len(said) + 1
    yield _array(batch)


def _array(items: Iterable[bytes]) -> str:
    return (b"[" + b",".join(items) + b"]").decode()
