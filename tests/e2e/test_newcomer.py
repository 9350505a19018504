"""What a newcomer does, from outside, on a machine that has nothing."""

import os
import signal
import stat

import httpx2

OPENING = "我们每天 9:00 开门"
HANDED_OVER = "已经转给人工客服"


async def running(client, instance_id):
    """Whether the bot runs, as its admin sees it."""
    answer = await client.get(f"/instances/{instance_id}")
    return answer.json()["phase"] == "running" and answer.json()


class TestFirstStart:
    async def test_a_customer_is_answered_and_what_the_bot_does_not_know_goes_to_a_human(
        self, up, visitor
    ):
        first = up.first_run
        assert set(first) == {"url", "operator", "demo"}
        assert stat.S_IMODE((up.folder / "first-run.json").stat().st_mode) == 0o600
        assert first["operator"]["password"] in up.output
        assert first["demo"]["webchat_url"] in up.output
        await visitor.say("1", "你们几点开门？")
        await visitor.sees(lambda page: len(page.answers) == 1)
        assert OPENING in visitor.answers[0]
        await visitor.say("2", "你门己点开们")
        await visitor.sees(lambda page: len(page.answers) == 2)
        assert OPENING in visitor.answers[1]
        await visitor.say("3", "能帮我修一下自行车吗？")
        await visitor.sees(lambda page: page.owner == "waiting" and len(page.answers) == 3)
        assert HANDED_OVER in visitor.answers[2]

    async def test_pages_and_documents_are_served(self, up):
        async with httpx2.AsyncClient(base_url=up.first_run["url"], trust_env=False) as http:
            for path in ("/healthz", "/readyz", "/metrics", "/app/", "/api/v1/docs"):
                assert (await http.get(path)).status_code == 200, path
            page = await http.get(up.first_run["demo"]["webchat_url"])
            assert page.status_code == 200
            assert "unsafe-inline" not in page.headers["content-security-policy"]
            document = (await http.get("/api/v1/openapi.json")).json()
            assert document["openapi"].startswith("3.1")
            missing = await http.get("/api/v1/nowhere")
            assert missing.headers["content-type"] == "application/problem+json"
            assert missing.json()["code"] == "route_not_found"

    async def test_ctrl_c_stops_everything_and_the_next_start_finds_it_all(self, up, visitor):
        await visitor.say("1", "你们几点开门？")
        await visitor.sees(lambda page: len(page.answers) == 1)
        before = up.first_run
        assert up.interrupt() == 0
        assert up.agents() == []
        assert up.databases() == []
        await up.start()
        again = up.first_run
        assert again["operator"] == before["operator"]
        assert again["demo"]["tenant_id"] == before["demo"]["tenant_id"]
        await visitor.say("2", "你们几点关门？")
        await visitor.sees(lambda page: len(page.answers) == 2)
        assert len({message["id"] for message in visitor.shown}) == len(visitor.shown)


class TestOwnBot:
    """A second company, from registration to a bot that people can take over."""

    async def test_a_company_registers_is_approved_and_runs_its_bot(self, up, page_of, until):
        operator = await up.sign_in("operator")
        company = {"company": "书店", "email": "boss@books.example", "password": "a long password"}
        registered = await operator.post("/auth/register", json=company)
        assert registered.status_code == 201, registered.text
        login = {"email": company["email"], "password": company["password"]}
        client = up.client()
        signed_in = (await client.post("/auth/login", json=login)).json()
        client.headers["authorization"] = f"Bearer {signed_in['access_token']}"
        early = await client.post("/instances", json={"name": "bot"})
        assert (early.status_code, early.json()["code"]) == (403, "tenant_not_active")
        tenant = signed_in["tenant_id"]
        assert (await operator.post(f"/tenants/{tenant}/approve")).status_code == 200

        bot = (await client.post("/instances", json={"name": "bot"})).json()["id"]
        channel = await client.post(
            f"/instances/{bot}/channels", json={"kind": "webchat", "name": "web"}
        )
        assert channel.status_code == 201
        assert "secret" not in channel.json()["settings"]
        items = [{"question": "有没有《红楼梦》？", "answer": "有，二楼古典文学区。"}]
        assert (await client.put("/answers", json={"items": items})).status_code == 200
        await until(lambda: running(client, bot), "the bot runs")

        async with page_of(channel.json()["webchat_url"]) as page:
            await self._chat(client, page, until)
        await self._configure(client, bot, until)
        demo = await up.sign_in()
        assert (await demo.get(f"/instances/{bot}")).status_code == 404
        assert (await client.delete(f"/instances/{bot}")).status_code == 202
        gone = await until(lambda: self._gone(client, bot), "the bot is gone")
        assert gone.json()["code"] == "instance_not_found"

    async def _chat(self, client, page, until):
        await page.say("1", "请问有没有红楼梦呀")
        await page.sees(lambda page: page.answers == ["有，二楼古典文学区。"])
        conversation = (await client.get("/conversations")).json()["items"][0]
        path = f"/conversations/{conversation['id']}"
        taken = await client.post(
            f"{path}/take-over", json={"owner_version": conversation["owner_version"]}
        )
        assert taken.json()["owner"] == "human"
        stale = await client.post(
            f"{path}/hand-back", json={"owner_version": conversation["owner_version"]}
        )
        assert (stale.status_code, stale.json()["code"]) == (409, "owner_changed")
        body = {"segments": [{"type": "text", "text": "您好，我是小王。"}]}
        key = {"idempotency-key": "one"}
        sent = [await client.post(f"{path}/messages", json=body, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in sent] == [202, 202]
        assert sent[0].json() == sent[1].json()
        await page.sees(lambda page: page.answers[1:] == ["您好，我是小王。"])
        thread = (await client.get(f"{path}/messages")).json()["items"]
        assert [message["number"] for message in thread] == [1, 2, 3]
        assert (await client.post(f"{path}/hand-back")).json()["owner"] == "bot"
        await page.say("2", "有没有红楼梦")
        await page.sees(lambda page: len(page.answers) == 3)

        async def delivered():
            thread = (await client.get(f"{path}/messages")).json()["items"]
            states = [item["delivery"]["state"] for item in thread if item["delivery"]]
            return states == ["sent", "sent", "sent"]

        await until(delivered, "every delivery is sent")
        assert (await client.post(f"{path}/close")).json()["owner"] == "closed"

    async def _configure(self, client, bot, until):
        bad = {"document": {"rules": {"answer_threshold": 7}, "persona": {"name": ""}}}
        refused = await client.post(f"/instances/{bot}/revisions", json=bad)
        assert refused.status_code == 422
        paths = {error["path"] for error in refused.json()["errors"]}
        assert paths == {"/rules/answer_threshold", "/persona/name"}

        good = {"document": {"persona": {"name": "小书"}}}
        first = (await client.post(f"/instances/{bot}/revisions", json=good)).json()
        changes = (await client.get(f"/revisions/{first['id']}/diff")).json()["changes"]
        assert changes == [{"path": "/persona/name", "before": "Bot", "after": "小书"}]
        assert (await client.post(f"/revisions/{first['id']}/publish")).status_code == 200
        await until(lambda: self._stands(client, bot, applied=1, last_good=1), "1 applied")

        greedy = {"document": {"limits": {"spool_max_bytes": 10**18}}}
        second = (await client.post(f"/instances/{bot}/revisions", json=greedy)).json()
        await client.post(f"/revisions/{second['id']}/publish")
        standing = await until(
            lambda: self._stands(client, bot, desired=2, rejected=2, applied=1), "2 rejected"
        )
        assert standing["errors"][0]["path"] == "/limits/spool_max_bytes"
        rolled = await client.post(f"/instances/{bot}/rollback", json={"number": 1})
        assert rolled.json()["reverts"] == 1
        await until(lambda: self._stands(client, bot, applied=3, rejected=None), "back on 1")
        await until(lambda: running(client, bot), "the bot runs")

    @staticmethod
    async def _stands(client, bot, **expected):
        answer = await client.get(f"/instances/{bot}/revisions")
        standing = answer.json()["standing"]
        return expected.items() <= standing.items() and standing

    @staticmethod
    async def _gone(client, bot):
        answer = await client.get(f"/instances/{bot}")
        return answer.status_code == 404 and answer


class TestCrashLoop:
    async def test_an_agent_that_keeps_dying_is_shown_with_its_last_words(self, up, until):
        client = await up.sign_in()
        bot = (await client.get("/instances")).json()["items"][0]["id"]
        await until(lambda: running(client, bot), "the bot runs")
        killed: set[int] = set()

        async def crash_looping():
            for pid in set(up.agents()) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            instance = (await client.get(f"/instances/{bot}")).json()
            return instance["phase"] == "crash_loop" and instance

        instance = await until(crash_looping, "a crash loop")
        condition = instance["conditions"][0]
        assert condition["reason"] == "crash_loop"
        assert "identity taken" in condition["message"]
        restarted = await client.post(f"/instances/{bot}/restart")
        assert restarted.json()["generation"] == instance["generation"] + 1
        await until(lambda: running(client, bot), "the bot runs again")
        assert len(up.agents()) == 1
