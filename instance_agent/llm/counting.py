"""What calls of models come to: how many, how long, how many tokens, by kind of provider."""

import time
from types import TracebackType

from instance_agent.llm.failures import ModelFailed
from instance_agent.llm.pieces import Piece
from instance_agent.metrics import Metrics


class Counting:
    """`with` one call; whoever leaves before its end is counted as `left`."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self._metrics = metrics
        self._kind = kind
        self._spoke = False

    def __enter__(self) -> "Counting":
        self._begun = time.monotonic()
        return self

    def saw(self, piece: Piece) -> None:
        """The next piece of the answer."""
        if piece.text and not self._spoke:
            self._spoke = True
            self._took("first word")
        if piece.usage is not None:
            tokens = self._metrics.model_tokens
            tokens.labels(self._kind, "asked").inc(piece.usage.prompt_tokens)
            tokens.labels(self._kind, "answered").inc(piece.usage.completion_tokens)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            outcome = "ok"
            self._took("last word")
        else:
            outcome = error.error_class if isinstance(error, ModelFailed) else "left"
        self._metrics.model_calls.labels(self._kind, outcome).inc()

    def _took(self, until: str) -> None:
        elapsed = time.monotonic() - self._begun
        self._metrics.model_seconds.labels(self._kind, until).observe(elapsed)
