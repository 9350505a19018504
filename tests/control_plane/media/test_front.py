"""Media links at the gateway: charged like strangers, not cut off, and not written down."""

import pytest
from structlog.testing import capture_logs

from control_plane.access.limits import Rate, Rates
from control_plane.gateway import is_upload
from tests.control_plane.ingest.conftest import Agent
from tests.control_plane.media.conftest import ask

HTTP = {"type": "http", "method": "PUT", "path": "/media/token"}


@pytest.fixture
def rates() -> Rates:
    return Rates(media=Rate(2, 60))


class TestRate:
    async def test_is_the_addresss_whatever_it_asks_for(self, client) -> None:
        answers = [
            await client.get("/media/one"),
            await client.put("/media/two", content=b"x"),
            await client.get("/media/three"),
        ]

        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert '"media";q=2;w=60' in answers[2].headers["ratelimit-policy"]

    async def test_counts_what_agents_ask_for(self, agent: Agent) -> None:
        answers = [await ask(agent, {"size": 10}) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [201, 201, 429]


class TestUpload:
    @pytest.mark.parametrize(
        ("scope", "is_one"),
        [
            (HTTP, True),
            (HTTP | {"method": "POST"}, False),
            (HTTP | {"path": "/media/token/more"}, False),
            (HTTP | {"path": "/api/v1/media/token"}, False),
            ({"type": "websocket", "path": "/media/token"}, False),
        ],
    )
    def test_is_told_by_its_path_and_method(self, scope: dict, is_one: bool) -> None:
        assert is_upload(scope) is is_one


class TestLog:
    async def test_holds_no_token(self, client) -> None:
        with capture_logs() as logs:
            await client.get("/media/a-token-that-opens")

        assert [log["route"] for log in logs if "route" in log] == ["/media/{token}"]
        assert "a-token" not in str(logs)
