"""What stands before every route."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest import mock
from uuid import UUID

import httpx2
import pytest
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from control_plane.access.gate import address_of
from control_plane.access.limits import Rate, Rates
from control_plane.app import create_app
from control_plane.gateway import Gateway
from control_plane.kit.ids import new_id


@pytest.fixture
def rates() -> Rates:
    few = {name: Rate(3, 3600) for name in ("sign_in", "user", "key", "sockets")}
    starts = {"bootstrap": Rate(2, 3600), "bootstraps": Rate(5, 3600)}
    return Rates(**few, **starts, tenant=Rate(5, 3600), anonymous=Rate(4, 3600))


async def statuses(times: int, call) -> list[int]:
    return [(await call()).status_code for _ in range(times)]


class TestHeaders:
    @pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/api/v1/auth/me", "/api/v1/docs"])
    async def test_are_on_every_answer(self, client, path: str) -> None:
        headers = (await client.get(path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers
        assert "access-control-allow-origin" not in headers

    async def test_the_chats_page_may_be_framed_and_its_files_shared(
        self, client, tmp_path: Path
    ) -> None:
        (tmp_path / "webchat").mkdir()
        (tmp_path / "webchat" / "index.html").write_text("<p>")
        page = await client.get("/webchat/token")
        file = await client.get("/webchat-assets/index.html")

        assert "frame-ancestors *" in page.headers["content-security-policy"]
        assert file.headers["access-control-allow-origin"] == "*"

    async def test_tls_is_asked_for_where_there_is_tls(self, parts, tmp_path: Path) -> None:
        parts.house = replace(parts.house, public_url="https://botyard.test")
        transport = httpx2.ASGITransport(app=create_app(parts, web_pages=tmp_path))
        async with httpx2.AsyncClient(transport=transport, base_url="https://b.test") as client:
            answer = await client.get("/healthz")

        assert answer.headers["strict-transport-security"] == "max-age=31536000"


class TestRequestId:
    async def test_is_kept_when_it_has_the_form_and_made_otherwise(self, client) -> None:
        for given, kept in (("abc-123.DEF_456", True), ("short", False), ("x" * 129, False)):
            answer = await client.get("/healthz", headers={"x-request-id": given})
            assert (answer.headers["x-request-id"] == given) == kept


class TestLog:
    async def test_says_what_was_asked_and_no_secret(self, client, people) -> None:
        owner = await people.owner()
        secret = "s3cret-token-of-a-channel"
        with capture_logs([merge_contextvars]) as lines:
            await owner.get(f"/instances?cursor={secret}", headers={"x-request-id": "request-1"})
            await client.get(f"/webchat/{secret}")
            await client.get(f"/im/{secret}/{secret}/x")
            await client.get(f"/{secret}")
            await client.get("/healthz")
        said = [line for line in lines if line["event"] == "request answered"]

        assert secret not in str(said)
        assert owner.token not in str(said)
        assert [(line["route"], line["status"]) for line in said] == [
            ("/api/v1/instances", 400),
            ("/webchat/{token}", 404),
            ("/im/{token}/{rest}", 404),
            ("-", 404),
        ]
        assert said[0]["request_id"] == "request-1"
        assert (said[0]["tenant"], said[0]["actor"]) == (
            str(owner.tenant_id),
            str(owner.identity_id),
        )


class TestLimits:
    async def test_signing_in_is_limited_per_address(self, client) -> None:
        body = {"email": "a@example.com", "password": "wrong"}
        answers = [await client.post("/api/v1/auth/login", json=body) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["code"] == "rate_limited"
        assert 1100 < int(refused.headers["retry-after"]) <= 1200
        assert refused.headers["ratelimit-policy"] == '"sign_in";q=3;w=3600'
        assert refused.headers["ratelimit"].startswith('"sign_in";r=0;t=')
        assert answers[0].headers["ratelimit"].startswith('"sign_in";r=2;t=')

    async def test_so_is_going_to_a_companys_provider_and_coming_back(self, client) -> None:
        for path in ("sign-on?tenant=x", "sign-on/callback/01a1fe4f-8652-77f8-9cb3-83822b663e4d"):
            answer = await client.get(f"/api/v1/auth/{path}")
            assert answer.headers["ratelimit-policy"] == '"sign_in";q=3;w=3600'

    async def test_starts_of_agents_are_limited_by_instance_and_by_address(self, client) -> None:
        async def knock(instance_id: str) -> int:
            headers = {"authorization": "Bearer guessed"}
            path = f"/api/v1/instances/{instance_id}/bootstrap"
            return (await client.post(path, headers=headers)).status_code

        one = UUID("01a1fe4f-8652-77f8-9cb3-83822b663e4d")
        spelt = [str(one), one.hex.upper(), str(one)]
        first = [await knock(each) for each in spelt]
        others = [await knock(str(new_id())) for _ in range(4)]

        assert [status == 429 for status in first] == [False, False, True]
        # Two were let through, so the address has three left.
        assert [status == 429 for status in others] == [False, False, False, True]

    async def test_a_person_is_limited_and_so_is_the_tenant(self, people) -> None:
        owner = await people.owner()
        others = [await people.member(owner.tenant_id, "viewer") for _ in range(2)]
        assert await statuses(4, lambda: owner.get("/instances")) == [200, 200, 200, 429]
        assert await statuses(2, lambda: others[0].get("/instances")) == [200, 200]

        refused = await others[1].get("/instances")
        assert refused.headers["ratelimit"].startswith('"tenant";r=0')
        stranger = await people.owner("Other")
        assert (await stranger.get("/instances")).status_code == 200

    async def test_a_key_pays_for_itself_once_it_is_known(self, people, client) -> None:
        owner = await people.owner()
        made = await owner.post("/api-keys", {"name": "x", "scopes": ["instances.read"]})
        key = {"authorization": f"Bearer {made.json()['key']}"}
        first = await client.get("/api/v1/instances", headers=key)
        later = [await client.get("/api/v1/instances", headers=key) for _ in range(4)]

        assert first.headers["ratelimit-policy"] == '"anonymous";q=4;w=3600'
        assert later[0].headers["ratelimit-policy"] == '"key";q=3;w=3600, "tenant";q=5;w=3600'
        assert [answer.status_code for answer in later] == [200, 200, 200, 429]

    async def test_guessing_keys_is_paid_by_the_address(self, client) -> None:
        async def guess(number: int) -> int:
            headers = {"authorization": f"Bearer by_{number}"}
            return (await client.get("/api/v1/instances", headers=headers)).status_code

        assert [await guess(number) for number in range(5)] == [401, 401, 401, 401, 429]

    async def test_health_is_never_limited(self, client) -> None:
        assert set(await statuses(20, lambda: client.get("/healthz"))) == {200}

    @pytest.mark.parametrize(
        ("host", "counted"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("somebody", "somebody"),
        ],
    )
    def test_a_household_is_one_address(self, host: str, counted: str) -> None:
        assert address_of({"client": (host, 1)}) == counted


class TestTime:
    async def test_what_takes_too_long_is_ended(self, house) -> None:
        ended = asyncio.Event()

        async def never(scope, receive, send) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        gateway = Gateway(never, mock.Mock(), house, answer_within=timedelta(milliseconds=1))
        transport = httpx2.ASGITransport(app=gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://b.test") as client:
            answer = await client.get("/api/v1/x")

        assert ended.is_set()
        assert (answer.status_code, answer.json()["code"]) == (503, "took_too_long")


class TestMeasures:
    async def test_count_answers_by_what_became_of_them_but_no_probes(self, client) -> None:
        def answered(status: str) -> float:
            labels = {"kind": "rest", "status": status}
            return REGISTRY.get_sample_value("botyard_request_seconds_count", labels) or 0.0

        before = answered("2xx"), answered("4xx")
        await client.get("/healthz")
        await client.get("/api/v1/openapi.json")
        await client.get("/api/v1/auth/me")

        assert (answered("2xx"), answered("4xx")) == (before[0] + 1, before[1] + 1)
