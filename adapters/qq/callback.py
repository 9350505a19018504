"""Check a QQ webhook call: signature, age, and what kind of call it is; pure.

The challenge by which the platform checks an address is signed with the same key, over the same
plain joining of a time and a text, as the platform's own calls. Whoever could have anything signed
could forge those. So we sign a time of digits and a token of letters and digits alone, and take
for a call of the platform nothing but a JSON object: neither can ever be read as the other.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified
from adapters.qq import signing
from adapters.qq.settings import Settings

# Seconds a call's time may differ from our clock. The platform publishes neither a window of its
# own nor when it says something again.
WINDOW_S = 600
# Messages carry addresses of media, never bytes.
MAX_BYTES = 1024 * 1024

DISPATCH, HEARTBEAT, CHALLENGE = 0, 1, 13
# What the platform takes as "received".
RECEIVED = CallbackAnswer(body=b'{"op":12,"d":0}')

_SIGNATURE, _TIMESTAMP, _APP = "x-signature-ed25519", "x-signature-timestamp", "x-bot-appid"
_DIGITS = re.compile(r"[0-9]{1,15}", re.ASCII)
_TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
# A number that both sides' JSON can hold.
_MAX_NUMBER = 2**53


class Call(Struct, frozen=True):
    """What the platform says in a call, over webhook as over the gateway."""

    op: int = DISPATCH
    d: Any = None
    s: Annotated[int, msgspec.Meta(ge=0, le=_MAX_NUMBER)] | None = None
    t: str | None = None
    id: str | None = None


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether QQ sent this to this bot, and recently; never raises."""
    found = opened(request, settings, now=now)
    match found:
        case Rejected():
            return found
        case CallbackAnswer():
            return Challenge(answer=found)
        case _:
            return Verified(answer=RECEIVED)


def opened(
    request: RawCallback,
    settings: Settings,
    *,
    now: float | None,
    public_key: Callable[[], bytes] | None = None,
) -> Call | CallbackAnswer | Rejected:
    """The dispatch inside, or at once the answer where nobody said anything.

    `now` None skips the age, for what was checked on arrival. `public_key`: that of the secret,
    from whoever keeps it; to derive it costs a third of a check.
    """
    if request.method != "POST":
        return Rejected(reason="the platform does not use this method")
    if len(request.body) > MAX_BYTES:
        return Rejected(reason="the body is too large")
    if request.headers.get(_APP, settings.app_id) != settings.app_id:
        return Rejected(reason="the call is for another bot")
    signed = _SIGNATURE in request.headers or _TIMESTAMP in request.headers
    key = public_key or partial(signing.public_key, settings.secret.get_secret_value())
    if signed and (wrong := _unproven(request, key, now)):
        return Rejected(reason=wrong)
    call = read(request.body)
    if call is None:
        return Rejected(reason="the body cannot be read")
    if call.op == CHALLENGE:
        return _proof(call.d, settings)
    if not signed:
        return Rejected(reason="there is no signature")
    if call.op == HEARTBEAT:
        return _beat(call.d)
    return call


def read(body: bytes) -> Call | None:
    """None for what is not an object of the platform's form."""
    if body[:1] != b"{":
        return None
    try:
        return msgspec.json.decode(body, type=Call)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _unproven(
    request: RawCallback, public_key: Callable[[], bytes], now: float | None
) -> str | None:
    """What is wrong with the signature; None when nothing is."""
    stamp = request.headers.get(_TIMESTAMP, "")
    if not _DIGITS.fullmatch(stamp):
        return "the timestamp is no number"
    if now is not None and abs(now - int(stamp)) > WINDOW_S:
        return "the timestamp is too far from our clock"
    message = stamp.encode() + request.body
    signature = request.headers.get(_SIGNATURE, "")
    if not signing.holds(public_key(), message, signature):
        return "the signature does not fit"
    return None


def _proof(asked: Any, settings: Settings) -> CallbackAnswer | Rejected:
    """What shows the platform that we have the secret."""
    given = asked if isinstance(asked, dict) else {}
    at, token = given.get("event_ts"), given.get("plain_token")
    if not (isinstance(at, str) and _DIGITS.fullmatch(at)):
        return Rejected(reason="the challenge has no time")
    if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        return Rejected(reason="the challenge has no token of letters and digits")
    signature = signing.sign(settings.secret.get_secret_value(), (at + token).encode())
    answer = {"plain_token": token, "signature": signature.hex()}
    return CallbackAnswer(body=msgspec.json.encode(answer))


def _beat(number: Any) -> CallbackAnswer | Rejected:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MAX_NUMBER:
        return Rejected(reason="the heartbeat has no number")
    return CallbackAnswer(body=msgspec.json.encode({"op": 11, "d": number}))
