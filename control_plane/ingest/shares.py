"""How many events of one tenant a process takes: a token bucket for each, so that a flood of one
tenant's agent is refused before it costs the others their place in a group.

Counted in each process: several of them together take several times as much.
"""

from collections import OrderedDict
from collections.abc import Callable
from random import Random
from uuid import UUID

from control_plane.access.limits import MAX_BUCKETS, Rate, refilled
from control_plane.kit.errors import TooMany

# Agents that were refused together come back apart: up to this much later, in shares of the wait
# and at least of a second.
_SPREAD = 1.0


class Shares:
    """Events by tenant."""

    def __init__(self, rate: Rate, *, now: Callable[[], float], random: Random) -> None:
        """`now`: seconds of a clock that nobody sets."""
        self._rate = rate
        self._now = now
        self._random = random
        self._buckets: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def take(self, tenant_id: UUID, events: int) -> None:
        """Take so many; raises TooMany with when to come again.

        A batch is taken whole while anything is left, and what it takes beyond that is paid back
        by those who come after it.
        """
        now = self._now()
        level, at = self._buckets.get(tenant_id, (float(self._rate.amount), now))
        level = refilled(level, self._rate, now - at)
        if level < 1:
            wait_s = (1 - level) * self._rate.window_s / self._rate.amount
            raise TooMany(
                "too_many_events_of_tenant",
                "This tenant's agents send more events than are taken of one tenant.",
                retry_after_s=wait_s + self._random.uniform(0, _SPREAD) * max(wait_s, 1),
            )
        self._buckets[tenant_id] = (level - events, now)
        self._buckets.move_to_end(tenant_id)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
