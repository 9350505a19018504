"""How long to wait before the next try: exponential with full jitter, or what the server asked."""

from random import Random

# A server may ask for more patience than our own cap, but not for a day.
MAX_RETRY_AFTER_S = 300.0


class Backoff:
    """Delays of one failing thing; `reset` after a success."""

    def __init__(self, *, base_s: float, cap_s: float, random: Random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random
        self._failures = 0

    def next(self, retry_after_s: float | None = None) -> float:
        """Seconds to wait after one more failure."""
        # The exponent stops growing long after the cap is reached, before the float overflows.
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 40))
        self._failures += 1
        delay = self._random.uniform(0, ceiling)
        return max(delay, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))

    def reset(self) -> None:
        self._failures = 0


def retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After header; the date form is not spoken between our processes."""
    if value is not None and value.isascii() and value.isdigit():
        return float(value[:9])
    return None
