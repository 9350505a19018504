"""Whether what a caller gave can be kept, compared and answered: in the database, and in JSON."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

# Levels of one body: what we take ourselves has ten, and whoever reads it deeper may recurse.
MAX_DEPTH = 50

# All of Unicode but U+0000, which PostgreSQL does not keep, and surrogates.
_KEEPABLE = re.compile(r"[^\x00\ud800-\udfff]*")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d.*")


def keepable(value: Any) -> Any:
    """The JSON value itself; raises an error of pydantic for one that nothing could hold."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return value
        level = [part for whole in level for part in _parts(whole)]
    raise PydanticCustomError("nested_too_deep", "this is nested too deep")


def _parts(value: object) -> Iterable[object]:
    """What is inside a value, of a value that can be kept."""
    if isinstance(value, str) and not _KEEPABLE.fullmatch(value):
        raise PydanticCustomError("impossible_character", "there is U+0000 or half a character")
    if isinstance(value, float) and not isfinite(value):
        raise PydanticCustomError("no_number", "NaN and infinity are no numbers")
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list) else ()


def _written_out(value: object) -> object:
    """A bare number is no time to us, though the library would take it for one."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("a time is written like 2026-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    """Refuses the first and the last hours of the calendar, which have no UTC."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("this is no time in UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
"""A time with its zone, in UTC."""
