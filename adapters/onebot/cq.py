"""CQ codes, OneBot's messages as one string: `[CQ:type,name=value,...]` among text; pure.

We read them, because a client may be set to send them, and never write them to a client: what a
customer says could then become a code.
"""

import re
import sys
from collections.abc import Iterable
from typing import Any

_BEGIN = "[CQ:"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def parse(text: str, *, most: int = sys.maxsize) -> list[dict[str, Any]]:
    """The segments of a string, `most` of them or one more; what is no code is text."""
    found: list[dict[str, Any]] = []
    words: list[str] = []
    at = 0
    # Each round goes on behind a closing bracket, so that no text takes long.
    while (end := text.find("]", at)) != -1:
        begin = text.rfind(_BEGIN, at, end)
        code = None if begin == -1 else _code(text[begin + len(_BEGIN) : end])
        if code is None:
            words.append(text[at : end + 1])
        else:
            words.append(text[at:begin])
            _say(found, words)
            found.append(code)
        at = end + 1
        if len(found) >= most:
            return found
    words.append(text[at:])
    _say(found, words)
    return found


def build(segments: Iterable[dict[str, Any]]) -> str:
    """The string of segments, as a client would write it."""
    return "".join(map(_written, segments))


def _say(found: list[dict[str, Any]], words: list[str]) -> None:
    text = _plain("".join(words))
    words.clear()
    if text:
        found.append({"type": "text", "data": {"text": text}})


def _code(inside: str) -> dict[str, Any] | None:
    name, *pairs = inside.split(",")
    if not _NAME.fullmatch(name):
        return None
    data = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        data[key.strip()] = _plain(value.replace("&#44;", ","))
    return {"type": name, "data": data}


def _plain(text: str) -> str:
    # The ampersand comes last: what it stood before must not become a code.
    return text.replace("&#91;", "[").replace("&#93;", "]").replace("&amp;", "&")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("[", "&#91;").replace("]", "&#93;")


def _written(segment: dict[str, Any]) -> str:
    data: dict[str, Any] = segment["data"]
    if segment["type"] == "text":
        return _escaped(str(data["text"]))
    pairs = [f",{key}={_escaped(str(value)).replace(',', '&#44;')}" for key, value in data.items()]
    return f"{_BEGIN}{segment['type']}{''.join(pairs)}]"
