"""The web pages' types are those of the API that serves them."""

import pytest

from tests.contract import web_client

STALE = "run: python -m tests.contract.web_client"


class TestWebClient:
    def test_knows_every_request_and_answer(self) -> None:
        if not (web_client.WEB / "node_modules").is_dir():
            pytest.skip("the generator is not installed; run make web")

        assert web_client.SCHEMA.read_text(encoding="utf-8") == web_client.schema(), STALE

    def test_knows_every_event(self) -> None:
        assert web_client.EVENTS.read_text(encoding="utf-8") == web_client.events(), STALE
