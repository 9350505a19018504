"""Check a WeCom callback: signature, age, and whether it was sealed for this company; pure."""

from collections.abc import Sequence
from urllib.parse import parse_qs

from msgspec import Struct

from adapters import wx_json, wx_xml
from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified
from adapters.wecom.settings import Company
from adapters.wx_aes import Envelope, EnvelopeError
from adapters.wx_json import JsonError
from adapters.wx_xml import XmlError

# Seconds a callback's time may differ from our clock. The platform redelivers for 15 s and
# publishes no window of its own; the rest is for clocks that are off.
WINDOW_S = 600
# What the platform takes as "received": 200 and nothing.
RECEIVED = CallbackAnswer(content_type="text/plain", body=b"")
# The platform sends four parameters.
_MAX_PARAMETERS = 16


class Opened(Struct, frozen=True, kw_only=True):
    """What was inside, and how the platform expects an answer to be closed."""

    message: bytes
    envelope: Envelope
    is_json: bool


def verify(request: RawCallback, settings: Company, *, now: float) -> Verification:
    """Whether WeCom sent this to this company's address, and recently; never raises."""
    opened = unseal(request, settings, now=now)
    if isinstance(opened, Rejected):
        return opened
    if request.method == "GET":
        # Exactly the text, without quotes or a line's end, or the console refuses the address.
        return Challenge(answer=CallbackAnswer(content_type="text/plain", body=opened.message))
    return Verified(answer=RECEIVED)


def unseal(request: RawCallback, settings: Company, *, now: float | None) -> Opened | Rejected:
    """The message inside; `now` None skips the age, for what was checked on arrival."""
    if request.method not in {"GET", "POST"}:
        return Rejected(reason="the platform does not use this method")
    try:
        query = _parameters(request.query)
        if now is not None and abs(now - int(query["timestamp"])) > WINDOW_S:
            return Rejected(reason="the timestamp is too far from our clock")
        return _opened(settings.envelopes, request, query)
    except KeyError as missing:
        return Rejected(reason=f"there is no {missing.args[0]}")
    except (EnvelopeError, XmlError, JsonError) as error:
        return Rejected(reason=str(error))
    except ValueError:
        return Rejected(reason="the query cannot be read")


def _opened(envelopes: Sequence[Envelope], request: RawCallback, query: dict[str, str]) -> Opened:
    """With the first envelope that fits: the last is the one before a change of keys."""
    sealed = {
        "signature": query["msg_signature"],
        "timestamp": query["timestamp"],
        "nonce": query["nonce"],
        "encrypt": _ciphertext(request, query),
    }
    failure = EnvelopeError("signature")
    for envelope in envelopes:
        try:
            message = envelope.open(**sealed)
        except EnvelopeError as error:
            failure = error
        else:
            is_json = wx_json.is_json(request.body)
            return Opened(message=message, envelope=envelope, is_json=is_json)
    raise failure


def _ciphertext(request: RawCallback, query: dict[str, str]) -> str:
    if request.method == "GET":
        # Base64 has no space: one is a plus sign that somebody on the way has decoded twice.
        return query["echostr"].replace(" ", "+")
    if wx_json.is_json(request.body):
        return wx_json.read(request.body)["encrypt"]
    return wx_xml.read(request.body)["Encrypt"]


def _parameters(query: str) -> dict[str, str]:
    """Each parameter once; raises ValueError."""
    parsed = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    if any(len(values) != 1 for values in parsed.values()):
        raise ValueError("a parameter is given twice")
    found = {name: values[0] for name, values in parsed.items()}
    stamp = found.get("timestamp", "")
    if stamp and not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 15):
        raise ValueError("the timestamp is no number")
    return found
