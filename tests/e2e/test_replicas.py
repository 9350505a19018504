"""Any number of each process: one of each killed with kill -9, and the others go on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest

from control_plane.bus.loop import LEASE
from tests.e2e.conftest import page_of, until
from tests.e2e.replicas import GATE, HELD_UP, JOBS, PATIENCE_S, Replicas, install
from tests.faults import witness
from tests.faults.checker import at_rest, check
from tests.faults.customers import Guest
from tests.faults.installation import ANSWERS, BOSS, OPERATOR, sign_in
from tests.model_provider import KEY, ModelProvider, providing

UNKNOWN = "能帮我修一下自行车吗？"
_OWNER = "SELECT owner FROM work WHERE kind = $1 AND owner IS NOT NULL"


@pytest.fixture
async def provider() -> AsyncIterator[ModelProvider]:
    async with providing() as provider:
        yield provider


@pytest.fixture
async def replicas(
    tmp_path: Path, app_url: str, superuser: asyncpg.Connection
) -> AsyncIterator[Replicas]:
    """Two of each, and the timed jobs held up in their middle."""
    await witness.install(superuser)
    await install(superuser)
    replicas = Replicas(tmp_path, app_url)
    async with replicas.up():
        yield replicas


async def furnish(replicas: Replicas, http: httpx2.AsyncClient, provider: ModelProvider) -> str:
    """A tenant whose bot knows a list of answers and a model; the address of its web chat."""
    said = await asyncio.to_thread(replicas.command, "operator", OPERATOR)
    await http.post("/auth/register", json={"company": "茶馆", **BOSS})
    await sign_in(http, {"email": OPERATOR, "password": said.split()[-1]})
    [waiting] = (await http.get("/tenants?state=pending")).json()["items"]
    await http.post(f"/tenants/{waiting['id']}/approve")
    await sign_in(http, BOSS)
    items = [{"question": q, "answer": a} for q, a in ANSWERS.items()]
    await http.put("/answers", json={"items": items})
    account = {"name": "M", "kind": "openai", "base_url": provider.url, "api_key": KEY}
    model = (await http.post("/providers", json=account)).json()["id"]
    bot = (await http.post("/instances", json={"name": "b"})).json()["id"]
    site = {"kind": "webchat", "name": "Site"}
    channel = (await http.post(f"/instances/{bot}/channels", json=site)).json()
    document = {"llm": {"models": [{"provider": model, "model": "m"}]}}
    path = f"/instances/{bot}/revisions"
    made = (await http.post(path, json={"document": document})).json()
    assert (await http.post(f"/revisions/{made['id']}/publish")).status_code == 200
    await runs(http, bot)
    return str(channel["webchat_url"])


async def runs(http: httpx2.AsyncClient, bot: str, generation: int = 1) -> None:
    async def so() -> bool:
        found = (await http.get(f"/instances/{bot}")).json()
        return (found["phase"], found["observed_generation"]) == ("running", generation)

    await until(so, f"the bot's generation {generation} runs", PATIENCE_S)


class TestOneOfEachKilled:
    async def test_is_replaced_by_the_other_and_nothing_is_done_twice(
        self, replicas: Replicas, provider: ModelProvider, superuser: asyncpg.Connection
    ) -> None:
        async with httpx2.AsyncClient(
            base_url=f"{replicas.url}/api/v1", trust_env=False, timeout=20
        ) as http:
            url = await furnish(replicas, http, provider)
            async with page_of(lambda: replicas.page(url)) as page:
                guest = Guest(page, "guest")
                await self.asks(guest, "你们在哪里？")
                killed = [
                    await self.leader_dies(replicas, superuser),
                    await self.worker_dies(replicas, superuser, guest, provider),
                    await self.api_dies(replicas, guest),
                ]
                for question in ANSWERS:
                    await self.asks(guest, question)
                await self.bot_is_restarted(replicas, http)
                await self.asks(guest, "你们在哪里？")
                await until(lambda: at_rest(superuser), "an end of all work", PATIENCE_S)
                found = await check(superuser, [guest], {})
        assert found.wrong == []
        assert [name.partition("-")[0] for name in killed] == ["controller", "worker", "api"]
        await self.nothing_was_done_twice(superuser)
        assert await asyncio.to_thread(replicas.stop) == [0, 0, 0]

    async def asks(self, guest: Guest, question: str) -> None:
        before = len(guest.told)
        await guest.say(f"guest-{len(guest.said)}", question)
        await guest.page.sees(lambda page: len(page.answers) > before, PATIENCE_S)
        assert guest.told[before:] == [ANSWERS[question]]

    async def leader_dies(self, replicas: Replicas, connection: asyncpg.Connection) -> str:
        """In the middle of its timed jobs: what it did of them is undone, the other does them."""

        async def in_the_middle() -> bool:
            return bool(await connection.fetchval(HELD_UP, GATE) == len(JOBS))

        await until(in_the_middle, "the leader is in the middle of all its jobs", PATIENCE_S)
        leader = replicas.who(await connection.fetchval(_OWNER, "leader"))
        replicas.kill(leader)
        await connection.execute("SELECT pg_advisory_unlock($1)", GATE)
        return leader

    async def worker_dies(
        self,
        replicas: Replicas,
        connection: asyncpg.Connection,
        guest: Guest,
        provider: ModelProvider,
    ) -> str:
        """While it waits for a model: the other worker brings the turn to its end."""
        provider.then(provider.hang)
        await guest.say(f"guest-{len(guest.said)}", UNKNOWN)
        async with asyncio.timeout(PATIENCE_S):
            await provider.arrived.wait()
        worker = replicas.who(await connection.fetchval(_OWNER, "turn"))
        before = len(guest.told)
        replicas.kill(worker)
        await guest.page.sees(lambda page: len(page.answers) > before, PATIENCE_S)
        assert guest.told[before:] == ["我们九点开门。"]
        return worker

    async def api_dies(self, replicas: Replicas, guest: Guest) -> str:
        """With the page's socket, and what was just written to it."""
        before, api = len(guest.told), replicas.serves_page
        await guest.say(f"guest-{len(guest.said)}", "怎么退货？")
        replicas.kill(api)
        await guest.page.sees(lambda page: len(page.answers) > before, PATIENCE_S)
        assert guest.told[before:] == [ANSWERS["怎么退货？"]]
        assert replicas.serves_page != api
        return api

    async def bot_is_restarted(self, replicas: Replicas, http: httpx2.AsyncClient) -> None:
        """By the controller that is left, over an agent that it may not have started."""
        [before] = replicas.agents()
        [bot] = (await http.get("/instances")).json()["items"]
        await http.post(f"/instances/{bot['id']}/restart")
        await runs(http, bot["id"], generation=bot["generation"] + 1)
        [after] = replicas.agents()
        assert after.pid != before.pid

    async def nothing_was_done_twice(self, connection: asyncpg.Connection) -> None:
        """Each job was done once, and no lease was taken before its end."""

        async def all_done() -> bool:
            return await connection.fetchval("SELECT count(*) FROM replicas.done") >= len(JOBS)

        await until(all_done, "the next leader has done all jobs", PATIENCE_S)
        done = Counter(row["job"] for row in await connection.fetch("SELECT * FROM replicas.done"))
        assert done == dict.fromkeys(JOBS, 1)
        taken = await connection.fetch("SELECT * FROM replicas.taken")
        assert {"leader", "turn"} <= {row["kind"] for row in taken}
        for row in taken:
            assert row["owner"] != row["former"]
            assert 0 <= row["expired"].total_seconds() < LEASE.total_seconds(), dict(row)
