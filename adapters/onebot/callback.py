"""Check who calls: the handshake of a client's socket, or the signature of its HTTP calls; pure."""

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from adapters.model import CallbackAnswer, Challenge, RawCallback, Rejected, Verification, Verified
from adapters.onebot.settings import Settings

# What a client takes as "received": anything in a body could be an order to it.
RECEIVED = CallbackAnswer(status=204, content_type="text/plain", body=b"")
# A client's address has one parameter, the token, where it is in the address at all.
_MAX_PARAMETERS = 16
_UNIVERSAL = "universal"


class _Head(Struct):
    post_type: str = ""


def verify(request: RawCallback, settings: Settings, *, now: float) -> Verification:
    """Whether the account's client sent this; never raises.

    A client signs no time, so a call may come twice; its message id makes it one.
    """
    if settings.transport != "http":
        return Rejected(reason="this channel is reached by WebSocket")
    if request.method != "POST":
        return Rejected(reason="clients do not use this method")
    refused = signed(request, settings.signing) or _of_account(request, settings.self_id)
    if refused is not None:
        return refused
    # A client says every few seconds that it is there: not worth keeping, and wakes nobody.
    return (Challenge if _is_meta(request.body) else Verified)(answer=RECEIVED)


def admit(handshake: RawCallback, settings: Settings) -> Rejected | None:
    """Whether the account's client opens this socket; never raises."""
    if settings.transport != "reverse_websocket":
        return Rejected(reason="this channel is reached by HTTP")
    refused = shown(handshake, settings.tokens) or _of_account(handshake, settings.self_id)
    if refused is None and role(handshake) != _UNIVERSAL:
        # One for events and another for calls would each be half a client.
        return Rejected(reason="only a universal connection is taken")
    return refused


def shown(handshake: RawCallback, tokens: Sequence[str]) -> Rejected | None:
    """Whether the caller shows one of the tokens, in a header or in the address."""
    given = _token(handshake)
    if not given:
        return Rejected(reason="there is no token", status=401)
    return None if _among(given, tokens) else Rejected(reason="the token is wrong")


def signed(request: RawCallback, secrets: Sequence[str]) -> Rejected | None:
    """Whether one of the secrets signed these bytes."""
    given = request.headers.get("x-signature", "")
    if not given:
        return Rejected(reason="there is no signature", status=401)
    expected = [signature(secret, request.body) for secret in secrets]
    return None if _among(given, expected) else Rejected(reason="the signature is wrong")


def signature(secret: str, body: bytes) -> str:
    """The value of `X-Signature`."""
    return "sha1=" + hmac.new(secret.encode(), body, "sha1").hexdigest()


def role(handshake: RawCallback) -> str:
    """What a socket is for: `universal` unless it says otherwise."""
    return handshake.headers.get("x-client-role", "").strip().lower() or _UNIVERSAL


def _of_account(request: RawCallback, self_id: str) -> Rejected | None:
    if request.headers.get("x-self-id", "").strip() != self_id:
        return Rejected(reason="this is another QQ account")
    return None


def _is_meta(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Head).post_type == "meta_event"
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _token(handshake: RawCallback) -> str:
    scheme, _, token = handshake.headers.get("authorization", "").partition(" ")
    if scheme.lower() in {"bearer", "token"}:
        return token.strip()
    try:
        query = parse_qs(handshake.query, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return ""
    given = query.get("access_token", [])
    return given[0] if len(given) == 1 else ""


def _among(given: str, right: Sequence[str]) -> bool:
    """In constant time; all of them are looked at."""
    sent = given.encode("utf-8", "surrogatepass")
    found = [hmac.compare_digest(sent, each.encode()) for each in right]
    return any(found)
