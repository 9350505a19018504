"""The JSON that WeCom uses where it does not use XML: one level of named values, as texts; pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.wx_aes import Sealed

# As for XML: messages carry ids of media, never bytes.
MAX_BYTES = 1024 * 1024


class JsonError(ValueError):
    """Not the JSON that this platform sends."""


def is_json(body: bytes) -> bool:
    """Whether a body claims to be an object, rather than XML."""
    return body.lstrip()[:1] == b"{"


def read(body: bytes) -> dict[str, str]:
    """The texts and whole numbers of the object, by name; raises JsonError."""
    if len(body) > MAX_BYTES:
        raise JsonError("the body is too large")
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise JsonError("the body is not JSON") from None
    return {name: _text(value) for name, value in found.items() if _is_plain(value)}


def write(fields: Mapping[str, str | int]) -> bytes:
    return msgspec.json.encode(fields)


def sealed(answer: Sealed) -> bytes:
    """A sealed passive reply as the platform wants it."""
    return write(
        {
            "encrypt": answer.encrypt,
            "msgsignature": answer.signature,
            "timestamp": int(answer.timestamp),
            "nonce": answer.nonce,
        }
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
