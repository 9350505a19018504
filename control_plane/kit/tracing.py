"""One trace per customer's message, in every process and every log line (W3C trace context).

Spans always have ids, so that log lines name them; they are recorded only where somebody collects
them. A row keeps a span's place as 24 bytes: trace id and span id.
"""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

HEADER = "traceparent"
# Spans that wait for the collector; past that the newest are dropped, never the work.
MAX_WAITING = 2_048
# What one export may take, and so what a stopping process waits at most for the last.
EXPORT_WITHIN_S = 3

_NOTHING = nullcontext()
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class _Tracing:
    """What this process does with its spans; made anew by `collect`."""

    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    collected = False


@contextmanager
def exported(service: str, otlp_url: str | None) -> Iterator[None]:
    """Name this process, and send its spans to a collector (OTLP over HTTP) if there is one."""
    processor = None
    if otlp_url:
        # Loads an HTTP library of its own, which nobody needs otherwise.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=otlp_url, timeout=EXPORT_WITHIN_S),
            max_queue_size=MAX_WAITING,
        )
    collect(service, processor)
    try:
        yield
    finally:
        _Tracing.provider.shutdown()


def collect(service: str, processor: SpanProcessor | None) -> None:
    """Give this process's spans to whoever takes them; to nobody with None."""
    _Tracing.provider.shutdown()
    _Tracing.provider = TracerProvider(
        sampler=ALWAYS_ON if processor else ALWAYS_OFF,
        resource=Resource({SERVICE_NAME: service}),
        shutdown_on_exit=False,
    )
    _Tracing.collected = processor is not None
    if processor is not None:
        _Tracing.provider.add_span_processor(processor)


def span(name: str, place: bytes | None = None, **attributes: Any) -> AbstractContextManager[None]:
    """A span behind the one at `place`; without one it begins a trace."""
    if _Tracing.collected:
        return _recorded(name, place, attributes)
    return _Unrecorded(place)


def recorded(name: str, place: Callable[[], bytes | None]) -> AbstractContextManager[None]:
    """The same around what neither logs nor calls others: without a collector nothing at all."""
    return _recorded(name, place(), {}) if _Tracing.collected else _NOTHING


class _Unrecorded:
    """A span that nobody collects: only its place, since everything goes through some of them."""

    __slots__ = ("_place", "_token")

    def __init__(self, behind: bytes | None) -> None:
        self._place = SpanContext(
            trace_id=int.from_bytes(behind[:16], "big") if behind else random.getrandbits(128),
            span_id=random.getrandbits(64),
            is_remote=False,
        )

    def __enter__(self) -> None:
        here = trace.set_span_in_context(NonRecordingSpan(self._place), contexts.Context())
        self._token: Token[contexts.Context] = contexts.attach(here)

    def __exit__(self, *_error: object) -> None:
        contexts.detach(self._token)


@contextmanager
def _recorded(name: str, place: bytes | None, attributes: dict[str, Any]) -> Iterator[None]:
    behind = contexts.Context()
    if place is not None:
        behind = trace.set_span_in_context(NonRecordingSpan(_context(place)), behind)
    tracer = _Tracing.provider.get_tracer("botyard")
    # What an error says may be no business of a collector's.
    with tracer.start_as_current_span(
        name,
        context=behind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


class working:  # noqa: N801 - used as a function
    """A piece of background work that learns by `follow` whose message it is about.

    Everything in the background goes through one; few of them ever follow a message.
    """

    __slots__ = ("_kind", "_span", "_token")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._span: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        self._token: Token[working | None] = _WORK.set(self)

    def __exit__(self, *error: Any) -> None:
        _WORK.reset(self._token)
        if self._span is not None:
            self._span.__exit__(*error)

    def begin(self, place: bytes | None) -> None:
        """End the span before, and begin one behind that place."""
        if self._span is not None:
            self._span.__exit__(None, None, None)
        self._span = span(self._kind, place)
        self._span.__enter__()


_WORK: ContextVar[working | None] = ContextVar("work", default=None)


def follow(place: bytes | None) -> None:
    """From here on, this piece of work is about the message at that place."""
    work = _WORK.get()
    if work is not None:
        work.begin(place)


def here() -> bytes | None:
    """The place of the current span; None outside of any."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return None
    return current.trace_id.to_bytes(16, "big") + current.span_id.to_bytes(8, "big")


def header() -> dict[str, str]:
    """What a call to another process says of it."""
    place = here()
    return {HEADER: f"00-{place[:16].hex()}-{place[16:].hex()}-01"} if place else {}


def read(given: str | None) -> bytes | None:
    """The place that a header names; None for what is none."""
    match = _TRACEPARENT.fullmatch(given or "")
    place = bytes.fromhex(match[1] + match[2]) if match else None
    return place if place and any(place[:16]) and any(place[16:]) else None


def stamp(_logger: Any, _method: str, line: Any) -> Any:
    """Log processor: the ids of the current span."""
    place = here()
    if place is not None:
        line["trace_id"], line["span_id"] = place[:16].hex(), place[16:].hex()
    return line


def _context(place: bytes) -> SpanContext:
    return SpanContext(
        trace_id=int.from_bytes(place[:16], "big"),
        span_id=int.from_bytes(place[16:], "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
