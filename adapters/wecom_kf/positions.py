"""Where a channel goes on: the platform's cursor, whose account it is of, and since when we ask.

What customers said long before a channel began is none of its business; without a cursor the
platform gives all of three days, so the beginning is remembered beside it. Pure.
"""

from msgspec import Struct

# What was said so long before the very first look is still answered: the time it takes to set a
# channel up and to start its bot.
GRACE_S = 3600.0


class Position(Struct, frozen=True):
    """`since` in Unix seconds; an empty cursor is the oldest that the platform keeps."""

    open_kfid: str
    since: int
    cursor: str = ""

    @property
    def text(self) -> str:
        return f"{self.open_kfid}:{self.since}:{self.cursor}"


def read(text: str | None, open_kfid: str, *, now: float) -> Position:
    """The position as it was written; the beginning where there is none for this account."""
    account, _, rest = (text or "").partition(":")
    since, _, cursor = rest.partition(":")
    if account != open_kfid or not (since.isascii() and since.isdigit()):
        return Position(open_kfid, int(now - GRACE_S))
    return Position(open_kfid, int(since), cursor)
