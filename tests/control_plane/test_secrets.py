"""No secret where it must not be: the real flow, and then a search in all that it left behind."""

import asyncio
import json
import logging
import os
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
import structlog

from control_plane import logs
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.fleet.provision.process import ProcessProvisioner
from control_plane.kit.ids import new_token
from control_plane.parts import Parts

PASSWORD = "a password which is not to be seen"
WRONG = "another password that is wrong"
CHANNEL_SECRET = "a channel secret that nobody is to see"
SHORT_SECRET = "too-short-to-be-one"
MODEL_KEY = "sk-a-key-that-nobody-is-to-see"
BAD_MODEL_KEY = "sk-a key with spaces, refused"
PATIENCE_S = 60
KEY = "the-key-of-these-tests-has-enough-characters"


@pytest.fixture
def log_file(tmp_path: Path, own_logging: None) -> Path:
    """Where everything that is logged in this test goes, as in production."""
    file = tmp_path / "process.log"
    logs.to_file("test", file)
    # A logger that keeps its first configuration would keep it for the other tests as well.
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    logging.getLogger().setLevel(logging.DEBUG)
    return file


class Flow:
    """What people and an agent do; every answer is kept, every secret noted."""

    def __init__(self, client: httpx2.AsyncClient, parts: Parts) -> None:
        self._client = client
        self._parts = parts
        self.secrets = {"password": PASSWORD, "channel secret": CHANNEL_SECRET, "key": KEY}
        self.secrets |= {"wrong password": WRONG, "short secret": SHORT_SECRET}
        self.secrets |= {"model key": MODEL_KEY, "bad model key": BAD_MODEL_KEY}
        self.answers: list[tuple[str, str]] = []
        """(what was asked, everything in the answer), but for answers that hand out a secret."""

    async def ask(
        self, method: str, path: str, token: str | None = None, **more
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await self._client.request(
            method, f"/api/v1{path}", headers=headers | more.pop("headers", {}), **more
        )
        self.answers.append((f"{method} {path}", f"{answer.headers}\n{answer.text}"))
        return answer

    async def handed_out(self, method: str, path: str, *arguments, **more) -> httpx2.Response:
        """An answer whose purpose is to give its caller a secret."""
        answer = await self.ask(method, path, *arguments, **more)
        assert answer.status_code < 300
        del self.answers[-1]
        return answer

    async def sign_up(self) -> str:
        body = {"company": "Tea House", "email": "lin@example.com", "password": PASSWORD}
        assert (await self.ask("POST", "/auth/register", json=body)).status_code == 201
        await self.ask("POST", "/auth/register", json=body | {"password": WRONG})
        await self.ask("POST", "/auth/register", json=body | {"surprise": PASSWORD})
        login = {"email": "lin@example.com", "password": WRONG}
        await self.ask("POST", "/auth/login", json=login)
        await self.ask("POST", "/auth/login", json=login | {"tenant_id": WRONG})
        answer = await self.handed_out("POST", "/auth/login", json=login | {"password": PASSWORD})
        access: str = answer.json()["access_token"]
        self.secrets |= {"access": access, "refresh": answer.cookies["botyard_refresh"]}
        return access

    async def make_channel(self, access: str, instance_id: str) -> None:
        path = f"/instances/{instance_id}/channels"
        for secret in (SHORT_SECRET, CHANNEL_SECRET):
            body = {"kind": "webchat", "name": "Site", "settings": {"secret": secret}}
            answer = await self.ask("POST", path, access, json=body)
        channel = answer.json()["id"]
        for settings in ({"title": "Tea"}, {"secret": CHANNEL_SECRET}):
            await self.ask("PATCH", f"/channels/{channel}", access, json={"settings": settings})

    async def make_provider(self, access: str, instance_id: str) -> None:
        body = {"name": "M", "kind": "openai", "base_url": "https://models.example.com/v1"}
        for key in (BAD_MODEL_KEY, MODEL_KEY):
            answer = await self.ask("POST", "/providers", access, json=body | {"api_key": key})
        path = f"/providers/{answer.json()['id']}"
        for change in ({"name": "N"}, {"api_key": MODEL_KEY}, {"api_key": BAD_MODEL_KEY}):
            await self.ask("PATCH", path, access, json=change)
        chain = [{"provider": answer.json()["id"], "model": "m"}]
        revisions = f"/instances/{instance_id}/revisions"
        document = {"document": {"llm": {"models": chain}}}
        written = await self.ask("POST", revisions, access, json=document)
        published = f"/revisions/{written.json()['id']}/publish"
        assert (await self.ask("POST", published, access)).status_code == 200
        assert (await self.ask("DELETE", path, access)).status_code == 409

    async def start_agent(self, instance_id: str, tenant_id: str) -> None:
        spec = InstanceSpec(instance_id=UUID(instance_id), tenant_id=UUID(tenant_id), generation=1)
        token = self._parts.bootstraps.mint(spec)
        body = {
            "protocol": 1,
            "schema_version": 1,
            "version": "0",
            "endpoint": "http://127.0.0.1:1",
            "journal_id": str(uuid4()),
            "generation": 1,
        }
        path = f"/instances/{instance_id}/bootstrap"
        given = (await self.handed_out("POST", path, token, json=body)).json()
        self.secrets |= {"bootstrap": token, "session": given["session_token"]}
        self.secrets |= {"api token": given["api_token"]}
        self.secrets |= {"webhook secret": given["webhook_secrets"][0]}
        assert (await self.ask("POST", path, token, json=body)).status_code == 403
        await self.ask("POST", path, "x" + token, json=body)
        signature = {"webhook-id": "1", "webhook-timestamp": "1"}
        signature |= {"webhook-signature": given["webhook_secrets"][0]}
        await self.ask("POST", f"/instances/{instance_id}/events", headers=signature, json={})

    async def look_around(self, access: str, instance_id: str) -> None:
        for path in (
            "/audit",
            "/audit/export",
            "/auth/me",
            "/instances",
            f"/instances/{instance_id}",
            f"/instances/{instance_id}/channels",
            f"/instances/{instance_id}/timeline",
            f"/instances/{instance_id}/revisions",
            "/conversations",
            "/answers",
            "/providers",
        ):
            assert (await self.ask("GET", path, access)).status_code == 200
        await self.ask("GET", "/openapi.json")
        await self.ask("GET", "/instances", access[:-2] + "xx")
        refresh = {"cookie": f"botyard_refresh={self.secrets['refresh']}"}
        self._client.cookies.clear()
        again = await self.handed_out("POST", "/auth/refresh", headers=refresh)
        self.secrets |= {"new access": again.json()["access_token"]}
        self.secrets |= {"new refresh": again.cookies["botyard_refresh"]}
        self._client.cookies.clear()
        assert (await self.ask("POST", "/auth/refresh", headers=refresh)).status_code == 401


@pytest.fixture
async def flow(client, parts, people, log_file: Path, superuser: asyncpg.Connection) -> Flow:
    flow = Flow(client, parts)
    access = await flow.sign_up()
    operator = await people.operator()
    tenant_id = (await flow.ask("GET", "/auth/me", access)).json()["tenant_id"]
    await operator.post(f"/tenants/{tenant_id}/approve")
    instance = (await flow.ask("POST", "/instances", access, json={"name": "Bot"})).json()["id"]
    await flow.make_channel(access, instance)
    await flow.make_provider(access, instance)
    await flow.start_agent(instance, tenant_id)
    await flow.look_around(access, instance)
    # A line that says more than any of ours should, to know that the log is read at all.
    structlog.get_logger().warning("the end of the flow", phone="13812341234")
    return flow


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def found(secrets: dict[str, str], text: str) -> list[str]:
    """The names of the secrets that occur in a text, as they are or in hexadecimal."""
    return [
        name
        for name, secret in secrets.items()
        if secret in text or json.dumps(secret)[1:-1] in text or secret.encode().hex() in text
    ]


class TestAfterTheFlow:
    async def test_no_answer_holds_a_secret(self, flow: Flow) -> None:
        assert len(flow.answers) > 20
        shown = {what: found(flow.secrets, text) for what, text in flow.answers}
        assert {what: names for what, names in shown.items() if names} == {}

    async def test_no_answer_holds_a_sealed_value(
        self, flow: Flow, superuser: asyncpg.Connection
    ) -> None:
        rows = await superuser.fetch(
            "SELECT secrets FROM channels UNION ALL SELECT api_token FROM agent_sessions"
            " UNION ALL SELECT sealed FROM credentials WHERE sealed IS NOT NULL"
            " UNION ALL SELECT api_key FROM providers"
        )
        sealed = {str(n): row[0].decode() for n, row in enumerate(rows)}

        assert len(sealed) == 4
        assert [what for what, text in flow.answers if found(sealed, text)] == []

    async def test_no_log_line_holds_a_secret(self, flow: Flow, log_file: Path) -> None:
        text = text_of(log_file)

        assert "the end of the flow" in text
        assert found(flow.secrets, text) == []
        assert "13812341234" not in text
        assert json.loads(text.splitlines()[-1])["data"] == {"phone": "138****1234"}

    async def test_no_table_holds_one_that_is_not_sealed_or_hashed(
        self, flow: Flow, superuser: asyncpg.Connection
    ) -> None:
        tables = await superuser.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        shown = {}
        for (table,) in tables:
            rows = await superuser.fetch(f"SELECT t::text FROM {table} AS t")  # noqa: S608
            shown[table] = found(flow.secrets, "\n".join(row[0] for row in rows))

        assert {"stream", "audit", "timeline"} <= shown.keys()
        assert {table: names for table, names in shown.items() if names} == {}

    def test_the_search_finds_one(self) -> None:
        assert found({"a": 'say "hush"'}, json.dumps({"x": 'say "hush"'})) == ["a"]
        assert found({"a": "hush"}, "68757368") == ["a"]


class TestAgentProcess:
    async def test_holds_no_secret_in_its_environment_or_command_line(
        self, parts: Parts, tmp_path: Path, clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BOTYARD_SECRET_KEYS", KEY)
        monkeypatch.setenv("BOTYARD_DATABASE_URL", f"postgresql://u:{PASSWORD}@h/d")
        minted = new_token()
        called = asyncio.Event()

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            called.set()
            writer.close()

        control = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = control.sockets[0].getsockname()
        provisioner = ProcessProvisioner(
            tmp_path / "instances",
            control_url=f"http://{host}:{port}",
            mint=lambda _spec, _place: minted,
            clock=clock,
        )
        spec = InstanceSpec(instance_id=uuid4(), tenant_id=uuid4(), generation=1)
        try:
            await provisioner.ensure(spec)
            # Until a program has begun, the kernel shows no environment of it.
            await asyncio.wait_for(called.wait(), PATIENCE_S)
            home = tmp_path / "instances" / str(spec.instance_id)
            pid = json.loads(text_of(home / "state.json"))["process"]["pid"]
            process = Path("/proc") / str(pid)
            shown = text_of(process / "environ") + text_of(process / "cmdline")
        finally:
            await provisioner.destroy(spec.instance_id)
            await provisioner.close()
            control.close()
            await control.wait_closed()

        assert str(spec.instance_id) in shown
        assert os.environ["PATH"] in shown
        secrets = {"key": KEY, "password": PASSWORD, "bootstrap": minted}
        assert found(secrets, shown) == []
        assert "BOTYARD" not in shown
