"""What people do in a real browser, with everything behind it real."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters.simulators.wecom import WeCom
from tests.openid_provider import MISSING, is_installed

WEB = Path(__file__).parents[2] / "web-admin"
BROWSER = Path("/usr/bin/chromium")
# Seconds; the longest takes one or two minutes on an idle machine, many more on a busy one.
SCENE_WITHIN_S = 900


def lacking() -> str | None:
    """What must be there first."""
    if not BROWSER.exists() or shutil.which("node") is None:
        return "no browser; apt-get install -y chromium fonts-noto-cjk"
    if not (WEB / "dist/app/index.html").exists():
        return "the pages are not built; run make web"
    return None


async def play(scene: str, up, given: Any = None) -> None:
    """Run a scene of web-admin/browser; whatever it says stands in the failure."""
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    process = await asyncio.create_subprocess_exec(
        "node",
        "browser/run.mjs",
        scene,
        up.first_run["url"],
        str(up.folder / "first-run.json"),
        json.dumps(given),
        cwd=WEB,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SCENE_WITHIN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, said.decode(errors="replace")


class TestInbox:
    async def test_a_killed_socket_loses_nothing_and_repeats_nothing(self, up) -> None:
        await play("chaos", up)

    async def test_a_member_sees_a_visitor_come_and_answers_and_long_threads_stay_still(
        self, up
    ) -> None:
        await play("reply", up)
        await play("long", up)

    async def test_two_members_hand_a_customer_on_with_notes_that_the_customer_never_sees(
        self, up
    ) -> None:
        await play("desk", up)

    async def test_of_two_members_who_take_one_conversation_at_once_one_has_it(self, up) -> None:
        await play("race", up)


@pytest.fixture
def in_the_house() -> dict[str, str]:
    """Models and platforms stand in the house."""
    return {"BOTYARD_OUTBOUND_ALLOW": "127.0.0.0/8"}


class TestDelivery:
    @pytest.fixture
    def settings(self, in_the_house: dict[str, str]) -> dict[str, str]:
        return in_the_house

    async def test_a_member_sees_why_a_platform_did_not_take_it_and_decides(self, up) -> None:
        async with WeCom() as platform:
            await play("delivery", up, platform.settings)


class TestAssistance:
    @pytest.fixture
    def settings(self, in_the_house: dict[str, str]) -> dict[str, str]:
        return in_the_house

    async def test_a_models_words_are_seen_as_it_says_them_and_its_help_is_taken(self, up) -> None:
        await play("assist", up)
        await play("alerts", up)


class TestTakeOver:
    @pytest.fixture
    def settings(self, in_the_house: dict[str, str]) -> dict[str, str]:
        return in_the_house

    async def test_while_the_bot_answers_nothing_of_its_answer_is_sent(self, up) -> None:
        await play("takeover", up)


class TestConsole:
    async def test_a_member_sets_a_bot_up_and_goes_back_from_a_version_that_it_refuses(
        self, up
    ) -> None:
        await play("console", up)


class TestOwnSystems:
    @pytest.fixture
    def settings(self, in_the_house: dict[str, str]) -> dict[str, str]:
        return in_the_house

    async def test_a_model_a_receiver_a_phone_and_a_provider_do_what_was_set_up(self, up) -> None:
        for scene in ("behaviour", "webhook", "factor"):
            await play(scene, up)
        if not is_installed():
            pytest.skip(MISSING)
        await play("signOn", up)


class TestNewcomer:
    async def test_a_company_gets_from_nothing_to_a_colleague_by_its_checklist(self, up) -> None:
        await play("newcomer", up)


class TestPlatform:
    async def test_an_operator_decides_about_a_company_and_sees_the_fleet(self, up) -> None:
        await play("platform", up)

    async def test_an_operator_steers_a_bot_and_a_rollout_and_sees_queues(self, up) -> None:
        await play("ops", up)

    async def test_a_company_suspended_in_the_middle_of_a_chat_loses_nothing(self, up) -> None:
        await play("suspension", up)


class TestKeyboard:
    async def test_a_member_needs_no_pointer(self, up) -> None:
        await play("keyboard", up)


class TestBlacklist:
    async def test_many_are_blocked_at_once_and_let_in_again(self, up) -> None:
        await play("blacklist", up)


class TestPages:
    async def test_have_no_serious_fault_of_accessibility(self, up) -> None:
        await play("reply", up)
        await play("access", up)

    async def test_fit_a_phone(self, up) -> None:
        await play("phone", up)
