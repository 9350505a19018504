"""Two hundred messages behind one call, and the control plane killed while they are fetched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from adapters.simulators.wecom_kf import MAX_REPLIES, WeComKf
from tests.channels.installation import PATIENCE_S, QUESTIONS, answer_to
from tests.e2e.conftest import Up, started, until

SAID = QUESTIONS[:MAX_REPLIES]
"""By each customer: the platform takes as many answers."""

CUSTOMERS = [f"wm{number}" for number in range(200 // len(SAID))]


class Halfway(WeComKf):
    """Gives its list in small pages, and stands still in the middle until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.faults.page_rows = 20
        self.half = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _sync(self, request: Request) -> Response:
        if self._passed >= len(CUSTOMERS) * len(SAID) / 2:
            self.half.set()
            await self.go_on.wait()
        return await super()._sync(request)


@pytest.fixture
async def platform() -> AsyncIterator[Halfway]:
    async with Halfway() as made:
        yield made


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    async with started(tmp_path, {"BOTYARD_OUTBOUND_ALLOW": "127.0.0.0/8"}) as running:
        yield running


async def connected(up: Up, platform: Halfway) -> None:
    """The demo's bot has an account there, which answers ten questions."""
    admin = await up.sign_in()
    items = [{"question": each, "answer": answer_to(each)} for each in QUESTIONS]
    assert (await admin.put("/answers", json={"items": items})).status_code == 200
    [bot] = (await admin.get("/instances")).json()["items"]
    body = {"kind": "wecom_kf", "name": "客服", "settings": platform.settings}
    made = await admin.post(f"/instances/{bot['id']}/channels", json=body)
    assert made.status_code == 201, made.text
    platform.callback_url = up.first_run["url"] + urlsplit(made.json()["callback_url"]).path

    async def is_connected() -> bool:
        shown = (await admin.get(f"/channels/{made.json()['id']}")).json()
        return bool(shown["state"] == "connected")

    await until(is_connected, "a connected channel", PATIENCE_S)


async def threads(admin: httpx2.AsyncClient) -> list[list[dict[str, Any]]]:
    """What was said in each conversation, once nothing is on its way any more."""

    async def settled() -> list[list[dict[str, Any]]]:
        page = (await admin.get("/conversations?limit=100")).json()["items"]
        found = []
        for each in page:
            path = f"/conversations/{each['id']}/messages?limit=100"
            found.append((await admin.get(path)).json()["items"])
        said = [message for thread in found for message in thread]
        heard = sum(message["sender"]["kind"] == "contact" for message in said)
        # The newest word of each is the bot's, so none waits for an answer.
        answered = all(thread[-1]["sender"]["kind"] == "bot" for thread in found)
        out = {message["delivery"]["state"] for message in said if message["delivery"]}
        done = heard >= len(CUSTOMERS) * len(SAID) and answered and not out & {"queued", "sending"}
        return found if done else []

    found: list[list[dict[str, Any]]] = await until(settled, "an answer to all", PATIENCE_S)
    return found


def words(message: dict[str, Any]) -> str:
    return "".join(segment.get("text", "") for segment in message["segments"])


class TestBurst:
    async def test_behind_one_call_outlives_the_control_plane(
        self, up: Up, platform: Halfway
    ) -> None:
        await connected(up, platform)
        for question in SAID:
            for user in CUSTOMERS:
                platform.put(user, "text", {"content": question})

        assert await platform.ring()
        async with asyncio.timeout(PATIENCE_S):
            await platform.half.wait()
        agents = up.agents()
        up.kill()
        platform.go_on.set()
        await up.start()
        assert up.agents() == agents

        found = await threads(await up.sign_in_again())
        assert len(found) == len(CUSTOMERS)
        told = []
        for thread in found:
            heard = [words(each) for each in thread if each["sender"]["kind"] == "contact"]
            assert heard == SAID
            answers = [each for each in thread if each["sender"]["kind"] == "bot"]
            assert {each["delivery"]["state"] for each in answers} == {"sent"}
            assert words(answers[-1]) == answer_to(SAID[-1])
            told.append([words(each) for each in answers])
        shown = [[each.text for each in platform.shown(user)] for user in CUSTOMERS]
        # Each customer saw what was sent, in order and once.
        assert sorted(shown) == sorted(told)
