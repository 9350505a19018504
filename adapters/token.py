"""A platform's access token: fetched once for all who need it, in time, and again if refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from adapters.platform import Cut, PlatformError, Unreachable

# A token is renewed at this share of its life, and never later than this many seconds before its
# end: a call that sets out with it must still find it good.
RENEW_AT = 0.8
RENEW_BEFORE_S = 300.0
# Some platforms give the same token again until shortly before its end: asking for every call
# until then would help nobody.
RENEW_LATE = 0.5
STALE = frozenset({"token_invalid", "token_expired", "token_missing"})

T = TypeVar("T")


class Granted(NamedTuple):
    """A token as the platform gave it."""

    value: str
    lives_s: float


class Token:
    """The newest token of one credential."""

    def __init__(
        self, fetch: Callable[[], Awaitable[Granted]], *, clock: Callable[[], float]
    ) -> None:
        """`fetch` raises PlatformError, Unreachable or Cut."""
        self._fetch = fetch
        self._clock = clock
        self._value = ""
        self._until = 0.0
        self._renewing = asyncio.Lock()

    async def current(self) -> str:
        """A token that lives long enough for a call; raises PlatformError or Unreachable."""
        async with self._renewing:
            if not self._value or self._clock() >= self._until:
                await self._renew()
            return self._value

    def drop(self, value: str) -> None:
        """The platform does not take it; another caller may have renewed it already."""
        if self._value == value:
            self._value = ""

    async def asked(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask with the token; once more with a new one if the platform does not like it."""
        value = await self.current()
        try:
            return await ask(value)
        except PlatformError as error:
            if error.error_class not in STALE:
                raise
        self.drop(value)
        return await ask(await self.current())

    async def _renew(self) -> None:
        asked_at = self._clock()
        try:
            granted = await self._fetch()
        except Cut:
            # What the token was for has not been asked yet.
            raise Unreachable from None
        if not granted.value:
            raise Unreachable
        life = granted.lives_s
        self._value = granted.value
        self._until = asked_at + max(min(life * RENEW_AT, life - RENEW_BEFORE_S), life * RENEW_LATE)
