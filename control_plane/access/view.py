"""What a reader sees of what people said: their numbers masked, where the tenant wants that.

Answer models declare with `Words` which of their fields hold people's words; whoever is recognised
for a request decides how those are written. What is no such model calls `shown` itself.
"""

import re
from contextvars import ContextVar
from typing import Annotated, Any

from pydantic import PlainSerializer

from control_plane.access.permissions import Actor
from control_plane.kit import masking

# The reader of this request; each request is a task of its own.
_MASKED: ContextVar[bool] = ContextVar("masked", default=False)

# What names things: masked, it would name nothing any more.
_NAMES = frozenset({"id", "type", "via", "url", "thumb_url", "format", "target", "platform_type"})
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The beginning of a number at the end of a line that was cut.
_CUT_NUMBER = re.compile(r"(?<!\d)\+?\d[\d -]{5,}[\dXx]?$", re.ASCII)


def look_as(actor: Actor) -> None:
    """From here on, this request's answer is written for that reader."""
    _MASKED.set(actor.masked)


def shown(value: Any, *, masked: bool) -> Any:
    """Plain JSON as the reader sees it; ids stay, whoever looks."""
    if not masked:
        return value
    if isinstance(value, str):
        return value if _ID.fullmatch(value) else masking.text(value)
    if isinstance(value, list):
        return [shown(item, masked=True) for item in value]
    if isinstance(value, dict):
        return {
            name: item if isinstance(item, str) and name in _NAMES else shown(item, masked=True)
            for name, item in value.items()
        }
    return value


def shown_line(line: str, *, masked: bool, cut_at: int) -> str:
    """The same for a line that may end in the middle of a number."""
    seen: str = shown(line, masked=masked)
    return _CUT_NUMBER.sub("****", seen) if masked and len(line) >= cut_at else seen


def for_reader(value: Any) -> Any:
    """As this request's reader sees it."""
    return shown(value, masked=_MASKED.get())


def line_for_reader(cut_at: int) -> Any:
    """Annotation of a line that was cut at so many characters."""
    return PlainSerializer(
        lambda line: shown_line(line, masked=_MASKED.get(), cut_at=cut_at), return_type=str
    )


Words = Annotated[str, PlainSerializer(for_reader, return_type=str)]
