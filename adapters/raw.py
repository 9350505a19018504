"""What a platform sent, for people who are to find out why we could not carry it; pure.

Only where something of it is unsupported: the rest says itself what it was. Secrets are removed
before it leaves the adapter, and it is cut: a hint, not a copy.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from adapters.model import Segment, Unsupported

# Characters of all, of one text in it, and entries of one list or object: a card has some hundred.
MAX_RAW = 8_000
_MAX_TEXT = 2_000
_MAX_ENTRIES = 100
_MAX_DEPTH = 12
_CUT = "…"
MASK = "***"

_SECRET = re.compile(
    r"secret|token|passw|authorization|cookie|credential|signature|webhook|ticket|(aes|api|r)_?key"
    r"|^(key|sign|response_url|download_?code)$",
    re.IGNORECASE,
)
# What is behind an address often opens it.
_QUERY = re.compile(r"(\w+://[^\s\"'?#]*)[?#][^\s\"']*")


def kept(segments: Sequence[Segment], sent: Any) -> str:
    """`sent` (JSON, or what was read of it) as JSON, where a segment is unsupported; else ""."""
    if not any(map(_is_strange, segments)):
        return ""
    try:
        read = json.loads(sent) if isinstance(sent, bytes | str) else msgspec.to_builtins(sent)
        text = json.dumps(_bare(read, _MAX_DEPTH), ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return ""
    # Half a character is not text.
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= MAX_RAW else whole[: MAX_RAW - 1] + _CUT


def _is_strange(segment: Segment) -> bool:
    return isinstance(segment, Unsupported) or any(map(_is_strange, getattr(segment, "quoted", ())))


def _bare(value: Any, depth: int) -> Any:
    """The value without secrets, and without what is too much of it."""
    if depth == 0:
        return _CUT
    match value:
        case dict():
            return {
                name[:_MAX_TEXT]: MASK if _SECRET.search(name) else _bare(inner, depth - 1)
                for name, inner in islice(value.items(), _MAX_ENTRIES)
            }
        case list():
            return [_bare(inner, depth - 1) for inner in value[:_MAX_ENTRIES]]
        case str():
            return _text(value, depth)
        case _:
            return value


def _text(value: str, depth: int) -> Any:
    """JSON within JSON is looked through, too."""
    if value[:1] in ("{", "["):
        try:
            return _bare(json.loads(value), depth - 1)
        except (ValueError, RecursionError):
            pass
    plain = _QUERY.sub(rf"\1?{MASK}", value[: 2 * _MAX_TEXT])
    return plain if len(plain) <= _MAX_TEXT else plain[:_MAX_TEXT] + _CUT
