"""Column types and the base of every model."""

import json
from typing import Any

from sqlalchemy import DateTime, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel


class _Json(TypeDecorator[Any]):
    """JSONB that decodes here, since the connections hand out text (see `Database`)."""

    impl = JSONB
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


Timestamp = DateTime(timezone=True)
Json = _Json(none_as_null=True)


class Row(SQLModel):
    """A table row; the migrations, not the models, make the tables."""
