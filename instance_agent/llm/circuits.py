"""Providers that fail again and again are left alone for a while, so that nobody waits for them."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from instance_agent.llm.failures import ModelFailed

# Failures in a row that open a circuit.
FAILURES = 5
# How long it stays open; the first call after that is the probe.
OPEN_FOR_S = 10.0
# The longest that a provider's own Retry-After keeps us away.
MAX_PAUSE_S = 60.0
# Providers that are counted; a document names five.
MAX_CIRCUITS = 20
# Failures that say something of the provider, not of what was asked.
_ITS_OWN = frozenset({"server_error", "timeout", "bad_answer"})


@dataclass
class _Circuit:
    failures: int = 0
    closed_at: float = 0.0
    limited: bool = False


class Circuits:
    """One circuit per provider."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._circuits: dict[UUID, _Circuit] = {}

    def check(self, provider: UUID) -> None:
        """Raises ModelFailed while the provider is not to be called."""
        circuit = self._circuits.get(provider)
        left = circuit.closed_at - self._now() if circuit else 0.0
        if circuit is None or left <= 0:
            return
        raise ModelFailed(
            "rate_limited" if circuit.limited else "server_error",
            "not called: the provider failed before",
            retry_after_s=int(left) + 1,
        )

    def failed(self, provider: UUID, failure: ModelFailed) -> None:
        """A call ended so."""
        limited = failure.error_class == "rate_limited"
        if not limited and failure.error_class not in _ITS_OWN:
            return
        circuit = self._circuits.setdefault(provider, _Circuit())
        circuit.failures += 1
        circuit.limited = limited
        if limited and failure.retry_after_s:
            circuit.closed_at = self._now() + min(failure.retry_after_s, MAX_PAUSE_S)
        elif circuit.failures >= FAILURES:
            circuit.closed_at = self._now() + OPEN_FOR_S
        if len(self._circuits) > MAX_CIRCUITS:
            del self._circuits[next(iter(self._circuits))]

    def worked(self, provider: UUID) -> None:
        """A call brought an answer."""
        self._circuits.pop(provider, None)
