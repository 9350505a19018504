"""The JSON that WeCom uses where it does not use XML: one level of named values, as texts; pure."""

import json
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
    return plain(found)


def plain(values: Mapping[str, Any]) -> dict[str, str]:
    """Texts and numbers by name; what is neither is left out."""
    return {name: _text(value) for name, value in values.items() if _is_plain(value)}


def mended(body: bytes) -> bytes:
    """The same JSON with a mark for every character that is none; raises ValueError.

    Whoever reads a list must not be stopped for ever by half a character in it.
    """
    found = json.loads(body.decode("utf-8", "replace"))
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")


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
