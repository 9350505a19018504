"""Logs: one JSON object a line, the same fields from every process."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict

from control_plane.kit import masking, tracing

# A log file is turned over at this size, and so many are kept.
MAX_BYTES = 10 * 1024 * 1024
KEPT = 3
_OWN = frozenset({"timestamp", "level", "event", "exception"})


def to_stdout(service: str) -> None:
    """For processes whose output somebody else collects."""
    _configure(service, logging.StreamHandler(sys.stdout))


def to_file(service: str, file: Path) -> None:
    """For `botyard up`, whose terminal is for people."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _configure(service, RotatingFileHandler(file, maxBytes=MAX_BYTES, backupCount=KEPT))


def _configure(service: str, handler: logging.Handler) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        tracing.stamp,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Shape(service),
                _mask,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # Each line of these says what a line of ours says already, or names addresses.
    for name in ("httpx", "httpx2", "httpcore", "uvicorn", "apscheduler", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _Shape:
    """The fields of a line, in their order; what else was said goes under `data`."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _name: str, event: EventDict) -> dict[str, Any]:
        said = {key: value for key, value in event.items() if key not in _OWN}
        if "exception" in event:
            said["exception"] = event["exception"]
        return {
            "timestamp": event.get("timestamp"),
            "level": event.get("level"),
            "service": self._service,
            "traceId": said.pop("trace_id", ""),
            "spanId": said.pop("span_id", ""),
            "message": event.get("event"),
            "data": said,
        }


def _mask(_logger: Any, _name: str, line: EventDict) -> EventDict:
    """Customers' numbers are nobody's business in a log."""
    masked: EventDict = masking.mask(line)
    return masked
