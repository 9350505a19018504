"""What the platform keeps for us: media ids by content, and a pace of their own for uploads.

Platforms count calls of one kind over all of an account's applications. Whoever sends a hundred
pictures must not use that up, and never holds up words.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from adapters.base import Content, SendFailed
from adapters.platform import PlatformError

# Uploads remembered: a company's price lists and pictures, sent again and again.
MAX_KEPT = 500
# Uploads of one application within a minute; one picture sent to many is one.
PER_MINUTE = 60
_MINUTE_S = 60.0


class Kept(NamedTuple):
    """An upload at a platform that says for how long it is kept; 0 is without an end."""

    id: str
    lives_s: float


# The id of a content of one kind.
Upload = Callable[[str, Content], Awaitable[str | Kept]]


class Uploads:
    """Each content is uploaded once, for as long as the platform keeps it."""

    def __init__(
        self,
        upload: Upload | None = None,
        *,
        kept_s: float = 0,
        clock: Callable[[], float],
        per_minute: int = PER_MINUTE,
    ) -> None:
        """`upload` None: each call brings its own. `kept_s`: how long an id is good for, where the
        platform does not say."""
        self._upload = upload
        self._kept_s = kept_s
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._begun: deque[float] = deque(maxlen=per_minute)
        self._closed_until = 0.0

    async def media_id(self, kind: str, content: Content, *, upload: Upload | None = None) -> str:
        """The id of these bytes at the platform; raises SendFailed while it is too early.

        `upload`: how it is done this time, where a platform asks whom it is for.
        """
        key = (kind, content.sha256)
        known = self._known.get(key)
        if known is not None and self._clock() < known[1]:
            self._known.move_to_end(key)
            return known[0]
        do = upload or self._upload
        if do is None:
            raise TypeError("nobody says how to upload it")
        begun = self._keep_pace()
        try:
            made = await do(kind, content)
        except PlatformError as error:
            if error.error_class == "rate_limited":
                self._closed_until = self._clock() + _MINUTE_S
            raise
        media_id, lives_s = made if isinstance(made, Kept) else (made, self._kept_s)
        self._known[key] = (media_id, begun + (lives_s or float("inf")))
        self._known.move_to_end(key)
        if len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)
        return media_id

    def forget(self, media_id: str) -> None:
        """The platform does not know this upload any more."""
        gone = [key for key, known in self._known.items() if known[0] == media_id]
        for key in gone:
            del self._known[key]

    def _keep_pace(self) -> float:
        now = self._clock()
        free_at = self._closed_until
        if len(self._begun) == self._begun.maxlen:
            free_at = max(free_at, self._begun[0] + _MINUTE_S)
        if now < free_at:
            raise SendFailed("rate_limited", "too many uploads within a minute", free_at - now)
        self._begun.append(now)
        return now
