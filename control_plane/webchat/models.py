"""What our own chat platform keeps: visitors, and every message in either direction."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct


class Shown(Struct, frozen=True, kw_only=True):
    """A message as the visitor's page gets it."""

    id: UUID
    sender: dict[str, str]
    segments: list[dict[str, Any]]
    at: datetime
    client_id: str | None
    type: str = "message"


class Welcome(Struct, frozen=True, kw_only=True):
    """Answer to a resume: what was missed, or with `reset` the most recent."""

    visitor: str
    messages: list[Shown]
    reset: bool
    title: str
    greeting: str
    accent: str | None
    type: str = "welcome"
