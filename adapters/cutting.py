"""Cut a long text where it hurts least: at a line, at a word, and never inside what is one sign.

Platforms count characters or bytes; `fit` says how many leading characters one piece may have.
"""

import unicodedata
from collections.abc import Callable

# How far back a cut looks for the end of a line or a word.
_LOOK_BACK = 200

Fit = Callable[[str], int]


def characters(limit: int) -> Fit:
    """Pieces of at most `limit` characters."""
    return lambda text: min(limit, len(text))


def utf8_bytes(limit: int) -> Fit:
    """Pieces of at most `limit` bytes in UTF-8."""
    # A character that the limit falls into stays out as a whole. A character has a byte at least.
    return lambda text: len(text[:limit].encode()[:limit].decode("utf-8", "ignore"))


def pieces(text: str, fit: Fit) -> list[str]:
    """`text` in pieces that fit; together they are `text`."""
    found = []
    while (room := fit(text)) < len(text):
        at = _cut(text, room)
        found.append(text[:at])
        text = text[at:]
    if text:
        found.append(text)
    return found


def _cut(text: str, room: int) -> int:
    low = max(room - _LOOK_BACK, 0)
    for mark in ("\n", " "):
        at = text.rfind(mark, low, room)
        if at != -1:
            return at + 1
    # Step back out of an emoji or a combined letter, unless it is absurdly long.
    for at in range(room, low, -1):
        if not _joined(text, at):
            return at
    return room


def _joined(text: str, at: int) -> bool:
    """Whether the characters around a cut are one to the eye."""
    before, after = text[at - 1], text[at]
    if before == "\u200d" or after == "\u200d" or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff":  # a skin tone belongs to what it follows
        return True
    return _is_flag_half(before) and _is_flag_half(after) and _flag_halves(text, at) % 2 == 1


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flag_halves(text: str, at: int) -> int:
    start = at
    while start > 0 and _is_flag_half(text[start - 1]):
        start -= 1
    return at - start
