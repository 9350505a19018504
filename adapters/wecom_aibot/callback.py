"""Check a callback for an AI bot: signature, age, and that it is for a company's own bot; pure.

An answer is a message in itself here: a stream that is opened, and asked for until it ends. So the
control plane can keep a person waiting in good order while the agent is away.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from adapters import wx_json
from adapters.model import (
    CallbackAnswer,
    Challenge,
    Inbound,
    RawCallback,
    Rejected,
    Verification,
    Verified,
)
from adapters.wecom_aibot import messages
from adapters.wecom_aibot.messages import Poll
from adapters.wecom_aibot.settings import Settings
from adapters.wx_aes import RANDOM_BYTES, Envelope, EnvelopeError
from adapters.wx_json import JsonError

# Seconds a callback's time may differ from our clock: the platform publishes no window of its own.
WINDOW_S = 600
# What the platform takes as "received": 200 and nothing.
RECEIVED = CallbackAnswer(content_type="text/plain", body=b"")
# The platform sends four parameters.
_MAX_PARAMETERS = 16
# The platform's own code reads these spellings, too.
_SIGNATURES = ("msg_signature", "msgsignature", "signature")


class Opened(Struct, frozen=True, kw_only=True):
    """What was inside, and how the platform expects an answer to be closed."""

    message: bytes
    envelope: Envelope
    nonce: str
    sealed: str
    at: int

    def answer(self, body: Mapping[str, Any]) -> CallbackAnswer:
        """A message as the answer: under the nonce that was asked with."""
        answer = self.envelope.seal(
            msgspec.json.encode(body),
            timestamp=str(self.at),
            nonce=self.nonce,
            random16=self._fresh(body),
        )
        return CallbackAnswer(content_type="text/plain", body=wx_json.sealed(answer))

    def _fresh(self, body: Mapping[str, Any]) -> bytes:
        """As random as what the platform sealed with: another question, another beginning."""
        seed = self.sealed.encode() + msgspec.json.encode(body)
        key = self.envelope.encoding_aes_key.encode()
        return hashlib.blake2b(seed, key=key, digest_size=RANDOM_BYTES).digest()


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether WeCom sent this to this bot, and recently; never raises."""
    opened = unseal(request, settings, now=now)
    if isinstance(opened, Rejected):
        return opened
    if request.method == "GET":
        # Exactly the text, without quotes or a line's end, or the console refuses the address.
        return Challenge(answer=CallbackAnswer(content_type="text/plain", body=opened.message))
    decoded = messages.decode(opened.message, at=now, bot_id=settings.bot_id)
    match decoded:
        case Rejected() if decoded.reason == messages.FOREIGN:
            return decoded
        case Poll():
            # Nobody said anything: the person goes on waiting.
            return Challenge(answer=opened.answer(waiting(decoded.stream_id, settings)))
        case Inbound() if settings.waiting_text:
            begun = messages.stream_id(decoded.message_id)
            return Verified(answer=opened.answer(waiting(begun, settings)))
        case _:
            return Verified(answer=RECEIVED)


def waiting(stream_id: str, settings: Settings) -> dict[str, Any]:
    """The stream of a question whose answer is still being made."""
    return messages.stream(stream_id, settings.waiting_text, finish=False)


def unseal(request: RawCallback, settings: Settings, *, now: float | None) -> Opened | Rejected:
    """The message inside; `now` None skips the age, for what was checked on arrival."""
    if request.method not in {"GET", "POST"}:
        return Rejected(reason="the platform does not use this method")
    if not settings.envelopes:
        return Rejected(reason="this channel's bot uses the long connection")
    try:
        query = _parameters(request.query)
        if now is not None and abs(now - int(query["timestamp"])) > WINDOW_S:
            return Rejected(reason="the timestamp is too far from our clock")
        return _opened(settings.envelopes, request, query)
    except KeyError as missing:
        return Rejected(reason=f"there is no {missing.args[0]}")
    except (EnvelopeError, JsonError) as error:
        return Rejected(reason=str(error))
    except ValueError:
        return Rejected(reason="the query cannot be read")


def _opened(envelopes: Sequence[Envelope], request: RawCallback, query: dict[str, str]) -> Opened:
    """With the first envelope that fits: the last is the one before a change of keys."""
    sealed = _ciphertext(request, query)
    signature = next((query[name] for name in _SIGNATURES if name in query), None)
    if signature is None:
        raise KeyError(_SIGNATURES[0])
    nonce = query["nonce"]
    failure = EnvelopeError("signature")
    for envelope in envelopes:
        try:
            message = envelope.open(
                signature=signature, timestamp=query["timestamp"], nonce=nonce, encrypt=sealed
            )
        except EnvelopeError as error:
            failure = error
        else:
            at = int(request.received_at)
            return Opened(message=message, envelope=envelope, nonce=nonce, sealed=sealed, at=at)
    raise failure


def _ciphertext(request: RawCallback, query: dict[str, str]) -> str:
    if request.method == "GET":
        # Base64 has no space: one is a plus sign that somebody on the way has decoded twice.
        return query["echostr"].replace(" ", "+")
    fields = wx_json.read(request.body)
    return fields["encrypt"] if "encrypt" in fields else fields["Encrypt"]


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
