"""A tenant's people and agent, what they store, and real bytes of several kinds."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from adapters import standard_webhooks
from control_plane.kit.ids import new_id
from control_plane.media.storage import Storage, bucket, folder
from instance_agent.protocol import media_target
from tests.control_plane.ingest.conftest import (
    Agent,
    Agents,
    agent,
    agents,
    kept,
)

__all__ = ["agent", "agents", "kept"]

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 200
HTML = b"<html><script>alert(1)</script></html>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
BUCKET = "botyard-test"


async def pieces(body: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx2.put(f"{url}/{BUCKET}").raise_for_status()
    yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def either(request: pytest.FixtureRequest, tmp_path) -> Storage:
    """Both kinds of storage."""
    if request.param == "folder":
        return folder(tmp_path / "objects")
    place = f"s3://{BUCKET}/{new_id()}/deep"
    url = request.getfixturevalue("s3")
    return bucket(place, key="key", secret="secret", endpoint=url)


@dataclass
class Store:
    """Does with media what people and agents do."""

    client: httpx2.AsyncClient
    owner: Any

    async def reserve(self, size: int, name: str = "a.png", who: Any = None) -> dict[str, Any]:
        answer = await (who or self.owner).post("/media", {"size": size, "name": name})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def put(self, url: str, body: Any) -> httpx2.Response:
        return await self.client.put(url, content=body)

    async def add(self, body: bytes = PNG, name: str = "a.png", who: Any = None) -> str:
        """Stored bytes; their id."""
        reserved = await self.reserve(len(body), name, who)
        answer = await self.put(reserved["upload_url"], body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
        return reserved["media_id"]


@pytest.fixture
async def owner(people) -> Any:
    return await people.owner()


@pytest.fixture
def store(client: httpx2.AsyncClient, owner: Any) -> Store:
    return Store(client, owner)


async def ask(agent: Agent, body: Any, *, webhook_id: str | None = None) -> httpx2.Response:
    """An agent asks for room; unlike a batch, a request is not known again by its body."""
    raw = msgspec.json.encode(body)
    return await agent.client.post(
        f"/api/v1/instances/{agent.instance_id}/media",
        content=raw,
        headers=agent.headers(raw, webhook_id=webhook_id or str(new_id())),
    )


async def link(agent: Agent, media_id: Any, *, signed: Any = None) -> httpx2.Response:
    """An agent asks where bytes are."""
    return await agent.client.get(
        f"/api/v1/instances/{agent.instance_id}/media/{media_id}",
        headers=standard_webhooks.sign(
            agent.secret,
            message_id=str(new_id()),
            timestamp=int(agent.clock.now().timestamp()),
            body=media_target(agent.instance_id, signed or media_id),
        ),
    )


async def add(agent: Agent, body: bytes = PNG, name: str = "a.png") -> str:
    """What an agent stores; its id."""
    reserved = (await ask(agent, {"size": len(body), "name": name})).json()
    answer = await agent.client.put(reserved["upload_url"], content=body)
    assert answer.status_code == 200, answer.text
    return reserved["media_id"]


__all__ += ["Agents"]
