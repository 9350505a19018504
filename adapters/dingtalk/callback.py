"""Check a DingTalk callback: the robot's signed one, or an encrypted one; pure.

The robot's signature covers its time alone, not the body: DingTalk's own scheme.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from adapters import wx_json
from adapters.dingtalk.settings import Settings
from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified
from adapters.wx_aes import RANDOM_BYTES, Envelope, EnvelopeError, Sealed
from adapters.wx_json import JsonError

# The platform's own window, both ways.
WINDOW_MS = 3_600_000
MAX_BYTES = 1024 * 1024
RECEIVED = CallbackAnswer()
# The platform sends three parameters, one of them under two names.
_MAX_PARAMETERS = 16
# What an encrypted delivery is answered with, encrypted as well.
_SUCCESS = b"success"


class Opened(Struct, frozen=True, kw_only=True):
    """What was inside, and what the platform takes as "received"."""

    message: bytes
    answer: CallbackAnswer
    is_event: bool
    """Something of the company's happened; nobody said anything to the robot."""


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether DingTalk sent this to this robot, and recently; never raises."""
    opened = unseal(request, settings, now=now)
    if isinstance(opened, Rejected):
        return opened
    if opened.is_event:
        # The check of the address, or an event: answered here, with nothing to keep.
        return Challenge(answer=opened.answer)
    return Verified(answer=opened.answer)


def unseal(request: RawCallback, settings: Settings, *, now: float | None) -> Opened | Rejected:
    """The message inside; `now` None skips the age, for what was checked on arrival."""
    if settings.transport != "callback":
        return Rejected(reason="this channel gets its messages over the stream")
    if request.method != "POST":
        return Rejected(reason="the platform does not use this method")
    if len(request.body) > MAX_BYTES:
        return Rejected(reason="the body is too large")
    try:
        if "sign" in request.headers:
            return _signed(request, settings, now)
        return _sealed(request, settings, now)
    except KeyError as missing:
        return Rejected(reason=f"there is no {missing.args[0]}")
    except (EnvelopeError, JsonError) as error:
        return Rejected(reason=str(error))
    except ValueError:
        return Rejected(reason="the callback cannot be read")


def sign(secret: str, timestamp: str) -> str:
    """The robot's signature of a time in milliseconds."""
    signed = f"{timestamp}\n{secret}".encode("utf-8", "replace")
    return base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()


def reply(sealed: Sealed) -> dict[str, str]:
    """An encrypted answer in the platform's words."""
    return {
        "msg_signature": sealed.signature,
        "encrypt": sealed.encrypt,
        "timeStamp": sealed.timestamp,
        "nonce": sealed.nonce,
    }


def _signed(request: RawCallback, settings: Settings, now: float | None) -> Opened | Rejected:
    timestamp, given = _stamp(request.headers["timestamp"]), request.headers["sign"]
    if _is_off(timestamp, now):
        return Rejected(reason="the timestamp is too far from our clock")
    expected = [sign(secret, timestamp) for secret in settings.secrets]
    # All are compared, so that the time taken tells nothing about which one matched.
    good = [hmac.compare_digest(e.encode(), given.encode("utf-8", "replace")) for e in expected]
    if not any(good):
        return Rejected(reason="the signature is wrong")
    return Opened(message=request.body, answer=RECEIVED, is_event=False)


def _sealed(request: RawCallback, settings: Settings, now: float | None) -> Opened | Rejected:
    query = _parameters(request.query)
    timestamp = _stamp(query.get("timestamp") or query["timeStamp"])
    if _is_off(timestamp, now):
        return Rejected(reason="the timestamp is too far from our clock")
    envelopes = settings.envelopes
    if not envelopes:
        return Rejected(reason="neither signed nor is there a key to open it")
    encrypt = wx_json.read(request.body)["encrypt"]
    failure = EnvelopeError("signature")
    for envelope in envelopes:
        try:
            message = envelope.open(
                signature=query.get("msg_signature") or query["signature"],
                timestamp=timestamp,
                nonce=query["nonce"],
                encrypt=encrypt,
            )
        except EnvelopeError as error:
            failure = error
        else:
            answer = _success(envelope, encrypt, timestamp=timestamp, nonce=query["nonce"])
            return Opened(message=message, answer=answer, is_event=_is_event(message))
    raise failure


def _success(envelope: Envelope, encrypt: str, *, timestamp: str, nonce: str) -> CallbackAnswer:
    # Nobody without the key can guess these, and each delivery has others.
    random16 = hmac.digest(envelope.encoding_aes_key.encode(), encrypt.encode(), hashlib.sha256)
    sealed = envelope.seal(
        _SUCCESS, timestamp=timestamp, nonce=nonce, random16=random16[:RANDOM_BYTES]
    )
    return CallbackAnswer(body=msgspec.json.encode(reply(sealed)))


def _is_event(message: bytes) -> bool:
    fields = wx_json.read(message)
    return "EventType" in fields or "msgtype" not in fields


def _is_off(timestamp: str, now: float | None) -> bool:
    return now is not None and abs(now * 1000 - int(timestamp)) > WINDOW_MS


def _stamp(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError("the timestamp is no number")
    return text


def _parameters(query: str) -> Mapping[str, str]:
    """Each parameter once; raises ValueError."""
    parsed = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    if any(len(values) != 1 for values in parsed.values()):
        raise ValueError("a parameter is given twice")
    return {name: values[0] for name, values in parsed.items()}
