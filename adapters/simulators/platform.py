"""What every stand-in of a platform offers, to tests and to people who play a customer.

The module of a kind is named like the kind, and its constant `PLATFORM` is the class.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a customer says: words, or one medium, or both."""

    user: str
    text: str = ""
    chat: str = ""
    """The group it is said in; empty for a direct talk."""
    mentions: bool = True
    """In a group: whether the bot is addressed."""
    quotes: str = ""
    """The platform's id of the message that this one answers."""
    picture: bytes = b""
    voice: bytes = b""
    file: bytes = b""
    name: str = ""
    """Of the file."""
    id: str = ""
    """The platform's id of this message; made up where it is empty."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One message of the bot or of a colleague, as a customer sees it."""

    user: str
    text: str
    chat: str = ""
    type: str = "text"
    """In the platform's own words."""
    id: str = ""
    quotes: str = ""


class Platform(Protocol):
    """One account of a platform, and its customers. `async with` serves it on loopback."""

    callback_url: str
    """Where it calls us; empty where it does not, or until somebody enters it."""
    calls: Counter[str]
    """What it was asked for, by its own names; `media`: what customers sent and we fetched."""

    async def __aenter__(self) -> "Platform": ...
    async def __aexit__(self, *error: object) -> None: ...

    @property
    def settings(self) -> dict[str, Any]:
        """What a tenant copies from the platform's console into the channel."""

    async def bring(self, line: Line) -> bool:
        """Say it; True once the platform need not say it again: acknowledged, or handed over."""

    @property
    def unacknowledged(self) -> int:
        """Messages that the platform still holds for us, and would give again."""

    def shown(self, user: str = "", *, chat: str = "") -> list[Shown]:
        """What was shown in this direct talk or group, in order; all of it without arguments."""

    async def until_shown(self, count: int, *, patience_s: float) -> None:
        """Wait until customers were shown that many messages in all."""

    async def disconnect(self) -> None:
        """Cut every connection that there is; a platform that only calls has none."""

    def expire_tokens(self) -> None:
        """All access tokens end before their time."""

    def limit(self, calls: int) -> None:
        """Answer the next so many sends with the platform's own "too often"."""
