"""Published attacks on what a request is made of, by their names."""

import gzip
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from control_plane.app import MAX_BODY_BYTES
from tests.control_plane.conversations.scene import make_bot

HOSTILE = "evil.example"
POISONED = {
    "host": HOSTILE,
    "x-forwarded-host": HOSTILE,
    "forwarded": f"host={HOSTILE}",
    "x-forwarded-proto": "gopher",
}


class TestIdGuessing:
    @pytest.mark.parametrize("near", [-1, 1, 1 << 64, -(1 << 64), 1 << 112])
    async def test_neighbours_of_an_id_are_nothing(self, people, parts, near: int) -> None:
        mine, theirs = await people.owner("Ant"), await people.owner("Bee")
        bot = await make_bot(parts, theirs)
        conversation = await bot.hears("hello")
        for path in (
            f"/conversations/{UUID(int=conversation.int + near)}/messages",
            f"/instances/{UUID(int=bot.instance_id.int + near)}/timeline",
            f"/conversations/{conversation}/messages",
        ):
            answer = await mine.get(path)
            assert answer.status_code == 404 or answer.json()["items"] == []


class TestHeaderInjection:
    @pytest.mark.parametrize(
        "evil", ["a\r\nset-cookie: x=1", "a\nb-header: 1", "a\0bcdefgh", "é" * 9]
    )
    async def test_nothing_that_is_echoed_makes_a_header(self, app, people, evil: str) -> None:
        owner = await people.owner()
        start = await asgi(
            app,
            "/api/v1/instances",
            {
                "authorization": f"Bearer {owner.token}",
                "x-request-id": evil,
                "idempotency-key": evil,
                "content-type": "application/json",
            },
            b'{"name":"x"}',
        )

        assert start["status"] < 500
        for name, value in start["headers"]:
            assert not set(name + value) & set(b"\r\n\0")
            assert evil.encode() not in value
        assert "set-cookie" not in {name.decode() for name, _ in start["headers"]}

    async def test_names_of_downloads_are_ours(self, people) -> None:
        owner = await people.owner('Tea"; filename="x.exe\u2028House')
        for path in ("/export", "/audit/export"):
            name = (await owner.get(path)).headers.get("content-disposition", "")
            assert "exe" not in name


async def asgi(app, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The start of an answer to what no honest client would send."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("botyard.test", 80),
    }
    await app(scope, receive, send)
    return sent[0]


class TestDecompressionBomb:
    async def test_is_never_unpacked(self, people) -> None:
        owner = await people.owner()
        bomb = gzip.compress(b" " * 50_000_000)
        assert len(bomb) < MAX_BODY_BYTES
        for encoding in ("gzip", "deflate", "br", "zstd"):
            answer = await owner.call(
                "POST",
                "/instances",
                content=bomb,
                headers={"content-encoding": encoding, "content-type": "application/json"},
            )
            assert answer.status_code in {400, 415, 422}


DEEP = 100_000
SHAPES = {
    "one byte too many": b'"' + b"a" * (MAX_BODY_BYTES - 1) + b'"',
    "brackets": b"[" * DEEP + b"]" * DEEP,
    "braces": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "many digits": b"9" * 1_000_000,
    "as many as fit a number": b"9" * 4_000,
    "not a number": b"NaN",
    "infinity": b"1e999",
    "NUL": b'"a\\u0000b"',
    "NUL as it is": b'"a\x00b"',
    "half a character": b'"\\ud800"',
    "no UTF-8": b'"\xff\xfe"',
    "unfinished": b'"',
}


class TestMalformedJson:
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
    async def test_is_refused_wherever_it_stands(self, people, shape: bytes) -> None:
        owner = await people.owner()
        instance = (await owner.post("/instances", {"name": "Bot"})).json()["id"]
        places = {
            "/instances": b'{"name":%s}',
            f"/instances/{instance}/revisions": b'{"document":{"rules":{"fallback":%s}}}',
            f"/instances/{instance}/channels": (
                b'{"kind":"webchat","name":"x","settings":{"title":%s}}'
            ),
            "/auth/login": b'{"email":%s,"password":"x"}',
            "/auth/register": b'{"company":%s,"email":"a@example.com","password":"0123456789"}',
        }
        for path, place in places.items():
            answer = await owner.call(
                "POST", path, content=place % shape, headers={"content-type": "application/json"}
            )
            assert answer.status_code in {400, 413, 422}, (path, answer.text)
            assert answer.json()["code"]

    @pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "a\\udfffb"])
    async def test_a_key_is_a_text_too(self, people, text: str) -> None:
        owner = await people.owner()
        for body in (f'{{"name":"x","{text}":1}}', f'{{"{text}":1}}'):
            answer = await owner.call(
                "POST",
                "/instances",
                content=body.encode(),
                headers={"content-type": "application/json"},
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")

    @pytest.mark.parametrize(
        "query",
        [
            "action=%00",
            "target_kind=%00",
            "since=9999-12-31T23:59:59-23:00",
            "until=0001-01-01T00:00:00%2B23:00",
        ],
    )
    async def test_a_query_that_cannot_be_asked_is_refused(self, people, query: str) -> None:
        owner = await people.owner()
        for path in ("/audit", "/audit/export"):
            assert (await owner.get(f"{path}?{query}")).status_code in {400, 422}


class TestMethodOverride:
    @pytest.mark.parametrize(
        "name", ["x-http-method-override", "x-http-method", "x-method-override", "_method"]
    )
    async def test_no_header_or_parameter_changes_the_method(self, people, name: str) -> None:
        owner = await people.owner()
        instance = (await owner.post("/instances", {"name": "Bot"})).json()["id"]
        path = f"/instances/{instance}"
        for answer in (
            await owner.get(path, headers={name: "DELETE"}),
            await owner.get(f"{path}?{name}=DELETE"),
        ):
            assert (answer.status_code, answer.json()["desired"]) == (200, "running")


class TestHostPoisoning:
    async def test_leaves_no_trace_in_a_mail(self, people, browser, mailbox) -> None:
        owner = await people.owner()
        await browser.post("/reset/request", {"email": owner.email}, **POISONED)

        [mail] = mailbox.mails
        assert HOSTILE not in mail["text"]
        assert "http://botyard.test/app/reset#" in mail["text"]

    async def test_leaves_no_trace_in_an_answer(self, people) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, "viewer")
        body = {"email": "guest@example.com", "role": "viewer"}
        instance = (await owner.post("/instances", {"name": "Bot"})).json()["id"]
        site = {"kind": "webchat", "name": "Site"}
        for answer in (
            await owner.post("/invitations", body, headers=POISONED),
            await owner.post(f"/members/{member.member_id}/reset-link", headers=POISONED),
            await owner.post(f"/instances/{instance}/channels", site, headers=POISONED),
        ):
            assert answer.status_code == 201
            assert "http://botyard.test/" in answer.text
            assert HOSTILE not in answer.text

    @pytest.mark.parametrize("path", ["/", "/app", "/api/v1/instances/", "/webchat-assets"])
    async def test_leads_nobody_away(self, client: httpx2.AsyncClient, path: str) -> None:
        answer = await client.get(path, headers=POISONED)

        assert HOSTILE not in answer.headers.get("location", "")


class TestPathTricks:
    @pytest.mark.parametrize(
        "path",
        [
            "/app/%00",
            "/app/..%2f..%2fetc/passwd",
            "/app/%2e%2e/%2e%2e/secret",
            "/app/" + "a" * 5000,
            "/webchat-assets/%00",
            "/webchat-assets/..%2fsecret",
            "/webchat-assets/" + "a" * 5000,
            "/im/%00",
            "/api/v1/plans/%00",
        ],
        ids=lambda path: path[:30],
    )
    async def test_lead_to_no_file(self, client, tmp_path: Path, path: str) -> None:
        (tmp_path / "secret").write_text("a secret")
        (tmp_path / "webchat").mkdir()
        answer = await client.get(path)

        assert answer.status_code in {400, 404, 405}
        assert "a secret" not in answer.text
