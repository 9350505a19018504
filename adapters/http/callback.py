"""Check a call of a tenant's own system: Standard Webhooks headers; pure."""

import msgspec
from msgspec import Struct

from adapters import standard_webhooks
from adapters.http.settings import Settings
from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified

MAX_BYTES = 1024 * 1024
RECEIVED = CallbackAnswer()


class _Head(Struct):
    type: str = ""


def verify(request: RawCallback, settings: Settings, *, now: float | None) -> Verification:
    """Whether the system sent this, and recently; never raises. `now` None skips the age."""
    if request.method != "POST":
        return Rejected(reason="messages are posted")
    if len(request.body) > MAX_BYTES:
        return Rejected(reason="the body is too large")
    try:
        standard_webhooks.verify(settings.secrets, request.headers, request.body, now=now)
    except standard_webhooks.SignatureError as error:
        return Rejected(reason=str(error))
    if _type(request.body) == "ping":
        # A try of address and signature; there is no message in it.
        return Challenge(answer=RECEIVED)
    return Verified(answer=RECEIVED)


def _type(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Head).type
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
