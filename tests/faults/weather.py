"""What will go wrong, drawn from a seed before anything happens, so that a seed says all of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

PARTS = {"api": "api", "worker-1": "worker", "worker-2": "worker", "controller": "controller"}
"""The processes, and the command of each."""

LINKS = ("agents", "control", "database", "platform", "public", "redis")
"""`agents` is theirs to the control plane, `control` the way back."""

PLATFORM = (
    *("answer_500", "rate_limit", "busy", "drop_reply", "redeliver", "drop_callbacks"),
    *("expire_tokens", "slow_s"),
)

KINDS: dict[str, Sequence[str]] = {
    "kill": (*PARTS, "agent", "redis", "database"),
    "kill the agent and its disk": ("agent",),
    "kill a worker": ("worker-1", "worker-2"),
    "pause": (*PARTS, "agent", "redis", "database"),
    "pause the database": ("database",),
    "pause redis": ("redis",),
    "kill redis": ("redis",),
    "kill the database": ("database",),
    "fill the disk": ("agent",),
    "cut": LINKS,
    "cut the way to agents": ("control",),
    "slow": LINKS,
    "lose": LINKS,
    "annoy": PLATFORM,
    "annoy again": PLATFORM,
    "set the clock": (*PARTS, "agent"),
}
"""What there is, and whom it may befall."""

CALM_S = (0.1, 1.0)
"""Between two faults."""

OUTAGE_S = (0.3, 4.0)
"""How long one lasts; longer than an agent's or a platform's patience now and then."""

AHEAD_S = (-600.0, -45.0, 45.0, 600.0)
"""By how much a clock is wrong: less and more than signatures and sessions bear."""


AGENTS_REST_S = 120.0
AGENTS_DEATHS = 2
"""So many in so long: one that ends more often is started again after minutes, by design."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong; `amount` is a share, `count` so many times."""

    kind: str
    target: str
    lasts_s: float
    amount: float
    count: int
    ahead_s: float

    def __str__(self) -> str:
        return f"{self.kind}: {self.target}"


@dataclass(frozen=True, kw_only=True)
class Gust:
    """After a calm, one fault or two at the same time."""

    calm_s: float
    faults: tuple[Fault, ...]


def forecast(seed: str, seconds: float) -> list[Gust]:
    """About so many seconds of it; every kind comes up before any comes again."""
    random = Random(f"{seed} storm")
    gusts: list[Gust] = []
    deck: list[str] = []
    deaths: list[float] = []
    passed = 0.0
    while passed < seconds:
        count = random.choice([1, 1, 2])
        if len(deck) < count:
            deck += random.sample(list(KINDS), len(KINDS))
        faults = tuple(_bearable(_fault(random, deck.pop()), deaths, passed) for _ in range(count))
        gusts.append(Gust(calm_s=random.uniform(*CALM_S), faults=faults))
        passed += gusts[-1].calm_s + max(fault.lasts_s for fault in faults)
    return gusts


def _bearable(fault: Fault, deaths: list[float], now: float) -> Fault:
    """The same, but an agent that has died often is paused."""
    if fault.target != "agent" or not fault.kind.startswith("kill"):
        return fault
    if sum(now - at < AGENTS_REST_S for at in deaths) >= AGENTS_DEATHS:
        return replace(fault, kind="pause")
    deaths.append(now)
    return fault


def _fault(random: Random, kind: str) -> Fault:
    return Fault(
        kind=kind,
        target=random.choice(KINDS[kind]),
        lasts_s=random.uniform(*OUTAGE_S),
        amount=random.random(),
        count=random.randint(1, 3),
        ahead_s=random.choice(AHEAD_S),
    )
