"""A customer's message until the answer is on the wire, everything durable, as a platform sees it.

The platform is this process: it seals callbacks as WeCom does and notes when answers arrive.
Product: `api`, `worker` and a real agent. Peer: the same hops, bare, with one commit each.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import uvicorn

from adapters.simulators.wecom_seal import Seal
from benchmarks import bare_chain
from benchmarks.ground import FULL, PATIENCE_S, Agent, Ground, figure, free_port, ground, spawned
from benchmarks.load import flood
from control_plane.db.session import Scope
from control_plane.turns import answers
from control_plane.turns.schemas import AnswerItem

NAMES = ("journey_paced_p50", "journey_burst")
QUESTION, ANSWER = "Are you open on Sunday?", "Yes, from nine to five."
# Paced: so many a second, for so long, each from somebody else.
PACE, SECONDS = 50, 6
# Burst: so many at once from so many people.
BURST, PEOPLE = 2_000, 200
AT_ONCE = 64
ROUNDS = 3 if FULL else 1
# A burst that takes longer than this was not answered.
BURST_WITHIN_S = 300.0

_CORP, _TOKEN, _AES_KEY = "corp", "callback-token", "A" * 43
_LEFT = """
SELECT (SELECT count(*) FROM conversations WHERE turned_number < heard_number)
     + (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending'))
     + (SELECT count(*) FROM callbacks)
"""
# Every message is stored and has its turn, every turn its answer, every answer is out.
_STANDS = """
SELECT (SELECT count(*) FROM messages WHERE sender_kind = 'contact') AS stored,
    (SELECT count(*) FROM messages AS m WHERE sender_kind = 'contact' AND NOT EXISTS (
        SELECT FROM turns AS t WHERE t.conversation_id = m.conversation_id
          AND m.number BETWEEN t.from_number AND t.through_number AND t.state = 'answered'))
        AS unanswered,
    (SELECT count(*) FROM deliveries WHERE state <> 'sent') AS unsent,
    (SELECT count(*) FROM turns) - (SELECT count(*) FROM deliveries) AS unequal
"""
_STANDBY = "SELECT id FROM agent_sessions WHERE instance_id = $1 AND state = 'standby'"
_CONNECTED = "SELECT state = 'connected' FROM channels WHERE id = $1"


class Platform:
    """As much of WeCom as the journey touches; `heard` says when each person got an answer."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: dict[str, list[float]] = {}
        self.seal = Seal(_TOKEN, _AES_KEY, _CORP)
        self._ids = itertools.count(1)
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what was heard is as wanted."""
        while not holds():
            self._news.clear()
            await self._news.wait()

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        body, path = await read(receive), str(scope["path"])
        if path.endswith("message/send"):
            who = msgspec.json.decode(body)["touser"]
            self.heard.setdefault(who, []).append(time.perf_counter())
            self._news.set()
        answer = {"errcode": 0, "access_token": "t", "expires_in": 7200, "msgid": "m"}
        await reply(send, msgspec.json.encode(answer))

    def callback(self, agent: Agent, who: str) -> bytes:
        """The request that brings a customer's message."""
        number = next(self._ids)
        message = (
            f"<xml><ToUserName><![CDATA[{_CORP}]]></ToUserName>"
            f"<FromUserName><![CDATA[{who}]]></FromUserName>"
            f"<CreateTime>{int(time.time())}</CreateTime><MsgType><![CDATA[text]]></MsgType>"
            f"<Content><![CDATA[{QUESTION}]]></Content><MsgId>{number}</MsgId>"
            "<AgentID>1</AgentID></xml>"
        )
        encrypted = self.seal.close(message.encode())
        stamp, nonce = str(int(time.time())), str(number)
        query = urlencode(
            {
                "msg_signature": self.seal.signature(stamp, nonce, encrypted),
                "timestamp": stamp,
                "nonce": nonce,
            }
        )
        body = (
            f"<xml><ToUserName><![CDATA[{_CORP}]]></ToUserName><AgentID><![CDATA[1]]></AgentID>"
            f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
        )
        return request(f"/im/{agent.token}?{query}", body.encode())


class Chain:
    """Somewhere to send customers' messages to."""

    def __init__(self, port: int, platform: Platform) -> None:
        self.port = port
        self.platform = platform

    def message(self, who: str) -> bytes:
        return request("/callback", who.encode())

    async def quiet(self, count: int) -> None:
        """Wait until everything that was said is answered, and see that it is."""
        await self.platform.until(lambda: sum(map(len, self.platform.heard.values())) >= count)


class Product(Chain):
    """The product, asked by its database whether anything is left to answer."""

    def __init__(self, port: int, platform: Platform, agent: Agent, base: Ground) -> None:
        super().__init__(port, platform)
        self._agent = agent
        self._base = base
        self._said = 0

    def message(self, who: str) -> bytes:
        return self.platform.callback(self._agent, who)

    async def quiet(self, count: int) -> None:
        connection = await self._base.connect()
        while await connection.fetchval(_LEFT):  # noqa: ASYNC110 - other processes' doing
            await asyncio.sleep(0.05)
        self._said += count
        stands = dict(await connection.fetchrow(_STANDS))
        assert stands == {"stored": self._said, "unanswered": 0, "unsent": 0, "unequal": 0}, stands
        await connection.close()


async def figures() -> dict[str, dict[str, object]]:
    """Latency when paced, and messages answered a second in a burst."""
    paced: list[list[float]] = [[], []]
    burst: list[list[float]] = [[], []]
    async with ground() as base, _product(base) as product, _bare(base) as bare:
        for chain in (product, bare):
            await _burst(chain, "warm", 200)
        for turn in range(ROUNDS):
            for chain, latency, rate in zip((product, bare), paced, burst, strict=True):
                latency.append(await _pace(chain, f"p{turn}"))
                rate.append(await _burst(chain, f"b{turn}", BURST))
    peer = "the same hops over bare starlette and httpx2, one commit each"
    return {
        "journey_paced_p50": figure(*paced, unit="ms", peer=peer, goal="<=3.0"),
        "journey_burst": figure(*burst, unit="messages/s", peer=peer, goal=">=0.5"),
    }


async def _pace(chain: Chain, name: str) -> float:
    """The median milliseconds from sending a message until its answer."""
    chain.platform.heard.clear()
    people = [f"{name}-{n}" for n in range(PACE * SECONDS)]
    sent: dict[str, float] = {}
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        start = time.perf_counter()
        for n, who in enumerate(people):
            await asyncio.sleep(max(0.0, start + n / PACE - time.perf_counter()))
            sent[who] = time.perf_counter()
            group.create_task(flood(chain.port, [chain.message(who)], connections=1))
        await chain.platform.until(lambda: len(chain.platform.heard) >= len(people))
    await chain.quiet(len(people))
    heard = chain.platform.heard
    return statistics.median((heard[who][0] - sent[who]) * 1e3 for who in people)


async def _burst(chain: Chain, name: str, count: int) -> float:
    """Messages answered a second, when so many come at once."""
    chain.platform.heard.clear()
    requests = [chain.message(f"{name}-{n % PEOPLE}") for n in range(count)]
    began = time.perf_counter()
    async with asyncio.timeout(BURST_WITHIN_S):
        await flood(chain.port, requests, connections=AT_ONCE)
        await chain.quiet(count)
    last = max(moment for moments in chain.platform.heard.values() for moment in moments)
    return count / (last - began)


@contextlib.asynccontextmanager
async def _platform() -> AsyncIterator[Platform]:
    platform = Platform()
    async with serving(platform, platform.port):
        yield platform


@contextlib.asynccontextmanager
async def serving(app: object, port: int) -> AsyncIterator[None]:
    """Serve an ASGI application from this process."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        # Longer than a run: connections of product and peer alike stay open.
        timeout_keep_alive=600,
    )
    server = _Quiet(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await running


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _product(base: Ground) -> AsyncIterator[Product]:
    async with contextlib.AsyncExitStack() as stack:
        platform = await stack.enter_async_context(_platform())
        settings = {
            "corp_id": _CORP,
            "agent_id": 1,
            "secret": "secret",
            "token": _TOKEN,
            "encoding_aes_key": _AES_KEY,
            "base_url": f"http://127.0.0.1:{platform.port}",
        }
        agent = await base.tenant(kind="wecom", settings=settings)
        async with base.parts.house.database.session(Scope(tenants=(agent.tenant_id,))) as session:
            await answers.replace(
                session,
                tenant_id=agent.tenant_id,
                items=[AnswerItem(question=QUESTION, answer=ANSWER)],
                actor=None,
                now=base.parts.house.clock.now(),
            )
        api = await stack.enter_async_context(base.product("api"))
        await stack.enter_async_context(base.product("worker"))
        await stack.enter_async_context(_agent(base, agent, api.port))
        yield Product(api.port, platform, agent, base)


@contextlib.asynccontextmanager
async def _agent(base: Ground, agent: Agent, api: int) -> AsyncIterator[None]:
    """A real agent, made the active one, until its channel is connected."""
    token = base.folder / "ticket"
    token.write_text(base.ticket(agent.tenant_id, agent.instance_id))
    port = free_port()
    command = [
        *("-m", "instance_agent", "--instance-id", str(agent.instance_id), "--generation", "1"),
        *("--control-url", f"http://127.0.0.1:{api}", "--data-dir", str(base.folder / "agent")),
        *("--bootstrap-file", str(token), "--listen", f"127.0.0.1:{port}"),
        # The stand-in of the platform is on this machine.
        *("--outbound-allow", "127.0.0.0/8"),
    ]
    connection = await base.connect()
    async with spawned(command, port), asyncio.timeout(None) as patience:
        patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_S)
        while (  # noqa: ASYNC110 - another process' doing
            standby := await connection.fetchval(_STANDBY, agent.instance_id)
        ) is None:
            await asyncio.sleep(0.05)
        await base.activate(agent, UUID(str(standby)))
        while not await connection.fetchval(  # noqa: ASYNC110 - as above
            _CONNECTED, agent.channel_id
        ):
            await asyncio.sleep(0.05)
        patience.reschedule(None)
        await connection.close()
        yield


@contextlib.asynccontextmanager
async def _bare(base: Ground) -> AsyncIterator[Chain]:
    connection = await base.connect()
    await connection.execute(bare_chain.TABLE)
    await connection.close()
    front, agent = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in (front, agent)]
    run = ("-m", "benchmarks.bare_chain")
    async with _platform() as platform, contextlib.AsyncExitStack() as stack:
        to = f"http://127.0.0.1:{platform.port}/message/send"
        journal = str(base.folder / "bare.db")
        ends = [*run, "agent", str(agent), urls[0], to, journal]
        await stack.enter_async_context(spawned(ends, agent))
        begins = [*run, "front", str(front), urls[1], base.superuser_url]
        await stack.enter_async_context(spawned(begins, front))
        yield Chain(front, platform)


def request(target: str, body: bytes) -> bytes:
    """A whole POST."""
    head = f"POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read(receive: object) -> bytes:
    """The body of a request."""
    body = bytearray()
    while True:
        message = await receive()  # type: ignore[operator]
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def reply(send: object, body: bytes) -> None:
    """Answer 200 with JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": body})  # type: ignore[operator]
