"""An agent's stand-in that hosts an adapter: it hears, keeps media, and dials."""

import asyncio
import hashlib
from functools import partial

import httpx2

from adapters import sockets
from adapters.base import Content, Control, MediaRefused, NotAccepted, Undelivered
from adapters.model import Inbound, Ref
from adapters.outbound import Door, networks


class SetClock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.time = 1_755_850_000.0

    def __call__(self) -> float:
        return self.time


class Store:
    """The tenant's media: small enough to refuse, and away while it is told to be."""

    def __init__(self) -> None:
        self.kept: dict[str, Content] = {}
        self.max_bytes = 1024 * 1024
        self.away = 0
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.tries = 0

    async def store(self, chunks, *, name="", content_type=""):
        self.tries += 1
        self.asked.set()
        await self.open.wait()
        if self.away:
            self.away -= 1
            raise NotAccepted("the store is away")
        body = b""
        async for chunk in chunks:
            body += chunk
            if len(body) > self.max_bytes:
                raise MediaRefused("too large")
        return self.put(body, name=name)

    def put(self, body: bytes, *, name: str = "", content_type: str = "image/png") -> Ref:
        sha256 = hashlib.sha256(body).hexdigest()
        ref = Ref(via="media", id=sha256[:8])
        self.kept[ref.id] = Content(body=body, name=name, content_type=content_type, sha256=sha256)
        return ref

    async def read(self, ref):
        if self.away:
            raise NotAccepted("the store is away")
        if ref.id not in self.kept:
            raise MediaRefused("gone")
        return self.kept[ref.id]


class Host:
    """An agent that keeps what it hears: `reported`, and the newest `position`."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.dial = partial(sockets.dial, Door(networks("127.0.0.0/8")))
        self.control = Control(url="http://control", http=http)
        self.media = Store()
        self.reported: list[Inbound] = []
        self.position: str | None = None
        self.accepts = True
        self.blocked: set[str] = set()
        self.failures: list[Undelivered] = []
        self.proven = asyncio.Event()
        self.note: str | None = None
        self.cuts = 0
        self._news = asyncio.Condition()

    def admitted(self, messages):
        return [each for each in messages if each.sender.id not in self.blocked]

    def hears(self, sender_id):
        return sender_id not in self.blocked

    async def report(self, messages, *, position=None):
        if not self.accepts:
            raise NotAccepted("not now")
        self.reported += self.admitted(messages)
        self.position = position or self.position
        async with self._news:
            self._news.notify_all()

    async def undelivered(self, failure):
        if not self.accepts:
            raise NotAccepted("not now")
        self.failures.append(failure)

    def resume(self):
        return self.position

    async def until_reported(self, count: int, *, patience_s: float = 20) -> None:
        async with asyncio.timeout(patience_s), self._news:
            await self._news.wait_for(lambda: len(self.reported) >= count)

    def disconnected(self):
        self.cuts += 1

    def connected(self, note=None):
        self.note = note
        self.proven.set()
