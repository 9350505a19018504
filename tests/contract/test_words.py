"""The pages have a word, in both languages, for every reason that the back end gives."""

import json
import re
from typing import Any

import pytest

from control_plane.delivery import reasons
from control_plane.fleet.provision.base import WorkloadState
from instance_agent import holds, supervisor
from tests.contract.web_client import WEB

APP = WEB / "app"
STANDING = {
    *WorkloadState,
    *("ended", "crash_loop", "active", "no_session", "silent", "cut_off", "applied", "pending"),
    *("rejected", "connected", "no_channels", "none_connected"),
}
"""Reasons of an instance's conditions (control_plane/fleet/status.py)."""


@pytest.fixture(params=["zh-CN", "en"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def words(language: str, file: str) -> dict[str, Any]:
    text = (APP / "locales" / language / f"{file}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


class TestWords:
    def test_every_failure_of_a_delivery_has_one(self, language: str) -> None:
        assert set(reasons.BY_CLASS) <= set(words(language, "words")["failure"])

    def test_every_reason_of_a_condition_has_one(self, language: str) -> None:
        assert set(map(str, STANDING)) <= set(words(language, "words")["reason"])

    def test_every_sentence_of_an_agent_about_a_channel_has_one(self, language: str) -> None:
        sentences = json.loads((APP / "features/channels/reasons.json").read_text("utf-8"))
        known = words(language, "console/channels")["channelReason"]
        said = [
            supervisor.SILENT,
            supervisor.NOT_YET,
            supervisor.RETURNED,
            holds.ELSEWHERE,
            holds.LET_GO,
            "the adapter raised ValueError",
            "nothing can be sent: 48001",
        ]

        assert set(sentences) == set(known)
        patterns = [re.sub(r"\\{\w+\\}", ".+", re.escape(each)) for each in sentences.values()]
        for sentence in said:
            assert any(re.fullmatch(pattern, sentence) for pattern in patterns), sentence
