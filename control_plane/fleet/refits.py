"""Agents that end and start again because their place changed: a few at a time, never the fleet.

Another image, other limits: each look would refit its agent at once, and all bots would be away
together. So one goes on only when another has come back; those that do not come back hold the
rest up.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

# Agents that one controller has away at a time for this: a thousand take some minutes.
REFITS_AT_ONCE = 10
# Who has not come back after this makes room for another: a bad change spreads slowly.
REFIT_WITHIN = timedelta(minutes=3)
# Between looks of who waits for room.
WAITS_FOR_REFITS = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """`acting` is the session of the agent that ends."""

    acting: UUID | None
    until: datetime


class Refits:
    """Counts those under way."""

    def __init__(self) -> None:
        self._begun: dict[UUID, _Begun] = {}

    def begin(self, instance_id: UUID, acting: UUID | None, now: datetime) -> bool:
        """Whether it may go now; true again for one that has begun."""
        self._begun = {key: begun for key, begun in self._begun.items() if begun.until > now}
        if instance_id in self._begun:
            return True
        if len(self._begun) >= REFITS_AT_ONCE:
            return False
        self._begun[instance_id] = _Begun(acting=acting, until=now + REFIT_WITHIN)
        return True

    def seen(self, instance_id: UUID, acting: UUID | None) -> None:
        """It makes room once another agent acts for it."""
        begun = self._begun.get(instance_id)
        if begun is not None and acting is not None and acting != begun.acting:
            del self._begun[instance_id]
