"""Rate limits: token buckets, counted in this process or, by several, in Redis.

A bucket holds `amount` requests and fills up again evenly within its window, so that a short burst
passes and a steady flood does not. A request may be charged to several buckets (its user's and
its tenant's): it takes one from each of them, or from none.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from msgspec import Struct
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Buckets that one process keeps, about 25 MB of them; the one charged longest ago goes first.
MAX_BUCKETS = 100_000

_FORM = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour)")
_WINDOWS_S = {"second": 1, "minute": 60, "hour": 3600}


class Rate(Struct, frozen=True):
    """So many requests in so many seconds."""

    amount: int
    window_s: int

    @classmethod
    def parse(cls, text: object) -> "Rate":
        """From `60/minute`; raises ValueError."""
        if isinstance(text, Rate):
            return text
        form = _FORM.fullmatch(str(text))
        if form is None:
            raise ValueError("a rate is written like 60/minute (second, minute or hour)")
        return cls(int(form[1]), _WINDOWS_S[form[2]])


RateSetting = Annotated[Rate, BeforeValidator(Rate.parse)]


def _rate(text: str, reason: str) -> Rate:
    rate: Rate = Field(default=Rate.parse(text), description=reason)
    return rate


class Rates(BaseModel):
    """How much of what; each is a setting such as BOTYARD_RATES__USER=3000/minute."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    sign_in: RateSetting = _rate(
        "120/minute",
        "Per address: signing in, registering, resetting. Each costs a quarter of a second of one "
        "core; an office behind one address signs in at nine o'clock.",
    )
    anonymous: RateSetting = _rate(
        "1200/minute", "Per address: calls of the API without proof of who calls, right or wrong."
    )
    callbacks: RateSetting = _rate(
        "1000/second",
        "Per address: platforms' callbacks. A platform calls for all its tenants from a few "
        "addresses and punishes refusals, so this only stops a flood.",
    )
    bootstraps: RateSetting = _rate(
        "3000/minute",
        "Per address: agents that open a session. A machine starts all its agents at once; each "
        "may cost a question to its cluster.",
    )
    bootstrap: RateSetting = _rate(
        "30/minute",
        "Per instance and address: an agent opens one session for each start, and a start that "
        "fails comes again ever later. A stranger elsewhere takes nothing of it away.",
    )
    events: RateSetting = _rate(
        "2000/second",
        "Per tenant and process: events of its agents. One process stores some thousands a second; "
        "no tenant has more than a share of that, and a batch over it waits and comes again.",
    )
    media: RateSetting = _rate(
        "6000/minute",
        "Per address: links to pictures and files, and agents that ask for them. A page shows "
        "dozens at once, and the agents of one machine share an address.",
    )
    sockets: RateSetting = _rate(
        "600/minute", "Per address: sockets opened; after a restart every page comes back at once."
    )
    relays: RateSetting = _rate(
        "60/minute",
        "Per channel and address: sockets that a platform's client opens to us; one that is sent "
        "away comes back every five seconds, and its token cannot be guessed faster.",
    )
    user: RateSetting = _rate(
        "3000/minute", "Per person: several dashboards open, and no script that never rests."
    )
    key: RateSetting = _rate("3000/minute", "Per API key: what one integration needs, and room.")
    tenant: RateSetting = _rate(
        "12000/minute", "Per tenant, over all its people and keys: a share of the database."
    )
    visitor: RateSetting = _rate(
        "120/minute", "Messages per web-chat visitor: faster than anybody types."
    )


@dataclass(frozen=True)
class Charge:
    """One request to one bucket; `name` is the limit's, `whose` the one who is limited."""

    name: str
    whose: str
    rate: Rate

    @property
    def key(self) -> str:
        return f"{self.name}:{self.whose}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a request may go on, and how its tightest bucket stands afterwards."""

    allowed: bool
    tightest: Charge
    left: int
    full_in_s: float
    wait_s: float = 0.0


class Limiter(Protocol):
    """Counts requests."""

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        """Take one from every bucket, or none if one of them is empty."""
        ...

    async def close(self) -> None: ...


class LocalLimiter:
    """Counts in this process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        now = self._now()
        levels = [self._level(charge, now) for charge in charges]
        verdict = judge(charges, levels)
        if verdict.allowed:
            for charge, level in zip(charges, levels, strict=True):
                self._keep(charge.key, level - 1, now)
        return verdict

    async def close(self) -> None:
        self._buckets.clear()

    def _level(self, charge: Charge, now: float) -> float:
        level, at = self._buckets.get(charge.key, (float(charge.rate.amount), now))
        return refilled(level, charge.rate, now - at)

    def _keep(self, key: str, level: float, now: float) -> None:
        self._buckets[key] = (level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


def refilled(level: float, rate: Rate, elapsed_s: float) -> float:
    """How full a bucket is after a while."""
    return min(float(rate.amount), level + max(0.0, elapsed_s) * rate.amount / rate.window_s)


def judge(charges: Sequence[Charge], levels: Sequence[float]) -> Verdict:
    """The verdict over buckets as full as `levels`, before anything is taken."""
    allowed = all(level >= 1 for level in levels)
    taken = 1 if allowed else 0
    wait_s, negative_left, charge, level = max(
        (
            ((_seconds(1 - level, charge.rate), taken - level, charge, level))
            for charge, level in zip(charges, levels, strict=True)
        ),
        key=lambda one: one[:2],
    )
    return Verdict(
        allowed=allowed,
        tightest=charge,
        left=max(0, int(-negative_left)),
        full_in_s=_seconds(charge.rate.amount - level + taken, charge.rate),
        wait_s=wait_s,
    )


def _seconds(missing: float, rate: Rate) -> float:
    return max(0.0, missing) * rate.window_s / rate.amount
