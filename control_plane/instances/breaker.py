"""A circuit breaker towards agents: who cannot be reached is not tried by everybody.

It counts failures to connect only: nothing was done then, so failing at once says the same, only
sooner. After a pause one call goes through as a probe; its outcome decides for the others.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter, Gauge

# Failures in a row that open a circuit: more than one start of an agent costs.
FAILURES = 5
# Between probes: an agent that comes back is seen as soon as by its next heartbeat.
OPEN_FOR = timedelta(seconds=5)
# Agents that fail at one time and are counted; past that the longest known is forgotten.
MAX_CIRCUITS = 10_000

OPEN = Gauge("botyard_agent_circuits_open", "Agents that are not called for the moment.")
CUT = Counter("botyard_agent_calls_cut_total", "Calls that failed at once on an open circuit.")


@dataclass
class _Circuit:
    failures: int = 0
    probe_at: float | None = None


class Breaker:
    """One circuit per agent session: a new agent at an old address starts afresh."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._circuits: OrderedDict[UUID, _Circuit] = OrderedDict()

    def allows(self, agent: UUID) -> bool:
        """Whether to call; True on an open circuit makes the caller its probe."""
        circuit = self._circuits.get(agent)
        if circuit is None or circuit.probe_at is None:
            return True
        if self._now() < circuit.probe_at:
            CUT.inc()
            return False
        # Should the probe never tell its outcome, another follows after the same pause.
        circuit.probe_at = self._now() + OPEN_FOR.total_seconds()
        return True

    def unreachable(self, agent: UUID) -> None:
        """A call did not reach the agent."""
        circuit = self._circuits.setdefault(agent, _Circuit())
        self._circuits.move_to_end(agent)
        circuit.failures += 1
        if circuit.failures >= FAILURES:
            circuit.probe_at = self._now() + OPEN_FOR.total_seconds()
        if len(self._circuits) > MAX_CIRCUITS:
            self._circuits.popitem(last=False)
        self._count()

    def reachable(self, agent: UUID) -> None:
        """A call reached the agent, whatever came of it."""
        if self._circuits.pop(agent, None) is not None:
            self._count()

    def _count(self) -> None:
        OPEN.set(sum(circuit.probe_at is not None for circuit in self._circuits.values()))
