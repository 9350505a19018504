"""The stand-in platform on a socket, and an agent's stand-in that hosts the adapter."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from adapters.base import Content, Control, MediaRefused, NotAccepted
from adapters.model import Inbound, Ref
from adapters.simulators.wecom import WeCom
from adapters.wecom.adapter import Adapter
from adapters.wecom.settings import Settings
from instance_agent.client import new_client


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
        self.tries = 0

    async def store(self, chunks, *, name="", content_type=""):
        self.tries += 1
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
    """An agent that keeps what it hears."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.control = Control(url="http://control", http=http)
        self.media = Store()
        self.reported: list[Inbound] = []
        self.accepts = True
        self.proven = asyncio.Event()

    async def report(self, messages, *, position=None):
        if not self.accepts:
            raise NotAccepted("not now")
        self.reported += messages

    def connected(self):
        self.proven.set()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def wecom(clock: SetClock) -> AsyncIterator[WeCom]:
    async with WeCom(clock=clock) as platform:
        yield platform


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with new_client() as http:
        yield Host(http)


@pytest.fixture
def settings(wecom: WeCom) -> Settings:
    return Settings.model_validate(wecom.settings)


@pytest.fixture
async def adapter(settings: Settings, host: Host, clock: SetClock) -> AsyncIterator[Adapter]:
    made = Adapter(settings, host, clock=clock)
    yield made
    await made._arrivals.close()
