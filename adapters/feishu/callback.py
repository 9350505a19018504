"""Check a Feishu callback: signature, key, token, application and age; pure."""

import json
from typing import Any

import msgspec
from msgspec import Struct

from adapters.feishu import sealing
from adapters.feishu.sealing import Keys, SealError
from adapters.feishu.settings import Settings
from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified

# The last redelivery comes 7.1 hours after the first try, and nobody says whether its timestamp
# is a new one.
WINDOW_S = 8 * 3600
# Events are kilobytes; media come by other ways.
MAX_BYTES = 1024 * 1024
# What the platform takes as "received"; for cards it also means that nothing changes.
RECEIVED = CallbackAnswer()

# Milliseconds since 1970 have thirteen digits; a few more lead to no date that anybody has.
_MAX_DIGITS = 15
# The old cards' signature is SHA-1 in hexadecimal.
_CARD_SIGNATURE_LENGTH = 40


class Opened(Struct, frozen=True, kw_only=True):
    """What was inside; `challenge` for a check of the address."""

    message: bytes
    challenge: str | None = None


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether Feishu sent this to this application, and recently; never raises."""
    opened = unseal(request, settings, now=now)
    if isinstance(opened, Rejected):
        return opened
    if opened.challenge is not None:
        return Challenge(answer=challenge_answer(opened.challenge))
    return Verified(answer=RECEIVED)


def challenge_answer(challenge: str) -> CallbackAnswer:
    """Plain JSON, also where the question was encrypted."""
    return CallbackAnswer(body=msgspec.json.encode({"challenge": challenge}))


def unseal(request: RawCallback, settings: Settings, *, now: float | None) -> Opened | Rejected:
    """The message inside; `now` None skips the age, for what was checked on arrival."""
    if settings.transport != "callback":
        return Rejected(reason="this channel hears by its long connection")
    if request.method != "POST":
        return Rejected(reason="the platform does not use this method")
    try:
        outer = _object(request.body)
        failure = "it is not for this application"
        for keys in settings.keys:
            # The last are those before a change of keys.
            try:
                return _opened(request, outer, keys, settings.app_id, now)
            except (SealError, _No) as error:
                failure = str(error)
    except _No as error:
        failure = str(error)
    return Rejected(reason=failure)


class _No(ValueError):
    """Why it is not taken."""


def _opened(
    request: RawCallback, outer: dict[str, Any], keys: Keys, app_id: str, now: float | None
) -> Opened:
    sealed = outer.get("encrypt")
    signed_at = None
    if isinstance(sealed, str):
        if not keys.encrypt_key:
            raise _No("it is encrypted, and there is no Encrypt Key")
        signed_at = _signed_at(request, keys)
        message = sealing.decrypt(keys.encrypt_key, sealed)
        inner = _object(message)
    else:
        message, inner = request.body, outer
        if _is_old_card(request, outer):
            _check_age(_old_card_at(request, keys), now)
            return Opened(message=message)
        if keys.encrypt_key:
            raise _No("it is not encrypted")
    _check_token(inner, keys)
    if inner.get("type") == "url_verification":
        return Opened(message=message, challenge=_text(inner, "challenge"))
    if sealed is not None and signed_at is None:
        raise _No("there is no signature")
    header = inner.get("header")
    if isinstance(header, dict) and header.get("app_id") != app_id:
        raise _No("it is for another application")
    _check_age(_created_at(inner) if signed_at is None else signed_at, now)
    return Opened(message=message)


def _signed_at(request: RawCallback, keys: Keys) -> float | None:
    """When it was signed; None without a signature, which only checks of the address lack."""
    signature = request.headers.get("x-lark-signature")
    if signature is None:
        return None
    timestamp, nonce = _stamp(request), request.headers.get("x-lark-request-nonce", "")
    if not keys.has_signed(signature, timestamp=timestamp, nonce=nonce, body=request.body):
        raise _No("it has another signature")
    return float(timestamp)


def _is_old_card(request: RawCallback, outer: dict[str, Any]) -> bool:
    signature = request.headers.get("x-lark-signature", "")
    return "header" not in outer and len(signature) == _CARD_SIGNATURE_LENGTH


def _old_card_at(request: RawCallback, keys: Keys) -> float:
    signature, timestamp = request.headers["x-lark-signature"], _stamp(request)
    nonce = request.headers.get("x-lark-request-nonce", "")
    if not keys.has_signed_card(signature, timestamp=timestamp, nonce=nonce, body=request.body):
        raise _No("it has another signature")
    return float(timestamp)


def _check_token(inner: dict[str, Any], keys: Keys) -> None:
    header = inner.get("header")
    holder = header if isinstance(header, dict) else inner
    if not keys.has_token(holder.get("token")):
        raise _No("it has another Verification Token")


def _check_age(at: float, now: float | None) -> None:
    if now is not None and abs(now - at) > WINDOW_S:
        raise _No("its time is too far from our clock")


def _created_at(inner: dict[str, Any]) -> float:
    """An event that nobody signed says itself how old it is; in seconds before version 2."""
    header = inner.get("header")
    if isinstance(header, dict):
        return float(_digits(header.get("create_time"))) / 1000
    stamp = inner.get("ts")
    whole = stamp.partition(".")[0] if isinstance(stamp, str) else stamp
    return float(_digits(whole))


def _stamp(request: RawCallback) -> str:
    return _digits(request.headers.get("x-lark-request-timestamp"))


def _digits(value: object) -> str:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return value
    raise _No("its time is no number")


def _text(inner: dict[str, Any], name: str) -> str:
    value = inner.get(name)
    if not isinstance(value, str):
        raise _No(f"there is no {name}")
    return value


def _object(body: bytes) -> dict[str, Any]:
    """JSON that can be read in one way only; raises _No."""
    if len(body) > MAX_BYTES:
        raise _No("it is too large")
    try:
        # Strict about bytes and surrogates, which the second reader is not.
        msgspec.json.decode(body)
        found = json.loads(body, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _No("it is not JSON") from None
    if not isinstance(found, dict):
        raise _No("it is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found
