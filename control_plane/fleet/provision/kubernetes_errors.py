"""What the API server's refusals mean to whoever works with agents."""

from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.fleet.provision.base import Invalid, ProvisionError, Transient

MAX_PAUSE_S = 60.0
"""A server that asks for more is asked again after this."""

_DEFAULT_PAUSE_S = 1.0


class Conflict(Transient):
    """Somebody changed the object since it was read, or it is there already, or it goes."""


class Expired(Transient):
    """The position of a watch or of a list is too old: read all again."""


class Throttled(Transient):
    """Asked to come back later; `pause_s` holds for the whole cluster."""

    def __init__(self, message: str, pause_s: float) -> None:
        super().__init__(message)
        self.pause_s = pause_s


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ProvisionError:
    """The error that an answer stands for. Messages name objects, never what is in them."""
    given = _status(body)
    reason, message = str(given.get("reason") or ""), str(given.get("message") or "")[:300]
    text = f"Kubernetes answered {status} {reason}: {message}"
    if status == 429:
        return Throttled(text, _pause(given, headers))
    if status == 410 or reason == "Expired":
        return Expired(text)
    if status == 409 or _ends(given):
        return Conflict(text)
    if status == 403 and "exceeded quota" in message:
        return Transient(text)
    if status == 503 and "retry-after" in {name.lower() for name in headers}:
        return Throttled(text, _pause(given, headers))
    if status in (401, 408, 404) or status >= 500:
        # 401: the node renews our token; 404: its namespace went.
        return Transient(text)
    return Invalid(text)


def _status(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"message": "no status was given"}
    return given if isinstance(given, dict) else {}


def _ends(given: dict[str, Any]) -> bool:
    """Whether the namespace is on its way out: it comes back once it is gone."""
    causes = (given.get("details") or {}).get("causes") or []
    named = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
    return named or "because it is being terminated" in str(given.get("message"))


def _pause(given: dict[str, Any], headers: Mapping[str, str]) -> float:
    asked = (given.get("details") or {}).get("retryAfterSeconds")
    if not asked:
        found = [value for name, value in headers.items() if name.lower() == "retry-after"]
        asked = found[0] if found else 0
    try:
        return min(max(float(asked), _DEFAULT_PAUSE_S), MAX_PAUSE_S)
    except (TypeError, ValueError):
        return _DEFAULT_PAUSE_S
