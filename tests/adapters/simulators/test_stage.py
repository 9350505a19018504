"""The page on which one plays the customer, over HTTP."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from adapters.simulators.play import CannotPlay, logins, platform_of
from adapters.simulators.serving import serving
from adapters.simulators.stage import Stage
from adapters.simulators.wecom import WeCom


class Bench:
    def __init__(self, platform: WeCom, http: httpx2.AsyncClient) -> None:
        self.platform, self.http = platform, http
        self.heard: list[bytes] = []
        self.status = 200

    async def take(self, request) -> Response:
        self.heard.append(await request.body())
        return Response("", self.status)

    async def answer(self, text: str) -> None:
        """What a bot would do."""
        url = f"{self.platform.url}/cgi-bin"
        platform = self.platform
        who = {"corpid": platform.corp_id, "corpsecret": platform.secret}
        token = (await self.http.get(f"{url}/gettoken", params=who)).json()["access_token"]
        body = {
            "touser": "zhangsan",
            "agentid": platform.agent_id,
            "msgtype": "text",
            "text": {"content": text},
        }
        said = await self.http.post(f"{url}/message/send?access_token={token}", json=body)
        assert said.json()["errcode"] == 0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with WeCom() as platform, httpx2.AsyncClient(trust_env=False) as http:
        bench = Bench(platform, http)
        app = Starlette(routes=[Route("/im", bench.take, methods=["POST"])])
        stage = Stage(platform, kind="wecom", secret="known")
        async with serving(app) as ours, serving(stage.app()) as page:
            platform.callback_url = f"{ours}/im"
            http.base_url = f"{page}/known/"
            yield bench


@asynccontextmanager
async def events(http: httpx2.AsyncClient) -> AsyncIterator[AsyncIterator[tuple[str, dict]]]:
    async def each(lines) -> AsyncIterator[tuple[str, dict]]:
        name = ""
        async for line in lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    async with http.stream("GET", "events") as answer:
        yield each(answer.aiter_lines())


class TestPage:
    @pytest.mark.parametrize("name", ["", "stage.js", "stage.css"])
    async def test_is_served_with_nothing_from_elsewhere(self, bench: Bench, name: str) -> None:
        answer = await bench.http.get(name)

        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "innerHTML" not in answer.text

    async def test_is_nobodys_who_does_not_know_its_address(self, bench: Bench) -> None:
        root = str(bench.http.base_url).removesuffix("known/")
        answer = await bench.http.post(f"{root}guessed/say", json={"text": "hi"})

        assert answer.status_code == 404


class TestSaying:
    async def test_brings_it_and_says_whether_it_was_taken(self, bench: Bench) -> None:
        order = {"user": "lisi", "text": "你好"}
        assert (await bench.http.post("say", json=order)).json() == {"acknowledged": True}
        assert len(bench.heard) == 1
        bench.status = 503
        assert (await bench.http.post("say", json=order)).json() == {"acknowledged": False}

    async def test_brings_pictures(self, bench: Bench) -> None:
        picture = b"\x89PNG and more"
        order = {"user": "lisi", "picture": base64.b64encode(picture).decode()}

        assert (await bench.http.post("say", json=order)).json() == {"acknowledged": True}
        assert [each.body for each in bench.platform.media.values()] == [picture]

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("text/plain", b'{"text": "hi"}'),
            ("application/json", b"[]"),
            ("application/json", b"{"),
            ("application/json", b'{"picture": "?"}'),
            ("application/json", b"[" * 100_000),
        ],
    )
    async def test_refuses_what_the_page_would_not_send(
        self, bench: Bench, content_type: str, body: bytes
    ) -> None:
        headers = {"content-type": content_type}

        assert (await bench.http.post("say", content=body, headers=headers)).status_code == 400
        assert bench.heard == []


class TestSeeing:
    async def test_shows_what_was_answered_before_and_what_is_answered_then(
        self, bench: Bench
    ) -> None:
        await bench.answer("早上九点。")
        async with events(bench.http) as seen:
            assert (await anext(seen))[1]["kind"] == "wecom"
            name, first = await anext(seen)
            assert (name, first["text"], first["user"]) == ("shown", "早上九点。", "zhangsan")
            await bench.answer("<b>晚上九点。</b>")
            assert (await anext(seen))[1]["text"] == "<b>晚上九点。</b>"


class TestTrouble:
    async def test_is_made_on_request(self, bench: Bench) -> None:
        for what in ("disconnect", "expire_tokens", "limit"):
            assert (await bench.http.post("do", json={"what": what})).status_code == 200
        assert bench.platform.faults.rate_limit == 3
        assert (await bench.http.post("do", json={"what": "explode"})).status_code == 400


class TestLogins:
    def test_are_those_of_first_run(self, tmp_path) -> None:
        file = tmp_path / "first-run.json"
        demo = {"email": "demo@botyard.local", "password": "p", "webchat_url": "x"}
        file.write_text(json.dumps({"url": "http://127.0.0.1:8080", "demo": demo}))

        assert logins(file).password == "p"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            '{"url": "https://bots.example.com", "demo": {"email": "e", "password": "p"}}',
            '{"url": "http://127.0.0.1.example.com", "demo": {"email": "e", "password": "p"}}',
        ],
    )
    def test_of_anything_but_this_machine_are_refused(self, tmp_path, text: str) -> None:
        file = tmp_path / "first-run.json"
        file.write_text(text)

        with pytest.raises(CannotPlay):
            logins(file)

    @pytest.mark.parametrize("kind", ["webchat", "platform", "../wecom", "nothing"])
    def test_a_kind_without_a_stand_in_is_named(self, kind: str) -> None:
        with pytest.raises(CannotPlay):
            platform_of(kind)
