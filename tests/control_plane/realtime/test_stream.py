"""The event stream: the same frames over plain HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.control_plane.conversations.scene import PATIENCE_S, until
from tests.control_plane.realtime.conftest import FEW, Replica


class Events:
    """An open stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str | None, dict[str, Any]]:
        """The next event's id and frame."""
        name = None
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if line.startswith("id: "):
                    name = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))
        raise EOFError


@asynccontextmanager
async def listening(
    replica: Replica, person: Any, last: str | None = None
) -> AsyncIterator[Events]:
    headers = {"authorization": f"Bearer {person.token}"}
    if last is not None:
        headers["last-event-id"] = last
    url = f"http://127.0.0.1:{replica.port}/api/v1/stream"
    async with (
        httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


@pytest.fixture
async def owner(people):
    return await people.owner()


class TestStream:
    async def test_goes_on_where_the_last_event_was(self, replica: Replica, owner, append) -> None:
        async with listening(replica, owner) as events:
            begins, ready = await events.next()
            await append(owner.tenant_id, 1)
            last, first = await events.next()
        await append(owner.tenant_id, 2)
        async with listening(replica, owner, last) as events:
            await events.next()
            _, second = await events.next()

        assert begins == f"{ready['epoch']}-{ready['seq']}"
        assert last == f"{first['epoch']}-{first['seq']}"
        assert [first["event"]["data"], second["event"]["data"]] == [{"n": 1}, {"n": 2}]

    @pytest.mark.parametrize("last", ["", "nonsense", "9-1", "-1--1", f"1-{10**30}", "1-1-1"])
    async def test_an_id_that_was_never_given_out_is_a_reset(
        self, replica: Replica, owner, last: str
    ) -> None:
        async with listening(replica, owner, last) as events:
            await events.next()

            assert (await events.next())[1]["type"] == "reset"

    async def test_a_long_gap_comes_whole(self, replica: Replica, owner, append) -> None:
        await append(owner.tenant_id, *range(1_300), filler="x" * 1_000)
        async with listening(replica, owner, "1-0") as events:
            await events.next()
            heard = []
            while len(heard) < 1_300:
                _, frame = await events.next()
                if frame["event"]["type"] == "message.created":
                    heard.append(frame["event"]["data"]["n"])

        assert heard == list(range(1_300))

    async def test_ends_with_its_token_and_says_so(self, replica: Replica, owner, clock) -> None:
        async with listening(replica, owner) as events:
            await events.next()
            clock.advance(timedelta(minutes=16))
            _, closed = await events.next()

            assert closed == {"type": "closed", "code": 4401, "reason": "token_expired"}
            with pytest.raises(EOFError):
                await events.next()

    async def test_places_are_counted_and_given_back(self, replica: Replica, owner) -> None:
        async def one_more() -> dict[str, Any]:
            async with listening(replica, owner) as events:
                return (await events.next())[1]

        async with AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(listening(replica, owner))
                for _ in range(FEW.per_member)
            ]
            for events in opened:
                await events.next()
            refused = await one_more()
        await until(replica.empty, "streams that have ended")

        assert refused == {"type": "closed", "code": 4429, "reason": "too_many_of_member"}
        assert (await one_more())["type"] == "ready"

    async def test_strangers_keys_and_operators_get_none(self, client, people, owner) -> None:
        operator = await people.operator()
        key = await owner.post("/api-keys", {"name": "k", "scopes": ["conversations.read"]})
        assert key.status_code == 201, key.text
        secret = key.json()["key"]

        answers = [
            await client.get("/api/v1/stream"),
            await client.get(f"/api/v1/stream?token={owner.token}"),
            await client.get("/api/v1/stream", headers={"authorization": f"Bearer {secret}"}),
            await operator.get("/stream"),
        ]

        assert [(a.status_code, a.json()["code"]) for a in answers] == [
            (401, "not_signed_in"),
            (401, "not_signed_in"),
            (403, "not_a_person"),
            (403, "not_a_member"),
        ]
