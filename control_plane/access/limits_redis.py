"""Rate limits that several processes share, in Redis.

The failure policy, here and nowhere else: while Redis does not answer, each process counts by
itself (so a limit is at worst multiplied by their number), a metric counts those requests, and
one log line a minute says so. A limiter that is away never refuses anybody by itself.
"""

import time
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from control_plane.access.limits import Charge, LocalLimiter, Verdict, judge

# Seconds that a request waits for Redis; a healthy one answers in less than a millisecond.
ANSWER_WITHIN_S = 0.25
# Seconds for which a Redis that failed is not asked again, so that not every request waits.
AWAY_S = 1.0
# Seconds between log lines while it is away.
SAY_EVERY_S = 60.0
# Connections of one process; a script runs for microseconds.
_MAX_CONNECTIONS = 32
_PREFIX = "botyard:rate:"

# The clock is the server's, or processes whose clocks differ would fill each other's buckets.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels, enough = {}, true
for i, key in ipairs(KEYS) do
  local amount, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local kept = redis.call('HMGET', key, 'level', 'at')
  local level = amount
  if kept[1] then
    local elapsed = math.max(0, now - tonumber(kept[2]))
    level = math.min(amount, tonumber(kept[1]) + elapsed * amount / window)
  end
  levels[i] = level
  enough = enough and level >= 1
end
for i, key in ipairs(KEYS) do
  if enough then
    redis.call('HSET', key, 'level', string.format('%.6f', levels[i] - 1),
               'at', string.format('%.6f', now))
    redis.call('EXPIRE', key, math.ceil(ARGV[2 * i]))
  end
  levels[i] = string.format('%.6f', levels[i])
end
return levels
"""

FALLBACKS = Counter(
    "botyard_limiter_fallbacks_total", "Requests counted in this process, for Redis was away."
)

log = structlog.get_logger()


class RedisLimiter:
    """Counts in Redis, and in this process while that is away."""

    def __init__(self, url: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._local = LocalLimiter(now)
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            max_connections=_MAX_CONNECTIONS,
            # Once: a pooled connection may have died with an earlier server.
            retry=Retry(NoBackoff(), 1),
        )
        self._script = self._redis.register_script(_TAKE)
        self._asked_again_at = float("-inf")
        self._said_again_at = float("-inf")

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        if self._now() >= self._asked_again_at:
            try:
                return judge(charges, await self._levels(charges))
            except (RedisError, OSError, TimeoutError) as error:
                self._away(error)
        FALLBACKS.inc()
        return await self._local.take(charges)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _levels(self, charges: Sequence[Charge]) -> list[float]:
        answer = await self._script(
            keys=[_PREFIX + charge.key for charge in charges],
            args=[n for charge in charges for n in (charge.rate.amount, charge.rate.window_s)],
        )
        return [float(level) for level in answer]

    def _away(self, error: Exception) -> None:
        now = self._now()
        self._asked_again_at = now + AWAY_S
        if now >= self._said_again_at:
            self._said_again_at = now + SAY_EVERY_S
            log.warning("rate limits are counted per process", error=type(error).__name__)
