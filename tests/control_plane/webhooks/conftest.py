"""A tenant with a webhook at a receiver on loopback, and the worker that tells it."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

import pytest

from adapters.outbound import networks
from control_plane.access import tokens
from control_plane.db import leases
from control_plane.db.session import Scope
from control_plane.parts import Parts, build
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.webhooks.worker import WORK, Webhooks
from tests.conftest import PUBLIC_URL, Person
from tests.control_plane.conversations.scene import Worker
from tests.receivers import Receiver, receiving

CHANGED = "quota.changed"
"""An event without a story of its own."""


@pytest.fixture(autouse=True)
def receivers_clock(clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference library compares a signature's time with the test's clock."""

    class Moment(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return clock.now()

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Moment)


@pytest.fixture
async def parts(app_url, keys, clock, rates, storage) -> AsyncIterator[Parts]:
    """The parts of a platform that may call this machine."""
    parts = build(
        database_url=app_url,
        keys=keys,
        clock=clock,
        public_url=PUBLIC_URL,
        rates=rates,
        outbound_allow=networks("127.0.0.0/8"),
        media=storage,
    )
    yield parts
    await parts.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@dataclass(kw_only=True)
class Hook:
    """One webhook of a tenant."""

    parts: Parts
    maker: Person
    id: UUID
    secret: str

    @property
    def owner(self) -> Person:
        """Who made it, with a token of now: schedules take longer than tokens last."""
        token = tokens.make_access(
            self.parts.house.keys,
            identity_id=self.maker.identity_id,
            tenant_id=self.maker.tenant_id,
            family_id=self.maker.family_id,
            now=self.parts.house.clock.now(),
        )
        return replace(self.maker, token=token)

    @property
    def tenant_id(self) -> UUID:
        assert self.maker.tenant_id is not None
        return self.maker.tenant_id

    async def happens(self, *numbers: int, kind: str = CHANGED) -> None:
        """These happen to the tenant, in one transaction."""
        async with self.parts.house.database.session(Scope(tenants=(self.tenant_id,))) as session:
            entries = [Entry(type=kind, data={"used": number}) for number in numbers]
            await stream.append(session, self.tenant_id, entries)

    async def shown(self) -> dict[str, Any]:
        answer = await self.owner.get(f"/webhooks/{self.id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def messages(self) -> list[dict[str, Any]]:
        """What it was or is to be told, oldest first."""
        answer = await self.owner.get(f"/webhooks/{self.id}/messages?limit=200")
        items: list[dict[str, Any]] = answer.json()["items"]
        return items[::-1]


class Teller(Worker):
    """The worker of webhooks, told when to work; its clock is the test's."""

    def __init__(self, parts: Parts, clock: Any) -> None:
        house = parts.house
        self.webhooks = Webhooks(
            house.database, house.keys, house.clock, house.outbound, random.Random(1)
        )
        self.clock = clock
        super().__init__(house.database, WORK, self.webhooks.follow)

    async def after(self, hook: Hook, by: timedelta) -> timedelta | None:
        """Work on a webhook when that time has passed."""
        self.clock.advance(by)
        return await self.again(hook.id)


@pytest.fixture
def teller(parts, clock) -> Teller:
    return Teller(parts, clock)


@pytest.fixture
def make_hook(parts, people, receiver):
    async def make(*events: str, owner: Any = None, url: str | None = None) -> Hook:
        owner = owner or await people.owner()
        body = {"url": url or receiver.url, "events": list(events) or [CHANGED]}
        answer = await owner.post("/webhooks", body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Hook(parts=parts, maker=owner, id=UUID(made["id"]), secret=made["secret"])

    return make


@pytest.fixture
async def hook(make_hook) -> Hook:
    return await make_hook()


async def taken_over(parts: Parts, key: UUID) -> None:
    """The lease of a webhook has run out, as if its worker had been killed."""
    async with parts.house.database.session() as session:
        await leases.release_all(session)
        await leases.call_key(session, WORK, key)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """End a task like a killed process: wherever it is."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
