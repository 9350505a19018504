"""The way in for platforms, through the whole application; a stand-in answers as the agent."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters import standard_webhooks
from adapters.webchat.callback import key
from adapters.webchat.settings import Settings
from control_plane.channels import callbacks
from control_plane.channels.callbacks import MAX_AGE, WORK
from control_plane.db import leases
from control_plane.db.leases import LeaseLost
from control_plane.db.session import Scope
from control_plane.fleet.provision.base import InstanceSpec
from control_plane.instances import client as agent_client
from control_plane.instances.sessions import activate, end_others
from control_plane.kit.ids import new_id
from control_plane.parts import Parts
from instance_agent.document import SCHEMA_VERSION
from instance_agent.protocol import (
    ANSWER_HEADER,
    CALLBACK_HEADER,
    BootstrapRequest,
    CallbackMeta,
    Problem,
)

SECRET = "a-secret-of-this-channel-1234567890"
OTHER_SECRET = "somebody-elses-secret-0123456789-abc"
HOUR = timedelta(hours=1)
NOT_ACCEPTED = Problem(title="not accepted", status=503, code="not_accepted")


class StandInAgent:
    """Takes callbacks as an agent does; `answer` says how."""

    def __init__(self) -> None:
        self.taken: list[tuple[CallbackMeta, bytes]] = []
        self.tokens: set[str] = set()
        self.answer: Callable[[], Awaitable[Response]] = self.well
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.taken]

    async def well(self) -> Response:
        return self.says(200)

    def says(self, status: int) -> Response:
        """What the adapter answers the platform."""
        return Response(b'{"from": "adapter"}', headers={ANSWER_HEADER: str(status)})

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        routes = [Route("/im/{channel_id:uuid}", self._callback, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes), lifespan="off", ws="none", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[self._socket])
        yield
        await server.shutdown(sockets=[self._socket])

    async def _callback(self, request: Request) -> Response:
        meta = base64.urlsafe_b64decode(request.headers[CALLBACK_HEADER])
        taken = (msgspec.json.decode(meta, type=CallbackMeta), await request.body())
        answer = await self.answer()
        if ANSWER_HEADER in answer.headers:
            self.taken.append(taken)
            self.tokens.add(request.headers["authorization"])
        return answer


class Bench:
    """A web-chat channel, its platform, and its agent."""

    def __init__(
        self, parts: Parts, clock, client: httpx2.AsyncClient, superuser: asyncpg.Connection
    ) -> None:
        self.parts = parts
        self.clock = clock
        self.client = client
        self.superuser = superuser
        self.tenant_id: UUID
        self.instance_id: UUID
        self.channel_id: UUID
        self.token = ""

    async def open(self, owner, *, secret: str = SECRET) -> None:
        self.tenant_id = owner.tenant_id
        self.instance_id = UUID((await owner.post("/instances", {"name": "Bot"})).json()["id"])
        channel = await owner.post(
            f"/instances/{self.instance_id}/channels",
            {"kind": "webchat", "name": "Site", "settings": {"secret": secret}},
        )
        self.channel_id = UUID(channel.json()["id"])
        self.token = channel.json()["webchat_url"].rpartition("/")[2]

    async def agent_comes(self, url: str) -> str:
        """The token that we shall present to it."""
        spec = InstanceSpec(instance_id=self.instance_id, tenant_id=self.tenant_id, generation=1)
        request = BootstrapRequest(
            protocol=1,
            schema_version=SCHEMA_VERSION,
            version="test",
            endpoint=url,
            journal_id=new_id(),
            generation=1,
        )
        bootstraps = self.parts.bootstraps
        given = await bootstraps.exchange(self.instance_id, bootstraps.mint(spec), request)
        async with self.parts.house.database.session(self._scope) as session:
            await activate(session, instance_id=self.instance_id, session_id=given.session_id)
        return given.api_token

    async def agent_goes(self) -> None:
        async with self.parts.house.database.session(self._scope) as session:
            await end_others(session, self.instance_id, keep=[])

    async def deliver(
        self, body: bytes, *, secret: str = SECRET, age_s: int = 0, path: str = ""
    ) -> httpx2.Response:
        """The platform calls."""
        headers = standard_webhooks.sign(
            key(Settings(secret=SecretStr(secret))),
            message_id=str(new_id()),
            timestamp=int(self.clock.now().timestamp()) - age_s,
            body=body,
        )
        return await self.client.post(f"/im/{self.token}{path}", content=body, headers=headers)

    async def pass_on(self) -> timedelta | None:
        """One round of the worker; when the next is due."""
        lease = await self.lease()
        again = await self.parts.callbacks.pass_on(lease)
        async with self.parts.house.database.session() as session:
            await leases.finish(session, lease, again_after=again)
        return again

    async def lease(self) -> leases.Lease:
        async with self.parts.house.database.session() as session:
            await leases.call_key(session, WORK, self.channel_id)
            [lease] = await leases.claim(session, WORK, owner="test", limit=9, lease=HOUR)
        return lease

    async def stored(self) -> list[tuple[bytes, str | None]]:
        """(body, why it is dead) of all callbacks that are kept, oldest first."""
        rows = await self.superuser.fetch("SELECT body, dead_reason FROM callbacks ORDER BY id")
        return [tuple(row) for row in rows]

    async def work(self, kind: str) -> int:
        return await self.superuser.fetchval("SELECT count(*) FROM work WHERE kind = $1", kind)

    @property
    def _scope(self) -> Scope:
        return Scope(tenants=(self.tenant_id,))


@pytest.fixture
async def owner(people):
    return await people.owner()


@pytest.fixture
async def bench(parts: Parts, clock, client, owner, superuser: asyncpg.Connection) -> Bench:
    bench = Bench(parts, clock, client, superuser)
    await bench.open(owner)
    return bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the agent was asked."""
    calls = []
    callback = agent_client.AgentClient.callback

    async def counted(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        calls.append(args)
        return await callback(self, *args, **kwargs)

    monkeypatch.setattr(agent_client.AgentClient, "callback", counted)
    return lambda: len(calls)


@pytest.fixture
async def stand_in() -> AsyncIterator[StandInAgent]:
    agent = StandInAgent()
    async with agent.up():
        yield agent


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestAgentUp:
    async def test_its_answer_is_the_platforms(self, bench, stand_in) -> None:
        token = await bench.agent_comes(stand_in.url)

        answer = await bench.deliver(b"1", path="/deeper?echo=5")

        [(meta, body)] = stand_in.taken
        assert (answer.status_code, answer.json()) == (200, {"from": "adapter"})
        assert (meta.method, meta.path, meta.query, body) == ("POST", "/deeper", "echo=5", b"1")
        assert meta.received_at == bench.clock.now().timestamp()
        assert stand_in.tokens == {f"Bearer {token}"}
        assert await bench.stored() == []

    async def test_it_checks_the_bytes_itself(self, bench, stand_in) -> None:
        await bench.agent_comes(stand_in.url)

        async def not_the_platform() -> Response:
            return stand_in.says(401)

        stand_in.answer = not_the_platform

        answer = await bench.deliver(b"1", secret=OTHER_SECRET)

        assert answer.status_code == 401
        assert [meta.verified for meta, _ in stand_in.taken] == [False]
        assert await bench.stored() == []


class TestAgentAway:
    async def test_what_is_verified_is_kept_and_answered_as_received(self, bench) -> None:
        await bench.superuser.execute("DELETE FROM work")

        answer = await bench.deliver(b"\x00 raw \xff bytes")

        assert (answer.status_code, answer.content) == (200, b"{}")
        assert await bench.stored() == [(b"\x00 raw \xff bytes", None)]
        # Somebody passes it on later, and wakes the bot if it sleeps.
        assert (await bench.work("callback"), await bench.work("instance")) == (1, 0)

    @pytest.mark.parametrize(
        "wrong",
        [{"secret": OTHER_SECRET}, {"age_s": 301}, {"age_s": -301}],
        ids=["another secret", "too old", "from the future"],
    )
    async def test_what_is_not_verified_is_never_kept_and_wakes_nobody(
        self, bench, wrong: dict
    ) -> None:
        await bench.superuser.execute("DELETE FROM work")

        answer = await bench.deliver(b"1", **wrong)

        assert code(answer) == (403, "callback_rejected")
        assert await bench.stored() == []
        assert (await bench.work("callback"), await bench.work("instance")) == (0, 0)

    async def test_an_agent_that_cannot_be_reached_is_away(self, bench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        await bench.agent_comes(url)

        assert (await bench.deliver(b"1")).status_code == 200
        assert await bench.stored() == [(b"1", None)]

    async def test_an_agent_that_hangs_up_is_away(self, bench) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        await bench.agent_comes(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

        answer = await bench.deliver(b"1")

        server.close()
        assert answer.status_code == 200
        assert await bench.stored() == [(b"1", None)]

    async def test_an_agent_that_is_slow_is_away(
        self, bench, stand_in, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agent_client, "CALLBACK_TIMEOUT", timedelta(seconds=0.2))
        await bench.agent_comes(stand_in.url)
        answered = asyncio.Event()

        async def after_the_platform_was_answered() -> Response:
            await answered.wait()
            return stand_in.says(200)

        stand_in.answer = after_the_platform_was_answered
        answer = await bench.deliver(b"1")
        answered.set()

        assert answer.status_code == 200
        assert await bench.stored() == [(b"1", None)]

    async def test_an_agent_that_refuses_is_away(self, bench, stand_in) -> None:
        await bench.agent_comes(stand_in.url)
        stand_in.answer = refuse

        assert (await bench.deliver(b"1")).status_code == 200
        assert await bench.stored() == [(b"1", None)]


class TestCheckOfTheAddress:
    QQ: ClassVar = {"app_id": "102001", "secret": "naOC0ocQE3shWLAfffVLB1rhYPG7"}
    FEISHU: ClassVar = {
        "transport": "callback",
        "app_id": "cli_1",
        "app_secret": "s",
        "verification_token": "v-token",
    }

    async def _hangs(self, bench, stand_in, owner, kind: str, settings: dict) -> str:
        """A channel whose agent takes calls and never answers; its address."""
        body = {"kind": kind, "name": "it", "settings": settings}
        channel = await owner.post(f"/instances/{bench.instance_id}/channels", body)
        assert channel.status_code == 201, channel.text
        await bench.agent_comes(stand_in.url)

        async def never() -> Response:
            await asyncio.Event().wait()
            raise AssertionError

        stand_in.answer = never
        return channel.json()["callback_url"].rpartition("/")[2]

    async def test_by_post_is_answered_while_the_agent_hangs(
        self, bench, owner, client, asked, stand_in
    ) -> None:
        qq = await self._hangs(bench, stand_in, owner, "qq", self.QQ)
        check = {"op": 13, "d": {"plain_token": "Arq0D5A61EgUu4OxUvOp", "event_ts": "1725442341"}}

        proof = await client.post(f"/im/{qq}", content=msgspec.json.encode(check))

        assert (proof.status_code, proof.json()["plain_token"]) == (200, "Arq0D5A61EgUu4OxUvOp")
        assert asked() == 0

    async def test_of_feishu_too(self, bench, owner, client, asked, stand_in) -> None:
        feishu = await self._hangs(bench, stand_in, owner, "feishu", self.FEISHU)
        check = {"type": "url_verification", "challenge": "say this", "token": "v-token"}

        answer = await client.post(f"/im/{feishu}", content=msgspec.json.encode(check))

        assert (answer.status_code, answer.json()) == (200, {"challenge": "say this"})
        assert asked() == 0

    async def test_that_proves_nothing_is_the_agents_to_refuse(
        self, bench, owner, client, asked, stand_in
    ) -> None:
        feishu = await self._hangs(bench, stand_in, owner, "feishu", self.FEISHU)

        async def not_the_platform() -> Response:
            return stand_in.says(403)

        stand_in.answer = not_the_platform
        check = {"type": "url_verification", "challenge": "say this", "token": "another"}

        answer = await client.post(f"/im/{feishu}", content=msgspec.json.encode(check))

        assert (answer.status_code, asked()) == (403, 1)

    async def test_that_is_too_long_for_one_is_not_opened_here(
        self, bench, owner, client, asked, stand_in
    ) -> None:
        qq = await self._hangs(bench, stand_in, owner, "qq", self.QQ)
        stand_in.answer = stand_in.well
        check = {"op": 13, "d": {"plain_token": "abc", "event_ts": "1"}, "x": "x" * 1024}

        answer = await client.post(f"/im/{qq}", content=msgspec.json.encode(check))

        assert (answer.json(), asked()) == ({"from": "adapter"}, 1)


async def refuse() -> Response:
    """The agent itself says no, not its adapter."""
    return Response(msgspec.json.encode(NOT_ACCEPTED), 503)


class TestStoreFull:
    async def test_too_many_are_not_acknowledged(
        self, bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "MAX_WAITING", 1)

        answers = [await bench.deliver(body) for body in (b"1", b"2")]

        assert answers[0].status_code == 200
        assert code(answers[1]) == (503, "callback_store_full")
        assert answers[1].headers["retry-after"] == "30"
        assert await bench.stored() == [(b"1", None)]

    async def test_too_many_bytes_are_not_acknowledged(
        self, bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "MAX_WAITING_BYTES", 3)

        answers = [await bench.deliver(body) for body in (b"12", b"34", b"5")]

        assert [answer.status_code for answer in answers] == [200, 200, 503]

    async def test_the_count_is_true_while_many_arrive_at_once(
        self, bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "MAX_WAITING", 3)

        answers = await asyncio.gather(*(bench.deliver(b"%d" % n) for n in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 5
        assert len(await bench.stored()) == 3

    async def test_dead_letters_take_no_room(self, bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callbacks, "MAX_WAITING", 1)
        await bench.deliver(b"1")
        await bench.superuser.execute("UPDATE callbacks SET dead_reason = 'too old'")

        assert (await bench.deliver(b"2")).status_code == 200


class TestPassOn:
    async def test_new_ones_queue_behind_and_all_arrive_in_order(self, bench, stand_in) -> None:
        received = bench.clock.now().timestamp()
        await bench.deliver(b"1")
        await bench.deliver(b"2")
        bench.clock.advance(HOUR)
        await bench.agent_comes(stand_in.url)

        await bench.deliver(b"3")
        assert stand_in.taken == []
        again = await bench.pass_on()
        await bench.deliver(b"4")

        assert again is None
        assert stand_in.bodies == [b"1", b"2", b"3", b"4"]
        # An hour is too long for the replay window: the agent is told that we have looked.
        assert [meta.verified for meta, _ in stand_in.taken] == [True, True, True, False]
        assert stand_in.taken[0][0].received_at == received
        assert await bench.stored() == []

    async def test_the_agent_gets_what_the_platform_sent(self, bench, stand_in) -> None:
        await bench.deliver(b"{}", path="/deeper?a=1&b=%20")
        await bench.agent_comes(stand_in.url)

        await bench.pass_on()

        [(meta, body)] = stand_in.taken
        assert (meta.method, meta.path, meta.query, body) == ("POST", "/deeper", "a=1&b=%20", b"{}")
        assert standard_webhooks.verify(
            [key(Settings(secret=SecretStr(SECRET)))], meta.headers, body, now=None
        )

    async def test_without_an_agent_it_waits(self, bench) -> None:
        await bench.deliver(b"1")

        assert await bench.pass_on() == timedelta(seconds=1)
        assert await bench.stored() == [(b"1", None)]

    async def test_an_agent_that_refuses_keeps_the_rest_waiting(self, bench, stand_in) -> None:
        await bench.deliver(b"1")
        await bench.deliver(b"2")
        await bench.agent_comes(stand_in.url)
        stand_in.answer = refuse

        assert await bench.pass_on() == timedelta(seconds=1)
        assert await bench.stored() == [(b"1", None), (b"2", None)]

        stand_in.answer = stand_in.well
        assert await bench.pass_on() is None
        assert stand_in.bodies == [b"1", b"2"]

    async def test_others_get_their_turn_when_much_waits(
        self, bench, stand_in, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "_BATCH", 2)
        for body in (b"1", b"2", b"3"):
            await bench.deliver(body)
        await bench.agent_comes(stand_in.url)

        assert await bench.pass_on() == timedelta(0)
        assert stand_in.bodies == [b"1", b"2"]
        assert await bench.pass_on() is None

    async def test_a_lost_lease_keeps_the_callback(self, bench, stand_in) -> None:
        await bench.deliver(b"1")
        await bench.agent_comes(stand_in.url)

        async def meanwhile_somebody_else_took_over() -> Response:
            await bench.superuser.execute("UPDATE work SET token = gen_random_uuid()")
            return stand_in.says(200)

        stand_in.answer = meanwhile_somebody_else_took_over
        with pytest.raises(LeaseLost):
            await bench.parts.callbacks.pass_on(await bench.lease())

        # The agent gets it twice, and knows it by its dedupe key.
        assert await bench.stored() == [(b"1", None)]


class TestDeadLetter:
    async def test_what_the_adapter_refuses_is_kept_and_the_rest_goes_on(
        self, bench, stand_in
    ) -> None:
        for body in (b"bad", b"good"):
            await bench.deliver(body)
        await bench.agent_comes(stand_in.url)
        answers = iter((400, 200))

        async def answer() -> Response:
            return stand_in.says(next(answers))

        stand_in.answer = answer

        assert await bench.pass_on() is None
        assert await bench.stored() == [(b"bad", "the adapter answered 400")]
        assert stand_in.bodies == [b"bad", b"good"]

    async def test_what_no_agent_came_for_is_given_up_in_the_end(self, bench, stand_in) -> None:
        for body in (b"1", b"2"):
            await bench.deliver(body)
        bench.clock.advance(MAX_AGE)
        await bench.deliver(b"3")

        await bench.pass_on()

        assert await bench.stored() == [(b"1", "too old"), (b"2", "too old"), (b"3", None)]
        await bench.agent_comes(stand_in.url)
        assert await bench.pass_on() is None
        assert stand_in.bodies == [b"3"]

    async def test_what_agents_always_refuse_is_given_up_in_the_end(self, bench, stand_in) -> None:
        await bench.deliver(b"1")
        await bench.agent_comes(stand_in.url)
        stand_in.answer = refuse

        bench.clock.advance(MAX_AGE - timedelta(seconds=1))
        await bench.pass_on()
        assert await bench.stored() == [(b"1", None)]
        bench.clock.advance(timedelta(seconds=1))
        await bench.pass_on()

        assert await bench.stored() == [(b"1", "too old")]

    async def test_an_old_one_is_still_taken_by_an_agent_that_is_there(
        self, bench, stand_in
    ) -> None:
        await bench.deliver(b"1")
        bench.clock.advance(MAX_AGE * 2)
        await bench.agent_comes(stand_in.url)

        assert await bench.pass_on() is None
        assert stand_in.bodies == [b"1"]


class TestAddress:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_an_unknown_one_is_not_there(self, client, method: str) -> None:
        answer = await client.request(method, "/im/nobodys-token")

        assert code(answer) == (404, "channel_not_found")

    async def test_a_deleted_channels_is_not_there(self, bench, people) -> None:
        await bench.superuser.execute("UPDATE channels SET deleted_at = now()")

        assert code(await bench.deliver(b"1")) == (404, "channel_not_found")

    async def test_a_body_has_a_limit(self, bench) -> None:
        answer = await bench.deliver(b"1" * (1024 * 1024 + 1))

        assert code(answer) == (413, "body_too_large")
        assert await bench.stored() == []

    async def test_two_channels_do_not_wait_for_each_other(self, bench, people, stand_in) -> None:
        other = Bench(bench.parts, bench.clock, bench.client, bench.superuser)
        await other.open(await people.owner(), secret=OTHER_SECRET)
        await bench.deliver(b"waits")
        await other.agent_comes(stand_in.url)

        await other.deliver(b"goes through", secret=OTHER_SECRET)

        assert stand_in.bodies == [b"goes through"]
