"""Pages by cursor: an opaque position in a list that is ordered by its own keys."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from control_plane.kit.errors import BadRequest

# Rows of one page; a client that wants more asks again.
DEFAULT_PAGE = 50
MAX_PAGE = 200

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page; `next` is the cursor of the following one, null at the end."""

    items: list[Item]
    next: str | None = None


class Window(BaseModel):
    """Which page is asked for."""

    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: Annotated[str | None, Query(max_length=500)] = None

    def after_id(self) -> UUID | None:
        """The id that the cursor stands for; None at the start."""
        position: UUID | None = self._decode(UUID)
        return position

    def after_moment(self) -> tuple[datetime, UUID] | None:
        """The (time, id) that the cursor stands for; None at the start."""
        position: tuple[datetime, UUID] | None = self._decode(_moment, UUID)
        return position

    def after_number(self) -> int | None:
        """The number that the cursor stands for; None at the start."""
        position: int | None = self._decode(_small)
        return position

    def after_place(self) -> tuple[int, UUID] | None:
        """The (number, id) that the cursor stands for; None at the start."""
        position: tuple[int, UUID] | None = self._decode(_small, UUID)
        return position

    def _decode(self, *types: Callable[[str], Any]) -> Any:
        if self.cursor is None:
            return None
        try:
            keys = json.loads(base64.urlsafe_b64decode(self.cursor.encode("ascii")))
            values = tuple(read(str(key)) for read, key in zip(types, keys, strict=True))
        except (ValueError, TypeError, RecursionError):
            raise BadRequest(
                "invalid_cursor", "The cursor is not one that this list gave out."
            ) from None
        return values if len(types) > 1 else values[0]


def _moment(text: str) -> datetime:
    """A time as `cursor` writes it, in UTC; elsewhere it could be one of no year that there is."""
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() != timedelta(0):
        raise ValueError(text)
    return moment


def _small(text: str) -> int:
    """A number that a 4-byte column can be compared with."""
    number = int(text)
    if abs(number) >= 2**31:
        raise ValueError(text)
    return number


def cut(rows: Sequence[Item], limit: int) -> tuple[list[Item], Item | None]:
    """Split `limit + 1` fetched rows into the page and its last row, if more rows follow."""
    page = list(rows[:limit])
    return page, page[-1] if len(rows) > limit else None


def cursor(*keys: object) -> str:
    """The cursor that stands for `keys`."""
    texts = [key.isoformat() if isinstance(key, datetime) else str(key) for key in keys]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).decode()
