"""In front of every route: request id, rate limits, time limit, security headers, request log.

It is the outermost of all, so that refusals, errors and files go through it as well.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from prometheus_client import Histogram
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.access.gate import API, MEDIA_LINK, Gate
from control_plane.access.gate import headers as limit_headers
from control_plane.access.http import House
from control_plane.access.limits import Charge
from control_plane.access.permissions import Actor
from control_plane.ingest.intake import PATH as INGEST_PATH
from control_plane.ingest.intake import Intake, Left
from control_plane.kit import tracing
from control_plane.kit.errors import BotyardError, TooMany, Unavailable
from control_plane.kit.ids import new_name
from control_plane.kit.problems import problem_response

# Time until an answer begins; what streams may go on. PostgreSQL's own limits are the same.
ANSWER_WITHIN = timedelta(seconds=30)
# A browser that saw us over TLS stays with TLS for a year.
_HSTS = "max-age=31536000"
# For answers that are no page; pages bring a policy of their own.
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": _POLICY,
}
# The chat's files are the same for everybody and carry no cookie: any site may load them, also
# with `crossorigin` and an integrity hash. Nothing else is shared: the dashboard and the chat's
# frame are of our own origin, and programs that hold keys are no browsers.
_SHARED = "/webchat-assets/"
# Where agents deliver to the chat platform that we host ourselves.
_AGENTS_PLATFORM = "/webchat-platform/"
_SILENT = frozenset({"/healthz", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")

Header = tuple[bytes, bytes]
_NO_STORE: Header = (b"cache-control", b"no-store")
_JSON: Header = (b"content-type", b"application/json")

_SECONDS = Histogram(
    "botyard_request_seconds",
    "Until an answer begins; without sockets, uploads and probes.",
    ["kind", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
)
_METERS = {
    (kind, status): _SECONDS.labels(kind, f"{status}xx")
    for kind in ("ingest", "rest")
    for status in range(1, 6)
}
_STORED = _METERS["ingest", 2]

log = structlog.get_logger()


@dataclass(kw_only=True)
class Visit:
    """One request on its way through."""

    scope: Scope
    is_ingest: bool
    started: float
    request_id: str = field(init=False)
    status: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.request_id = _request_id(self.scope)

    @property
    def actor(self) -> Actor | None:
        """Who it was, if a route asked for proof and got it."""
        actor: Actor | None = self.scope["state"].get("actor")
        return actor


class Gateway:
    """Stands before `front`, and before `intake` of the agents' events."""

    def __init__(
        self,
        front: ASGIApp,
        intake: Intake,
        house: House,
        *,
        answer_within: timedelta = ANSWER_WITHIN,
    ) -> None:
        self._front = front
        self._intake = intake
        self._limiter = house.limiter
        self._gate = Gate(house.keys, house.clock, house.rates)
        always = dict(_HEADERS)
        if house.public_url.startswith("https://"):
            always["strict-transport-security"] = _HSTS
        self._always = [(name.encode(), value.encode()) for name, value in always.items()]
        self._answer_within_s = answer_within.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._front(scope, receive, send)
        elif _is_ingest(scope):
            await self._take(scope, receive, send)
        else:
            visit = Visit(scope=scope, is_ingest=False, started=time.monotonic())
            await self._seen(visit, partial(self._visit, visit), receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What agents post all the time is stored, measured and answered, with nothing else.

        Who gets the answer holds an agent's secret and is no browser. A refusal goes the way of
        every other request.
        """
        started = time.monotonic()
        try:
            with tracing.recorded("request", lambda: _place(scope)):
                stored = await self._intake.take(scope, receive)
        except Exception as error:
            visit = Visit(scope=scope, is_ingest=True, started=started)
            await self._seen(visit, _failure(error), receive, send)
            return
        _STORED.observe(time.monotonic() - started)
        headers = [_JSON, (b"content-length", str(len(stored)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": stored})

    async def _seen(self, visit: Visit, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Answer with an id that log lines share, a span, a measure, headers and a log line."""
        scope = visit.scope
        scope["state"] = dict(scope.get("state") or {})
        bound = structlog.contextvars.bind_contextvars(request_id=visit.request_id)
        try:
            with tracing.span("request", _place(scope)):
                try:
                    await app(scope, receive, self._dressed(visit, send))
                finally:
                    self._learn(visit)
                    _write_down(visit)
        finally:
            structlog.contextvars.reset_contextvars(**bound)

    async def _visit(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        refused = await self._refused(visit, self._gate.charges(scope))
        if refused is not None:
            await _answer(refused, scope, receive, send)
        elif scope["type"] == "websocket" or is_upload(scope):
            # An upload has limits of its own: large files over slow lines are no fault.
            await self._front(scope, receive, send)
        else:
            await self._in_time(visit, receive, send)

    async def _refused(self, visit: Visit, charges: Sequence[Charge]) -> Response | None:
        if not charges:
            return None
        verdict = await self._limiter.take(charges)
        visit.extra.update(limit_headers(charges, verdict))
        if verdict.allowed:
            return None
        return problem_response(
            TooMany(
                "rate_limited",
                f"Too many requests ({verdict.tightest.name}); wait as long as Retry-After says.",
                retry_after_s=max(1.0, verdict.wait_s),
            )
        )

    async def _in_time(self, visit: Visit, receive: Receive, send: Send) -> None:
        async def begun(message: Message) -> None:
            limit.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(self._answer_within_s) as limit:
                await self._front(visit.scope, receive, begun)
        except TimeoutError:
            if not limit.expired():
                raise
            late = Unavailable("took_too_long", "This took too long.", retry_after_s=1)
            await problem_response(late)(visit.scope, receive, send)

    def _dressed(self, visit: Visit, send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                visit.status = message["status"]
                _measure(visit)
                headers = self._dress(visit, message.get("headers", ()))
                message = {**message, "headers": headers}
            elif message["type"] == "websocket.accept":
                visit.status = 101
            await send(message)

        return dressed

    def _dress(self, visit: Visit, headers: Iterable[Header]) -> list[Header]:
        """Lower-case bytes throughout, as every answer on every route comes through here."""
        own = [(b"x-request-id", visit.request_id.encode("latin-1"))]
        path = visit.scope["path"]
        if visit.extra:
            own += [(name.encode(), value.encode()) for name, value in visit.extra.items()]
        own_names = {name for name, _ in own}
        dressed = [header for header in headers if header[0] not in own_names]
        there = {name for name, _ in dressed}
        dressed += [header for header in self._always if header[0] not in there]
        if path.startswith(API) and b"cache-control" not in there:
            dressed.append(_NO_STORE)
        if path.startswith(_SHARED) and b"access-control-allow-origin" not in there:
            dressed.append((b"access-control-allow-origin", b"*"))
        return dressed + own

    def _learn(self, visit: Visit) -> None:
        if visit.actor is not None:
            self._gate.learn(visit.scope, visit.actor)
        elif visit.status == 401:
            self._gate.forget(visit.scope)


def _place(scope: Scope) -> bytes | None:
    """Agents say in which trace they call; whoever else calls begins one."""
    if _is_ingest(scope) or (
        scope["type"] == "http" and scope["path"].startswith(_AGENTS_PLATFORM)
    ):
        return tracing.read(_header(scope, b"traceparent"))
    return None


def _failure(error: Exception) -> ASGIApp:
    """Says what became of events that were not stored."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(error, BotyardError):
            await problem_response(error)(scope, receive, send)
        elif not isinstance(error, Left):
            raise error

    return answer


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


def _is_ingest(scope: Scope) -> bool:
    """Agents' signed events: the house slows them by its group commit and never cuts them off."""
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and scope["path"].endswith("/events")
        and INGEST_PATH.match(scope["path"]) is not None
    )


def is_upload(scope: Scope) -> bool:
    """Bytes that are sent to a media link."""
    return (
        scope["type"] == "http"
        and scope["method"] == "PUT"
        and MEDIA_LINK.fullmatch(scope["path"]) is not None
    )


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    return given if _REQUEST_ID.fullmatch(given) else new_name()


def _header(scope: Scope, wanted: bytes) -> str:
    """The first header of that name, which servers give in lower case."""
    for name, value in scope["headers"]:
        if name == wanted:
            found: str = value.decode("latin-1")
            return found
    return ""


def _measure(visit: Visit) -> None:
    kind = "ingest" if visit.is_ingest else "rest"
    if visit.is_ingest or not (visit.scope["path"] in _SILENT or is_upload(visit.scope)):
        _METERS[kind, visit.status // 100].observe(time.monotonic() - visit.started)


def _write_down(visit: Visit) -> None:
    scope, actor = visit.scope, visit.actor
    if scope["path"] in _SILENT:
        return
    said: dict[str, Any] = {
        "method": scope.get("method", "WEBSOCKET"),
        "route": route_of(scope),
        "status": visit.status,
        "ms": round((time.monotonic() - visit.started) * 1000, 1),
    }
    if actor is not None:
        said |= {"tenant": str(actor.tenant_id or ""), "actor": str(actor.identity_id)}
    log.info("request answered", **said)


def route_of(scope: Scope) -> str:
    """The path with names for its values, since those may be secrets; `-` where there is none."""
    if scope["path"].startswith("/api/v1/instances/") and _is_ingest(scope):
        return "/api/v1/instances/{instance_id}/events"
    if "endpoint" not in scope:
        return "-"
    if scope.get("root_path"):
        return str(scope["root_path"])
    steps = scope["path"].split("/")
    for name, value in scope.get("path_params", {}).items():
        steps = _named(steps, str(value).split("/"), f"{{{name}}}")
    return "/".join(steps)


def _named(steps: list[str], value: list[str], name: str) -> list[str]:
    for start in range(len(steps) - len(value) + 1):
        if steps[start : start + len(value)] == value:
            return [*steps[:start], name, *steps[start + len(value) :]]
    return steps
