"""What follows from an attempt: sent, tried again later, or given up; pure.

The first attempt is made at once. Each wait is lengthened by up to a fifth, so that what failed
together is not tried again together.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
# The first and one after each wait: a bit more than three days.
MAX_ATTEMPTS = len(WAITS) + 1
_JITTER = 0.2
# Longest time that a receiver may ask us to stay away; more would look like being gone.
MAX_REST = timedelta(hours=1)
# A receiver that took nothing for this long is switched off.
FAILING_FOR = timedelta(days=5)
GONE = 410


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one attempt went; `error` is None exactly when the receiver took it."""

    status: int | None
    error: str | None
    retry_after: timedelta = timedelta(0)


def wait(attempts: int, outcome: Outcome, rng: random.Random) -> timedelta | None:
    """How long to wait after `attempts` failures, the last being `outcome`; None to give up."""
    if attempts >= MAX_ATTEMPTS or outcome.status == GONE:
        return None
    return max(WAITS[attempts - 1] * (1 + _JITTER * rng.random()), outcome.retry_after)


def retry_after(header: str | None, now: datetime) -> timedelta:
    """What a receiver asks for, in seconds or as a date; nothing when it makes no sense."""
    if header is None:
        return timedelta(0)
    text = header.strip()
    if text.isascii() and text.isdigit():
        # Nine digits are more than anybody waits, and timedelta ends there.
        return min(timedelta(seconds=int(text[:9])), MAX_REST)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta(0)), MAX_REST)
