"""One JSON object per line on stdout, for our own log and for what libraries log."""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import structlog

# W3C trace context: version, trace id, span id, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

Line = MutableMapping[str, Any]


def configure(level: str = "info") -> None:
    """Send every log line of this process, from `level` on, to stdout in the house's form."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            shape,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Library()], force=True)


_CURRENT: ContextVar[str] = ContextVar("traceparent", default="")


def trace(traceparent: str | None) -> None:
    """Let the lines and the calls of the current task name the caller's trace."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match:
        _CURRENT.set(match[0])
        structlog.contextvars.bind_contextvars(traceId=match[1], spanId=match[2])


def traceparent() -> str:
    """The caller's trace; empty where nobody called."""
    return _CURRENT.get()


def new_trace(random: Random) -> str:
    """A traceparent of our own, for what no call has brought."""
    return f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"


def shape(_logger: Any, _method: str, line: Line) -> Line:
    """The house's fields first; everything else becomes `data`."""
    return {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": line.pop("level"),
        "service": "instance_agent",
        "traceId": line.pop("traceId", ""),
        "spanId": line.pop("spanId", ""),
        "message": line.pop("event"),
        "data": dict(line),
    }


def _encode(line: Any, **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()


class _Library(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )
