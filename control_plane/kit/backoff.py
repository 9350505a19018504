"""Exponential back-off with full jitter."""

import random
from datetime import timedelta

# Seconds over which those come back whom a restart has sent away.
_RETURN_SPREAD = 5.0


def full_jitter(
    attempt: int, *, base: timedelta, cap: timedelta, rng: random.Random | None = None
) -> timedelta:
    """A random wait between nothing and base·2^attempt, at most `cap`; `attempt` counts from 0."""
    ceiling = min(cap, base * 2.0 ** min(attempt, 30))
    return ceiling * (rng or _RANDOM).random()


def come_back(*, rng: random.Random | None = None) -> str:
    """The reason of closing a socket for a restart: when to come again, not all at once."""
    return f"restarting, again in {_RETURN_SPREAD * (rng or _RANDOM).random():.1f} s"


_RANDOM = random.Random()  # noqa: S311 - spreads load, keeps no secret
