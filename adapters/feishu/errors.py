"""Feishu's error codes in our words; pure."""

from typing import Literal

TOO_OFTEN = 429

_CLASSES = {
    0: "ok",
    # Of the token call: neither of the two is known.
    10003: "secret_invalid",
    10012: "secret_invalid",
    10013: "secret_invalid",
    10014: "secret_invalid",
    10015: "secret_invalid",
    11205: "no_permission",
    11232: "rate_limited",
    11233: "rate_limited",
    230001: "content_invalid",
    230002: "bot_not_in_chat",
    230006: "no_permission",
    230011: "message_gone",
    230013: "recipient_unavailable",
    230018: "recipient_refuses",
    230020: "rate_limited",
    230022: "content_invalid",
    230025: "too_long",
    230027: "no_permission",
    230028: "content_invalid",
    230029: "recipient_invalid",
    230035: "recipient_refuses",
    230038: "recipient_refuses",
    230049: "duplicate_in_flight",
    230053: "recipient_refuses",
    230055: "media_failed",
    230099: "bad_markup",
    230110: "message_gone",
    231003: "message_gone",
    232009: "chat_gone",
    99991400: "rate_limited",
    99991401: "ip_not_allowed",
    99991661: "token_missing",
    99991663: "token_invalid",
    99991668: "token_invalid",
    99991671: "token_invalid",
    99991672: "no_permission",
    99991677: "token_expired",
}
# Everything about uploads and downloads.
_MEDIA = range(234_000, 235_000)

# Of the long connection, before it is there.
FORBIDDEN, AUTH_FAILED, BUSY = 403, 514, 1
INTERNAL, NOT_ALLOWED, TOO_MANY_CONNECTIONS = 1000040343, 1000040344, 1000040350
_STOP = frozenset({FORBIDDEN, AUTH_FAILED, NOT_ALLOWED, TOO_MANY_CONNECTIONS})


def error_class(code: int, *, status: int = 200) -> str:
    """The neutral class of an answer; whatever is unknown is a fault of the content."""
    if status == TOO_OFTEN:
        return "rate_limited"
    if code in _MEDIA:
        return "media_failed"
    return _CLASSES.get(code, "content_invalid")


def endpoint_action(code: int) -> Literal["retry", "stop"]:
    """Whether a long connection that was not given may be given later."""
    return "stop" if code in _STOP else "retry"


def endpoint_words(code: int) -> str:
    """What a tenant can do about it."""
    if code == TOO_MANY_CONNECTIONS:
        return "this application has 50 long connections already: stop the others"
    if code == AUTH_FAILED:
        return "Feishu does not know this App ID with this App Secret"
    if code in _STOP:
        return "Feishu gives this application no long connection: it takes a self-built one"
    return f"Feishu gave no long connection: it answered {code}"
