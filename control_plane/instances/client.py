"""Calls an agent. Every answer is one of three: done, refused for a reason, or nobody knows."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from adapters import sse
from adapters.model import CallbackAnswer, RawCallback
from control_plane.instances.authority import name_of
from control_plane.instances.breaker import Breaker
from control_plane.instances.inferred import Inferred, ModelFailed, StreamCut, inferred, unheard
from control_plane.instances.sessions import AgentAddress
from control_plane.kit import tracing
from instance_agent.protocol import (
    ANSWER_HEADER,
    CALLBACK_HEADER,
    LISTEN_S,
    TRANSCRIBE_S,
    BlacklistOutcome,
    BlacklistUpdate,
    CallbackMeta,
    ChannelCheck,
    ConfigOutcome,
    ConfigUpdate,
    Health,
    InferRequest,
    Problem,
    SecretsRenewal,
    SendRequest,
    SendResult,
    TranscribeRequest,
    Transcript,
)

# One attempt to send includes a token refresh at the platform.
SEND_TIMEOUT = timedelta(seconds=20)
# Platforms wait 3 to 5 s for the answer to a callback; past this we store it ourselves.
CALLBACK_TIMEOUT = timedelta(seconds=2.5)
# A probe of a platform has ten seconds.
CHECK_TIMEOUT = timedelta(seconds=15)
# Validation connects to platforms.
CONFIG_TIMEOUT = timedelta(seconds=30)
HEALTH_TIMEOUT = timedelta(seconds=3)
CONNECT_TIMEOUT = timedelta(seconds=2)
# A place, the bytes, the provider, and what the agent's own deadlines may be late by.
TRANSCRIBE_TIMEOUT = timedelta(seconds=2 * LISTEN_S + TRANSCRIBE_S + 5)
MAX_ANSWER_BYTES = 1024 * 1024
# One frame that an agent sends to a platform's client: a call with a picture of 5 MiB in it.
MAX_SOCKET_FRAME_BYTES = 8 * 1024 * 1024
# Frames read ahead of a client that takes its time; the rest waits at the agent.
_MAX_AHEAD = 2
# Of silence on such a socket, until the agent is asked and has to answer.
_PING_S = 20.0

_API = "/astrbot-api/v1"
# The agent's status when it was a model that failed, with the class as code.
MODEL_FAILED = 502

Answer = TypeVar("Answer")


class AgentAway(Exception):
    """The call did not reach the agent: nothing was done."""


class AgentSilent(Exception):
    """The call may have reached the agent, and no answer came: nobody knows."""


class AgentRefused(Exception):
    """The agent said no: nothing was done."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class AgentClient:
    """The control plane's side of the agent API."""

    def __init__(
        self, breaker: Breaker | None = None, *, trust: ssl.SSLContext | None = None
    ) -> None:
        self._breaker = breaker or Breaker()
        self._trust = trust
        self._http = httpx2.AsyncClient(
            # Without an authority of ours nobody is believed over a network.
            verify=trust or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=100),
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def health(self, agent: AgentAddress) -> Health:
        """What the agent says of itself."""
        answer = await self._call(agent, "GET", f"{_API}/health", within=HEALTH_TIMEOUT)
        return _read(answer, Health)

    async def update_config(self, agent: AgentAddress, update: ConfigUpdate) -> ConfigOutcome:
        """Hand over a configuration; the agent validates, swaps, or refuses."""
        answer = await self._call(
            agent,
            "POST",
            f"{_API}/config/update",
            within=CONFIG_TIMEOUT,
            body=msgspec.json.encode(update),
        )
        return _read(answer, ConfigOutcome)

    async def update_blacklist(self, agent: AgentAddress, update: BlacklistUpdate) -> int:
        """Tell what has changed of the blacklist; the version that the agent then has."""
        answer = await self._call(
            agent,
            "POST",
            f"{_API}/config/update",
            within=HEALTH_TIMEOUT,
            body=msgspec.json.encode(update),
        )
        return _read(answer, BlacklistOutcome).version

    async def check(self, agent: AgentAddress, channel_id: UUID) -> ChannelCheck:
        """Have a channel's settings tried now."""
        path = f"{_API}/channels/{channel_id}/check"
        return _read(await self._call(agent, "POST", path, within=CHECK_TIMEOUT), ChannelCheck)

    async def renew_secrets(self, agent: AgentAddress, renewal: SecretsRenewal) -> None:
        """Replace what we show each other; repeating it changes nothing."""
        await self._call(
            agent,
            "POST",
            f"{_API}/secrets",
            within=HEALTH_TIMEOUT,
            body=msgspec.json.encode(renewal),
        )

    async def send(self, agent: AgentAddress, request: SendRequest) -> SendResult:
        """One attempt to send a message; repeating it to the same journal sends nothing twice."""
        answer = await self._call(
            agent,
            "POST",
            f"{_API}/message/send",
            within=SEND_TIMEOUT,
            body=msgspec.json.encode(request),
        )
        return _read(answer, SendResult)

    async def infer(
        self,
        agent: AgentAddress,
        request: InferRequest,
        *,
        within: timedelta,
        grew: Callable[[str], None] = unheard,
    ) -> Inferred:
        """Ask a model; raises ModelFailed besides, when the agent was there and the model not.

        `grew` is told what it has said so far, while it says it.
        """
        try:
            async with asyncio.timeout(within.total_seconds()):
                with self._reaching(agent):
                    async with self._http.stream(
                        "POST",
                        f"{agent.endpoint}{_API}/llm/infer",
                        content=msgspec.json.encode(request),
                        headers=_headers(agent),
                        timeout=_timeout(within),
                        extensions=_named(agent),
                    ) as answer:
                        if answer.status_code < 400:
                            return await inferred(answer.aiter_raw(), grew)
                        await answer.aread()
        except TimeoutError:
            raise ModelFailed("timeout", "no answer in time") from None
        except (StreamCut, sse.TooLarge, UnicodeDecodeError, msgspec.MsgspecError):
            raise AgentSilent("the answer cannot be read") from None
        refused = _refusal(answer)
        if answer.status_code == MODEL_FAILED:
            raise ModelFailed(refused.code, refused.detail)
        raise refused

    async def transcribe(self, agent: AgentAddress, request: TranscribeRequest) -> Transcript:
        """What a stored voice says; raises ModelFailed besides, when it was the provider."""
        path = f"{_API}/speech/transcribe"
        body = msgspec.json.encode(request)
        try:
            answer = await self._call(agent, "POST", path, within=TRANSCRIBE_TIMEOUT, body=body)
        except AgentRefused as refused:
            if refused.status == MODEL_FAILED:
                raise ModelFailed(refused.code, refused.detail) from None
            raise
        return _read(answer, Transcript)

    async def callback(
        self, agent: AgentAddress, channel_id: UUID, request: RawCallback, *, verified: bool
    ) -> CallbackAnswer:
        """Pass a platform's call on; the answer is what the platform gets."""
        meta = CallbackMeta(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=dict(request.headers),
            received_at=request.received_at,
            verified=verified,
        )
        answer = await self._call(
            agent,
            "POST",
            f"/im/{channel_id}",
            within=CALLBACK_TIMEOUT,
            body=request.body,
            headers={CALLBACK_HEADER: base64.urlsafe_b64encode(msgspec.json.encode(meta)).decode()},
        )
        return CallbackAnswer(
            status=int(answer.headers.get(ANSWER_HEADER, "200")),
            content_type=answer.headers.get("content-type", "application/json"),
            body=answer.content,
        )

    @asynccontextmanager
    async def socket(
        self, agent: AgentAddress, channel_id: UUID
    ) -> AsyncIterator[ClientConnection]:
        """A socket of the platform, carried on to the channel's adapter; leaving closes it."""
        secure = agent.endpoint.startswith("https://")
        opening = connect(
            f"ws{agent.endpoint.removeprefix('http')}/im/{channel_id}/socket",
            additional_headers={"authorization": f"Bearer {agent.api_token}", **tracing.header()},
            ssl=(self._trust or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) if secure else None,
            server_hostname=name_of(agent.session_id) if secure else None,
            user_agent_header=None,
            compression=None,
            proxy=None,
            open_timeout=CONNECT_TIMEOUT.total_seconds(),
            close_timeout=CONNECT_TIMEOUT.total_seconds(),
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            max_size=MAX_SOCKET_FRAME_BYTES,
            max_queue=_MAX_AHEAD,
        )
        if not self._breaker.allows(agent.session_id):
            raise AgentAway("not called: it could not be reached before")
        try:
            connection = await opening
        except InvalidStatus as error:
            self._breaker.reachable(agent.session_id)
            status = error.response.status_code
            raise AgentRefused(status, "socket_refused", "the agent takes no socket") from None
        except (OSError, TimeoutError) as error:
            self._breaker.unreachable(agent.session_id)
            raise AgentAway(type(error).__name__) from None
        except (WebSocketException, EOFError) as error:
            raise AgentSilent(type(error).__name__) from None
        self._breaker.reachable(agent.session_id)
        try:
            yield connection
        finally:
            await connection.close()

    async def _call(
        self,
        agent: AgentAddress,
        method: str,
        path: str,
        *,
        within: timedelta,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        with self._reaching(agent):
            answer = await self._http.request(
                method,
                agent.endpoint + path,
                content=body,
                headers=_headers(agent) | (headers or {}),
                timeout=_timeout(within),
                extensions=_named(agent),
            )
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer

    @contextmanager
    def _reaching(self, agent: AgentAddress) -> Iterator[None]:
        """What a failure of the call inside means, for the caller and for the breaker."""
        if not self._breaker.allows(agent.session_id):
            raise AgentAway("not called: it could not be reached before")
        try:
            yield
        except httpx2.PoolTimeout as error:
            # All connections were busy, which says nothing about this agent.
            raise AgentAway(type(error).__name__) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._breaker.unreachable(agent.session_id)
            raise AgentAway(type(error).__name__) from None
        except httpx2.HTTPError as error:
            self._breaker.reachable(agent.session_id)
            raise AgentSilent(type(error).__name__) from None
        self._breaker.reachable(agent.session_id)


def _headers(agent: AgentAddress) -> dict[str, str]:
    return {
        "authorization": f"Bearer {agent.api_token}",
        "content-type": "application/json",
        **tracing.header(),
    }


def _named(agent: AgentAddress) -> dict[str, str]:
    """Whose certificate is expected, where there is one: the session's, not the address's."""
    return {"sni_hostname": name_of(agent.session_id)}


def _timeout(within: timedelta) -> httpx2.Timeout:
    return httpx2.Timeout(within.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())


def _body(answer: httpx2.Response) -> bytes:
    """What is kept of an answer: no NUL, which PostgreSQL cannot hold in text."""
    return answer.content[:MAX_ANSWER_BYTES].replace(b"\\u0000", b"\\ufffd")


def _read(answer: httpx2.Response, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(_body(answer), type=kind)
    except msgspec.DecodeError:
        raise AgentSilent("the answer cannot be read") from None


def _refusal(answer: httpx2.Response) -> AgentRefused:
    try:
        problem = msgspec.json.decode(_body(answer), type=Problem)
    except msgspec.DecodeError:
        return AgentRefused(answer.status_code, "unreadable", "the agent's error cannot be read")
    detail = problem.detail if isinstance(problem.detail, str) else problem.title
    return AgentRefused(answer.status_code, problem.code, detail[:256])
