"""Whether what a caller gave is something that PostgreSQL can keep: no NUL, no half characters."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime


def storable(value: Any) -> bool:
    """Whether every text in a JSON value, keys included, can be stored."""
    # Not recursive: how deep a value is, is the caller's choice.
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            if not _whole(item):
                return False
        elif isinstance(item, dict):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            left += item
    return True


def _whole(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside of the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with its zone, in UTC."""
