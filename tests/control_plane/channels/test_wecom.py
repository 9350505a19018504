"""A WeCom application through the whole house: set up over REST, messages over real sockets."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from adapters.simulators.play import CannotPlay, Logins, playing
from adapters.simulators.wecom import WeCom
from control_plane.app import create_app
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.kit.clock import SystemClock
from control_plane.kit.ids import new_id
from control_plane.parts import Background, Parts, Stoppable, run_until
from control_plane.serve import HttpServer, listen
from tests.conftest import PASSWORD
from tests.control_plane.conversations.scene import Bot, until

ANSWERS = [
    {"question": "你们几点开门？", "answer": "早上九点。"},
    {"question": "你们卖什么花？", "answer": "玫瑰和百合。"},
]
PATIENCE_S = 30.0
# The agent of this tree, whichever one is installed.
RUN_AGENT = f"""
import runpy, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
runpy.run_module("instance_agent", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def clock() -> SystemClock:
    """Agents and the platform read the machine's clock."""
    return SystemClock()


@pytest.fixture
async def wecom() -> AsyncIterator[WeCom]:
    # A busy machine may take longer than a real platform waits; what is tested is the answer.
    async with WeCom(deadline_s=PATIENCE_S, check_deadline_s=PATIENCE_S) as platform:
        yield platform


class Bench:
    """A tenant with a bot, its account at WeCom, and the platform behind it."""

    def __init__(self, owner: Any, wecom: Any, *, kind: str = "wecom") -> None:
        self.owner = owner
        self.wecom = wecom
        self.kind = kind
        self.instance_id = ""
        self.channel: dict[str, Any] = {}

    async def open(self) -> None:
        made = await self.owner.post("/instances", {"name": "Bot"})
        self.instance_id = made.json()["id"]
        answer = await self.owner.post(
            f"/instances/{self.instance_id}/channels",
            {"kind": self.kind, "name": "客服", "settings": self.wecom.settings},
        )
        assert answer.status_code == 201, answer.text
        self.channel = answer.json()

    async def look(self) -> dict[str, Any]:
        return (await self.owner.get(f"/channels/{self.channel['id']}")).json()

    async def check(self) -> dict[str, Any]:
        answer = await self.owner.post(f"/channels/{self.channel['id']}/check")
        assert answer.status_code == 200, answer.text
        return answer.json()

    @staticmethod
    def found(checked: dict[str, Any]) -> dict[str, bool | None]:
        return {each["code"]: each["ok"] for each in checked["findings"]}

    async def connected(self) -> None:
        async def look() -> bool:
            return (await self.look())["state"] == "connected"

        await until(look, "a connected channel")

    async def said(self) -> list[tuple[str, str]]:
        """(who, what) of the only conversation."""
        items = (await self.owner.get("/conversations")).json()["items"]
        if not items:
            return []
        [conversation] = items
        thread = await self.owner.get(f"/conversations/{conversation['id']}/messages?limit=200")
        return [
            (item["sender"]["kind"], item["segments"][0]["text"]) for item in thread.json()["items"]
        ]


@pytest.fixture
async def bench(people, wecom: WeCom) -> Bench:
    bench = Bench(await people.owner(), wecom)
    await bench.open()
    return bench


class TestSetUp:
    async def test_shows_the_address_to_copy_and_never_a_secret(self, bench: Bench) -> None:
        shown = await bench.look()

        assert shown["callback_url"].startswith("http://botyard.test/im/")
        assert shown["webchat_url"] is None
        assert sorted(shown["secrets_set"]) == ["encoding_aes_key", "secret", "token"]
        assert set(shown["settings"]) == {"corp_id", "agent_id", "base_url"}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("encoding_aes_key", "too-short"),
            ("encoding_aes_key", "=" * 43),
            ("agent_id", 0),
            ("corp_id", "ww 1"),
            ("base_url", "https://user@host"),
            ("base_url", "https://host/path?to="),
            ("base_url", "https://host:0"),
            ("secret", ""),
        ],
    )
    async def test_a_wrong_setting_is_refused_with_its_path(
        self, bench: Bench, name: str, value: Any
    ) -> None:
        answer = await bench.owner.post(
            f"/instances/{bench.instance_id}/channels",
            {"kind": "wecom", "name": "x", "settings": bench.wecom.settings | {name: value}},
        )

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_settings")
        assert [error["path"] for error in answer.json()["errors"]] == [f"/settings/{name}"]
        assert "too-short" not in answer.text


@pytest.fixture
async def port(parts: Parts, tmp_path: Path) -> AsyncIterator[int]:
    """The application on a port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(create_app(parts, web_pages=tmp_path), listener)
    task = asyncio.create_task(server.run())
    yield listener.getsockname()[1]
    server.stop()
    await task


class TestWithoutAnAgent:
    async def test_the_check_of_the_address_is_answered(self, bench: Bench, port: int) -> None:
        bench.wecom.callback_url = local(bench.channel["callback_url"], port)

        assert await bench.wecom.check_address()

    async def test_an_agent_is_not_asked_for_it(
        self, bench: Bench, parts: Parts, port: int
    ) -> None:
        # The console waits for one second, and an agent that hangs has two and a half.
        asked = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as agent:
            bot = Bot(
                parts=parts,
                owner=bench.owner,
                instance_id=UUID(bench.instance_id),
                channel_id=UUID(bench.channel["id"]),
                token="",
            )
            url = f"http://127.0.0.1:{agent.sockets[0].getsockname()[1]}"
            await bot.attach(url, new_id())
            bench.wecom.callback_url = local(bench.channel["callback_url"], port)

            assert await bench.wecom.check_address()

        assert not asked.is_set()

    async def test_the_check_of_another_company_is_not(self, bench: Bench, port: int) -> None:
        async with WeCom() as stranger:
            stranger.callback_url = local(bench.channel["callback_url"], port)

            assert not await stranger.check_address()
            assert not await stranger.say("zhangsan", "hello")

        assert stranger.tries == [3]

    async def test_what_is_said_is_kept_and_acknowledged_at_once(
        self, bench: Bench, port: int, superuser
    ) -> None:
        bench.wecom.callback_url = local(bench.channel["callback_url"], port)

        assert await bench.wecom.say("zhangsan", "你们几点开门？")

        assert bench.wecom.tries == [1]
        assert await superuser.fetchval("SELECT count(*) FROM callbacks") == 1

    async def test_what_is_too_old_is_not_taken(self, bench: Bench, port: int) -> None:
        async with WeCom(clock=lambda: time.time() - 3600) as late:
            late.seal, late.corp_id = bench.wecom.seal, bench.wecom.corp_id
            late.callback_url = local(bench.channel["callback_url"], port)

            assert not await late.say("zhangsan", "an hour ago")


def local(callback_url: str, port: int) -> str:
    return f"http://127.0.0.1:{port}/im/{callback_url.rpartition('/')[2]}"


@pytest.fixture
async def house_at_work(parts: Parts, port: int, tmp_path: Path) -> AsyncIterator[None]:
    """Workers, controllers and agents as real processes, around the application on its port."""
    provisioner = ProcessProvisioner(
        tmp_path / "instances",
        control_url=f"http://127.0.0.1:{port}",
        mint=parts.bootstraps.mint,
        clock=parts.house.clock,
        command=(sys.executable, "-P", "-c", RUN_AGENT),
        outbound_allow="127.0.0.0/8",
    )
    parts.provisioner = provisioner
    deciding, working = asyncio.Event(), asyncio.Event()
    controllers = asyncio.create_task(run_until([parts.controllers(provisioner, "")], deciding))
    workers: list[Stoppable] = [*parts.api(), *parts.workers()]
    bus: list[Stoppable] = [Background("bus", parts.bus.run())]
    rest = asyncio.create_task(run_until([workers, bus], working))
    yield
    deciding.set()
    await controllers
    # The agents end while there is still somebody to tell.
    ids = [item.instance_id async for item in provisioner.inventory()]
    for instance_id in ids:
        await provisioner.stop(instance_id, grace=timedelta(seconds=5))
    working.set()
    await rest
    await provisioner.close()


@pytest.fixture
async def open_shop(bench: Bench, port: int, house_at_work) -> Bench:
    """The bot runs and knows its answers."""
    items = {"items": ANSWERS}
    answer = await bench.owner.call("PUT", "/answers", json=items)
    assert answer.status_code == 200, answer.text
    bench.wecom.callback_url = local(bench.channel["callback_url"], port)
    await bench.connected()
    return bench


class TestCheck:
    async def test_says_without_an_agent_what_can_be_said(self, bench: Bench, port: int) -> None:
        checked = await bench.check()

        assert not checked["ready"]
        assert bench.found(checked) == {"agent": False, "settings": True, "callback": False}
        assert checked["callback_url"] == bench.channel["callback_url"]
        assert all(each["text"] and each["text_zh"] for each in checked["findings"])

    async def test_knows_that_the_platform_has_called(self, bench: Bench, port: int) -> None:
        bench.wecom.callback_url = local(bench.channel["callback_url"], port)
        async with WeCom() as stranger:
            stranger.callback_url = bench.wecom.callback_url
            assert not await stranger.say("zhangsan", "hello")
        [called] = [
            each for each in (await bench.check())["findings"] if each["code"] == "callback"
        ]
        assert called["ok"] is False
        assert "签名不符" in called["text_zh"]

        assert await bench.wecom.check_address()
        [called] = [
            each for each in (await bench.check())["findings"] if each["code"] == "callback"
        ]
        assert called["ok"] is True
        assert called["at"] is not None

    async def test_tries_the_account_through_the_agent(self, open_shop: Bench) -> None:
        assert await open_shop.wecom.say("zhangsan", "你们几点开门？")
        checked = await open_shop.check()

        assert checked["ready"], checked
        assert list(open_shop.found(checked)) == [
            "agent",
            "settings",
            "credentials",
            "permission",
            "trusted_address",
            "connection",
            "callback",
        ]

    async def test_names_a_wrong_secret_and_never_shows_one(self, open_shop: Bench) -> None:
        wecom = open_shop.wecom
        held, wecom.secret = wecom.secret, "another"
        wecom.expire_tokens()
        checked = await open_shop.check()

        [wrong] = [each for each in checked["findings"] if each["code"] == "credentials"]
        assert (wrong["ok"], wrong["path"]) == (False, "/secret")
        assert wrong["text"] == "The platform says no: WeCom does not know this secret."
        assert not checked["ready"]
        for secret in (held, wecom.token, wecom.encoding_aes_key):
            assert secret not in str(checked)

    async def test_names_an_address_that_is_not_trusted(self, open_shop: Bench) -> None:
        open_shop.wecom.faults.refused_address = "203.0.113.9"
        assert await open_shop.wecom.say("zhangsan", "你们几点开门？")

        async def refused() -> Any:
            found = await open_shop.check()
            return open_shop.found(found)["trusted_address"] is False and found

        checked = await until(refused, "the platform's refusal")
        [wrong] = [each for each in checked["findings"] if each["code"] == "trusted_address"]
        assert "203.0.113.9" in wrong["text"]
        assert open_shop.found(checked)["credentials"] is not False

    async def test_takes_the_permission_to_write(self, bench: Bench, people) -> None:
        other = await people.owner(company="Other")

        answer = await other.post(f"/channels/{bench.channel['id']}/check")
        assert answer.status_code == 404


class TestPlayed:
    """`botyard simulate wecom`: somebody plays the customer in a browser."""

    @pytest.mark.parametrize("new", [False, True], ids=["known", "new"])
    async def test_a_person_gets_the_answer_on_the_page(
        self, open_shop: Bench, port: int, new: bool
    ) -> None:
        words: list[str] = []
        who = Logins(url=f"http://127.0.0.1:{port}", email=open_shop.owner.email, password=PASSWORD)
        channel_id = "new" if new else open_shop.channel["id"]

        async with (
            playing("wecom", channel_id, who, words.append) as page,
            httpx2.AsyncClient(base_url=page, trust_env=False, timeout=PATIENCE_S) as http,
            http.stream("GET", "events") as events,
        ):
            said = await http.post("say", json={"user": "lisi", "text": "你们几点开门？"})
            assert said.json() == {"acknowledged": True}
            async with asyncio.timeout(PATIENCE_S):
                async for line in events.aiter_lines():
                    if line.startswith("data: ") and "早上九点。" in str(json.loads(line[6:])):
                        break
        assert words == []

    @pytest.mark.parametrize("wrong", ["kind", "channel", "password"])
    async def test_says_what_is_wrong(self, bench: Bench, port: int, wrong: str) -> None:
        who = Logins(
            url=f"http://127.0.0.1:{port}",
            email=bench.owner.email,
            password="another" if wrong == "password" else PASSWORD,
        )
        channel_id = str(new_id()) if wrong == "channel" else bench.channel["id"]
        kind = "no_such" if wrong == "kind" else "wecom"

        with pytest.raises(CannotPlay):
            async with playing(kind, channel_id, who, print):
                pass


class TestJourney:
    async def test_a_customer_gets_the_answer(self, open_shop: Bench) -> None:
        wecom = open_shop.wecom

        assert await wecom.say("zhangsan", "你们几点开门？")
        await wecom.until_seen(1, patience_s=PATIENCE_S)

        assert wecom.told("zhangsan") == ["早上九点。"]
        assert wecom.tries == [1]
        assert await open_shop.said() == [("contact", "你们几点开门？"), ("bot", "早上九点。")]

    async def test_a_message_that_is_delivered_again_is_answered_once(
        self, open_shop: Bench
    ) -> None:
        wecom = open_shop.wecom
        wecom.faults.redeliver = 2

        assert await wecom.say("zhangsan", "你们几点开门？")
        wecom.faults.redeliver = 0
        assert await wecom.say("zhangsan", "你们卖什么花？")
        await wecom.until_seen(2, patience_s=PATIENCE_S)

        assert wecom.told("zhangsan") == ["早上九点。", "玫瑰和百合。"]
        assert wecom.tries == [3, 1]

    async def test_what_is_said_while_the_agent_is_away_is_answered_later_in_order(
        self, open_shop: Bench
    ) -> None:
        wecom, owner = open_shop.wecom, open_shop.owner
        await owner.post(f"/instances/{open_shop.instance_id}/stop")

        async def stopped() -> bool:
            shown = (await owner.get(f"/instances/{open_shop.instance_id}")).json()
            return shown["phase"] == "stopped"

        await until(stopped, "a stopped instance")
        for text in ("你们几点开门？", "你们卖什么花？"):
            assert await wecom.say("zhangsan", text)
        assert wecom.tries == [1, 1]
        assert wecom.seen == []

        await owner.post(f"/instances/{open_shop.instance_id}/start")
        await wecom.until_seen(1, patience_s=PATIENCE_S)

        async def heard() -> list[str]:
            said = await open_shop.said()
            questions = [what for who, what in said if who == "contact"]
            return questions if len(questions) == 2 else []

        assert await until(heard, "both questions") == ["你们几点开门？", "你们卖什么花？"]

    async def test_a_token_that_ends_early_costs_nothing(self, open_shop: Bench) -> None:
        wecom = open_shop.wecom
        wecom.expire_tokens()

        assert await wecom.say("zhangsan", "你们几点开门？")
        await wecom.until_seen(1, patience_s=PATIENCE_S)

        assert wecom.told("zhangsan") == ["早上九点。"]
        assert wecom.calls["gettoken"] >= 2

    async def test_a_send_without_an_answer_is_never_repeated_by_itself(
        self, open_shop: Bench
    ) -> None:
        wecom, owner = open_shop.wecom, open_shop.owner
        wecom.faults.drop_reply = 1

        assert await wecom.say("zhangsan", "你们几点开门？")
        await wecom.until_seen(1, patience_s=PATIENCE_S)

        async def settled() -> str:
            [conversation] = (await owner.get("/conversations")).json()["items"]
            thread = await owner.get(f"/conversations/{conversation['id']}/messages")
            states = [
                item["delivery"]["state"] for item in thread.json()["items"] if item["delivery"]
            ]
            return states[0] if states and states[0] not in {"queued", "sending"} else ""

        assert await until(settled, "a delivery with an end") == "unconfirmed"
        assert wecom.told("zhangsan") == ["早上九点。"]
