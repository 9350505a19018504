"""The agent's HTTP API: what the control plane calls, and what watches the process."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from adapters import registry
from adapters.base import NotAccepted
from adapters.model import RawCallback
from instance_agent import logs
from instance_agent.agent import Agent, Running
from instance_agent.llm.answering import Answering
from instance_agent.platform_socket import AWAY, RESTARTING, PlatformSocket
from instance_agent.problems import Refusal, draining, starting
from instance_agent.protocol import (
    ANSWER_HEADER,
    CALLBACK_HEADER,
    BlacklistUpdate,
    CallbackMeta,
    ConfigUpdate,
    InferRequest,
    Problem,
    SecretsRenewal,
    SendRequest,
    TranscribeRequest,
)
from instance_agent.store import StoreFailed
from instance_agent.supervisor import Scope

# A platform's callback; media are fetched, not posted.
MAX_CALLBACK_BYTES = 1024 * 1024
# A message in neutral segments.
MAX_SEND_BYTES = 1024 * 1024
# Fifty messages of a conversation, and what the model is told of its task.
MAX_INFER_BYTES = 4 * 1024 * 1024
# A document with fifty channels and long persona texts stays far below.
MAX_CONFIG_BYTES = 4 * 1024 * 1024
# A few ids and names.
MAX_TRANSCRIBE_BYTES = 4096
# A token and two secrets.
MAX_SECRETS_BYTES = 4096

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger()


def create_app(agent: Agent) -> Starlette:
    """All routes of one agent."""
    api = _Api(agent)
    return Starlette(
        routes=[
            Route("/astrbot-api/v1/config/update", api.update_config, methods=["POST"]),
            Route("/astrbot-api/v1/config", api.config),
            Route("/astrbot-api/v1/secrets", api.renew_secrets, methods=["POST"]),
            Route("/astrbot-api/v1/message/send", api.send, methods=["POST"]),
            Route("/astrbot-api/v1/llm/infer", api.infer, methods=["POST"]),
            Route("/astrbot-api/v1/speech/transcribe", api.transcribe, methods=["POST"]),
            Route("/astrbot-api/v1/health", api.health),
            Route("/astrbot-api/v1/channels/{channel_id:uuid}/check", api.check, methods=["POST"]),
            Route("/im/{channel_id:uuid}", api.callback, methods=["POST"]),
            WebSocketRoute("/im/{channel_id:uuid}/socket", api.socket),
            Route("/healthz", api.alive),
            Route("/readyz", api.ready),
            Route("/metrics", api.metrics),
        ],
        exception_handlers={
            Refusal: _refused,
            StoreFailed: _storage_failed,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
    )


class _Config(msgspec.Struct, kw_only=True):
    """Which of the bodies this is."""

    config_type: str = "document"


class _Api:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def update_config(self, request: Request) -> Response:
        running = self._authorised(request)
        body = await _body(request, MAX_CONFIG_BYTES)
        with self._agent.gate:
            if _decode(body, _Config).config_type == "blacklist":
                return _json(await running.blacklist.update(_decode(body, BlacklistUpdate)))
            return _json(await running.configs.update(_decode(body, ConfigUpdate)))

    async def renew_secrets(self, request: Request) -> Response:
        running = self._authorised(request)
        renewal = _decode(await _body(request, MAX_SECRETS_BYTES), SecretsRenewal)
        if not renewal.api_token or not renewal.webhook_secrets:
            raise Refusal(400, "bad_request", "there must be a token and a secret")
        running.secrets.renew(renewal)
        return _json({"renewed": True})

    async def config(self, request: Request) -> Response:
        return _json(self._authorised(request).configs.state())

    async def send(self, request: Request) -> Response:
        running = self._authorised(request)
        message = _decode(await _body(request, MAX_SEND_BYTES), SendRequest)
        with self._agent.gate:
            return _json(await running.sender.send(message))

    async def infer(self, request: Request) -> Response:
        inference = self._authorised(request).inference
        ask = _decode(await _body(request, MAX_INFER_BYTES), InferRequest)
        return Answering(
            self._agent.gate,
            inference.pieces(ask),
            stream=ask.stream,
            within_s=inference.within_s,
        )

    async def transcribe(self, request: Request) -> Response:
        running = self._authorised(request)
        ask = _decode(await _body(request, MAX_TRANSCRIBE_BYTES), TranscribeRequest)
        with self._agent.gate:
            return _json(await running.transcription.transcribe(ask))

    async def health(self, request: Request) -> Response:
        return _json(self._agent.health(self._authorised(request)))

    async def check(self, request: Request) -> Response:
        running = self._authorised(request)
        with self._agent.gate:
            return _json(await running.supervisor.check(self._scope(running, request)))

    async def callback(self, request: Request) -> Response:
        running = self._authorised(request)
        meta = _meta(request.headers.get(CALLBACK_HEADER, ""))
        body = await _body(request, MAX_CALLBACK_BYTES)
        scope = self._scope(running, request)
        raw = RawCallback(
            method=meta.method,
            path=meta.path,
            query=meta.query,
            headers=meta.headers,
            body=body,
            received_at=meta.received_at,
        )
        with self._agent.gate:
            try:
                answer = await scope.callback(raw, verified=meta.verified)
            except NotAccepted as error:
                raise Refusal(503, "not_accepted", str(error)) from error
        return Response(
            answer.body,
            media_type=answer.content_type,
            headers={ANSWER_HEADER: str(answer.status)},
        )

    async def socket(self, websocket: WebSocket) -> None:
        """A connection that a platform has opened at the control plane, which checked it."""
        try:
            scope = self._taking(websocket)
        except Refusal as refusal:
            log.info("socket refused", code=refusal.code)
            await websocket.close()
            return
        connection = PlatformSocket(websocket)
        try:
            await scope.socket(connection)
        except NotAccepted:
            await connection.close(AWAY)
        except Exception:
            log.error("adapter failed with a socket", channel_id=str(scope.spec.id), exc_info=True)
        await connection.close(RESTARTING)

    def _taking(self, websocket: WebSocket) -> Scope:
        """The channel whose platform opens sockets; not held open by the gate, which they end."""
        running = self._authorised(websocket)
        if self._agent.gate.closed:
            raise draining()
        scope = running.supervisor.scope(websocket.path_params["channel_id"])
        if scope is None or not registry.kind(scope.spec.kind).takes_sockets:
            raise Refusal(404, "unknown_channel", "this agent has no such channel")
        return scope

    def _scope(self, running: Running, request: Request) -> Scope:
        channel_id: UUID = request.path_params["channel_id"]
        scope = running.supervisor.scope(channel_id)
        if scope is None:
            raise Refusal(404, "unknown_channel", "this agent has no such channel")
        return scope

    async def alive(self, _: Request) -> Response:
        return _json({"alive": True})

    async def ready(self, _: Request) -> Response:
        if self._agent.ready:
            return _json({"ready": True})
        if self._agent.gate.closed:
            raise draining()
        raise Refusal(503, "not_ready", "no configuration is applied yet")

    async def metrics(self, _: Request) -> Response:
        body = generate_latest(self._agent.metrics.registry)
        return Response(body, media_type="text/plain; version=0.0.4")

    def _authorised(self, request: HTTPConnection) -> Running:
        logs.trace(request.headers.get("traceparent"))
        running = self._agent.running
        if running is None:
            raise starting()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not running.secrets.accepts(token):
            raise Refusal(401, "unauthorized", "this call needs the instance's token")
        return running


async def _body(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Refusal(413, "too_large", f"the body may have at most {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _decode(body: bytes, model: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=model)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal(400, "bad_request", str(error)) from None


def _meta(header: str) -> CallbackMeta:
    try:
        body = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "bad_request", f"{CALLBACK_HEADER} is not base64url") from None
    return _decode(body, CallbackMeta)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _problem(
    status: int, code: str, detail: str | None = None, retry_after_s: int | None = None
) -> Response:
    title = code.replace("_", " ")
    problem = Problem(
        title=title, status=status, code=code, detail=msgspec.UNSET if detail is None else detail
    )
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    body = msgspec.json.encode(problem)
    return Response(body, status, headers, media_type="application/problem+json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 -- Starlette's handlers are typed by the base
    return _problem(error.status, error.code, error.detail, error.retry_after_s)


async def _storage_failed(_: Request, error: Exception) -> Response:
    log.error("storage failed", reason=str(error))
    return _problem(503, "storage_failed", "the agent's disk did not take it", 1)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- as above
    return _problem(error.status_code, error.detail.lower().replace(" ", "_"))


async def _internal_error(_: Request, error: Exception) -> Response:
    return _problem(500, "internal_error")
