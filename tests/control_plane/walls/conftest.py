"""A furnished database, made once, and the application on a copy of it for each module."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from adapters.outbound import networks
from control_plane.access import passwords
from control_plane.access.limits import Rate, Rates
from control_plane.app import create_app
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from control_plane.media.storage import folder
from control_plane.parts import Parts, build
from tests.conftest import PUBLIC_URL, Ground, SetClock
from tests.control_plane.walls.fingerprint import Fingerprint
from tests.control_plane.walls.furnish import Headers, Tenant, World, furnish
from tests.control_plane.walls.operations import Operation

KEY = "the-key-of-these-tests-has-enough-characters"
PLENTY = Rates(**dict.fromkeys(Rates.model_fields, Rate(1_000_000, 1)))
"""A thousand requests from one address are no flood here."""


def parts_over(url: str) -> Parts:
    keys = Keyring([KEY])
    return build(
        database_url=url,
        keys=keys,
        clock=SetClock(),
        public_url=PUBLIC_URL,
        rates=PLENTY,
        media=folder(Path("nowhere")),
        # Receivers and providers are asked here, where nobody answers.
        outbound_allow=networks("127.0.0.0/8,::1/128"),
    )


@asynccontextmanager
async def served(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    """The application over these parts, and a client of it."""
    transport = httpx2.ASGITransport(app=create_app(parts, web_pages=Path("nowhere")))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
            yield client
    finally:
        await parts.close()


async def _furnish(ground: Ground, name: str) -> World:
    await ground.create(name)
    with mock.patch.object(passwords, "COST", 4):
        async with ground.connection(None, name) as superuser:
            parts = parts_over(ground.url(ground.app, name))
            async with served(parts) as client:
                return await furnish(parts, client, superuser)


@pytest.fixture(scope="session")
def furnished(ground: Ground) -> Any:
    """The name of a database with three tenants, and who and what is in it."""
    name = f"furnished_{new_id().hex[-12:]}"
    # On a thread of its own, since the tests' loops are not for what outlives them.
    with ThreadPoolExecutor(1) as thread:
        world = thread.submit(asyncio.run, _furnish(ground, name)).result()
        yield name, world
        thread.submit(asyncio.run, ground.drop(name)).result()


@dataclass
class Stage:
    """The application on a copy of the furnished database."""

    world: World
    parts: Parts
    client: httpx2.AsyncClient
    superuser: asyncpg.Connection
    fingerprint: Fingerprint

    async def ask(
        self, caller: str, operation: Operation, tenant: Tenant | None = None, **more: Any
    ) -> httpx2.Response:
        """Let somebody call, by default with the ids of their own tenant."""
        headers, own = self.world.caller(caller)
        whose = tenant or own
        body = {"json": operation.body(whose)} if operation.takes_body else {}
        return await self.send(headers, operation.method, operation.url(whose), **body | more)

    async def send(self, headers: Headers, method: str, url: str, **more: Any) -> httpx2.Response:
        self.client.cookies.clear()
        return await self.client.request(method, url, headers=headers, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(ground: Ground, furnished: tuple[str, World]) -> AsyncIterator[Stage]:
    source, world = furnished
    name = f"stage_{new_id().hex[-12:]}"
    await ground.create(name, source=source)
    async with ground.connection(None, name) as superuser:
        parts = parts_over(ground.url(ground.app, name))
        async with served(parts) as client:
            fingerprint = await Fingerprint.of(superuser)
            yield Stage(world, parts, client, superuser, fingerprint)
    await ground.drop(name)
