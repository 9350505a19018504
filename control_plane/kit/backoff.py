"""Exponential back-off with full jitter."""

import random
from datetime import timedelta


def full_jitter(
    attempt: int, *, base: timedelta, cap: timedelta, rng: random.Random | None = None
) -> timedelta:
    """A random wait between nothing and base·2^attempt, at most `cap`; `attempt` counts from 0."""
    ceiling = min(cap, base * 2.0 ** min(attempt, 30))
    return ceiling * (rng or _RANDOM).random()


_RANDOM = random.Random()  # noqa: S311 - spreads load, keeps no secret
