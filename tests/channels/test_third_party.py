"""A kind of channel from an installed distribution: the one that docs/adapters.md shows."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters import registry
from adapters.simulators.serving import serving
from control_plane.kit.ids import new_id
from tests.channels.installation import PATIENCE_S, QUESTIONS, Installation, answer_to, installed
from tests.conftest import Ground

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
FILE = re.compile(r"^`([\w./]+)`.*?^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET = "a secret of enough characters"


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, built and installed as a person would, into a folder of their own."""
    source = tmp_path_factory.mktemp("postbox")
    target = tmp_path_factory.mktemp("site")
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        file = source / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def postbox(distribution: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(distribution))
    yield
    registry._KINDS.pop("postbox", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "postbox"]:
        del sys.modules[name]


class Postbox:
    """The platform: letters that were brought, and who is known."""

    callback_url = ""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> "Postbox":
        account = Route("/account", self._account)
        messages = Route("/messages", self._message, methods=["POST"])
        self._serving = serving(Starlette(routes=[account, messages]))
        self.settings = {"secret": SECRET, "base_url": await self._serving.__aenter__()}
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._serving.__aexit__(None, None, None)

    async def bring(self, number: int, text: str) -> int:
        letter = {"id": number, "from": "lin", "text": text, "at": time.time()}
        headers = {"authorization": f"Bearer {SECRET}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
            return (await http.post(self.callback_url, json=letter, headers=headers)).status_code

    async def until_brought(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.letters) >= count)

    async def _account(self, request: Request) -> Response:
        known = request.headers["authorization"] == f"Bearer {SECRET}"
        return JSONResponse({}, 200 if known else 401)

    async def _message(self, request: Request) -> Response:
        self.letters.append(await request.json())
        async with self._news:
            self._news.notify_all()
        return JSONResponse({"id": len(self.letters)})


@pytest.fixture
async def house(
    postbox: None, distribution: Path, ground: Ground, tmp_path: Path
) -> AsyncIterator[Installation]:
    database = f"test_{new_id().hex[-12:]}"
    await ground.create(database)
    async with installed(
        ground, database, tmp_path, "postbox", platform=Postbox(), paths=[distribution]
    ) as house:
        yield house
    await ground.drop(database)


class TestPostbox:
    @pytest.mark.usefixtures("postbox")
    def test_is_found_by_its_entry_point(self) -> None:
        assert "postbox" in registry.kinds()
        assert registry.kind("postbox").title == "Postbox"
        assert registry.kind("postbox").adapter().exclusive is False

    def test_is_not_there_without_its_distribution(self) -> None:
        assert "postbox" not in registry.kinds()

    async def test_takes_a_message_in_and_its_answer_out(self, house: Installation) -> None:
        platform: Any = house.platform

        assert await platform.bring(1, QUESTIONS[0]) == 200
        assert await platform.bring(1, QUESTIONS[0]) == 200
        await platform.until_brought(1)

        threads = await house.settled()
        assert [each.text for each in threads["lin"]] == [QUESTIONS[0], answer_to(QUESTIONS[0])]
        assert platform.letters == [{"to": "lin", "text": answer_to(QUESTIONS[0])}]
