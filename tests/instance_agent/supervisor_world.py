"""Accounts that behave as they are told, and a supervisor over them."""

import asyncio
import dataclasses
from random import Random
from typing import ClassVar
from uuid import uuid4

from pydantic import BaseModel

from adapters.base import ChannelDown, ChannelRefused, NotAccepted
from adapters.model import CallbackAnswer
from instance_agent.channel_host import ChannelSpec
from instance_agent.protocol import LeaseAnswer

CHANNEL, OTHER = uuid4(), uuid4()


class Settings(BaseModel):
    name: str
    behaviour: str = "connect"


class Account:
    """An adapter that writes down its life."""

    exclusive: ClassVar[bool] = False
    life: ClassVar[list[str]] = []
    hosts: ClassVar[dict[str, object]] = {}
    end: ClassVar[asyncio.Event]
    waiting: ClassVar[asyncio.Event]
    left: ClassVar[list[asyncio.Task]] = []

    def __init__(self, settings, host):
        self.settings, self.host = settings, host
        self.hosts[settings.name] = host

    async def probe(self):
        pass

    async def run(self):
        self.life.append(f"start {self.settings.name}")
        try:
            await self._behave(self.settings.behaviour)
        finally:
            self.life.append(f"stop {self.settings.name}")

    async def _behave(self, behaviour):
        match behaviour:
            case "connect":
                self.host.connected()
                await asyncio.Event().wait()
            case "end":
                self.host.connected()
                await self.end.wait()
            case "raise":
                raise ValueError("with a secret inside")
            case "return":
                return
            case "refuse":
                raise ChannelRefused("/name", "no such account")
            case "down":
                raise ChannelDown("somebody else has the account")
            case "dumb":
                await asyncio.Event().wait()
            case "leave":
                self.left.append(asyncio.create_task(asyncio.Event().wait()))
                self.host.connected()
                await self.end.wait()

    async def callback(self, request, *, verified):
        task = asyncio.create_task(asyncio.Event().wait())
        self.left.append(task)
        if request == "wait":
            self.waiting.set()
            await task
        return CallbackAnswer()


class ExclusiveAccount(Account):
    exclusive: ClassVar[bool] = True

    def account(self):
        return "the one account"


class SocketAccount(Account):
    """Its platform comes to it."""

    def __init__(self, settings, host):
        super().__init__(settings, host)
        self.running = False

    async def run(self):
        self.running = True
        try:
            await super().run()
        finally:
            self.running = False

    async def socket(self, connection):
        if not self.running:
            raise NotAccepted("not now")
        self.life.append(f"socket {self.settings.name}")
        try:
            await connection.receive()
        finally:
            self.life.append(f"socket of {self.settings.name} ends")


class Connection:
    """A socket that says nothing until it is cut."""

    def __init__(self):
        self.cut = asyncio.Event()
        self.used = asyncio.Event()

    async def receive(self):
        self.used.set()
        await self.cut.wait()


async def granted(accounts, number):
    return LeaseAnswer(accounts=dict.fromkeys(accounts, "held"), life_s=60)


@dataclasses.dataclass(frozen=True)
class FakeKind:
    name: str
    type: type
    takes_sockets: bool = False

    def rule(self, _settings):
        return "stored"

    def adapter(self):
        return self.type


class Statuses:
    """What the supervisor reported, to be waited for."""

    def __init__(self):
        self.seen = []
        self._changed = asyncio.Condition()

    async def record(self, status):
        self.seen.append((status.channel_id, status.state, status.reason))
        async with self._changed:
            self._changed.notify_all()

    async def until(self, *wanted):
        await self.until_true(lambda: set(wanted) <= set(self.seen))

    async def until_true(self, true):
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)


class Never(Random):
    """Back-off without waiting: full jitter at its best."""

    def uniform(self, a, b):
        return a


class NobodyBlocked:
    def blocks(self, *_):
        return False


class Steady:
    """Seconds that the test sets."""

    now = 500.0

    def __call__(self):
        return self.now


def spec(name, *, kind="shared", behaviour="connect", channel=CHANNEL):
    return ChannelSpec(id=channel, kind=kind, settings=Settings(name=name, behaviour=behaviour))


def restarts(supervisor):
    return supervisor._around.metrics.restarts.labels("shared")._value.get()


async def until(true):
    """For what tells nobody."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)
