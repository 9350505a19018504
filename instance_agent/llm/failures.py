"""Why a model did not answer, in words that are the same for every provider.

What a provider says of an error is read for its class and never passed on: some quote the key.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from instance_agent.problems import Refusal
from instance_agent.protocol import FailureClass

# Longest pause that a provider may ask of us, in seconds.
MAX_RETRY_AFTER_S = 3600

_BY_STATUS: dict[int, FailureClass] = {
    401: "unauthorized",
    403: "unauthorized",
    404: "model_unknown",
    408: "timeout",
    413: "context_too_long",
    429: "rate_limited",
    504: "timeout",
}
# Said in the code or text of errors whose status alone does not tell.
_BY_WORD: tuple[tuple[str, FailureClass], ...] = (
    ("context_length", "context_too_long"),
    ("context length", "context_too_long"),
    ("maximum context", "context_too_long"),
    ("too many tokens", "context_too_long"),
    ("content_filter", "refused"),
    ("content management", "refused"),
    ("data_inspection_failed", "refused"),
    ("model_not_found", "model_unknown"),
    ("model_currently_not_support", "model_unknown"),
    ("app_unavailable", "model_unknown"),
    ("provider_not_initialize", "model_unknown"),
    ("provider_quota_exceeded", "rate_limited"),
    ("rate_limit", "rate_limited"),
)


class ModelFailed(Refusal):
    """No answer of a model; becomes a problem 502 with the class as code."""

    def __init__(
        self, error_class: FailureClass, detail: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(502, error_class, detail, retry_after_s)
        self.error_class = error_class


def of_answer(status: int, headers: Mapping[str, str], body: bytes) -> ModelFailed:
    """What an answer that is no answer means."""
    return ModelFailed(
        classify(status, words_of(body)),
        f"the provider answered {status}",
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def classify(status: int, words: str) -> FailureClass:
    """The class of an error with this status, and these words of its body."""
    if status in {400, 404, 422} or status >= 500:
        for word, error_class in _BY_WORD:
            if word in words:
                return error_class
    if status >= 500 and status != 504:
        return "server_error"
    return _BY_STATUS.get(status, "refused" if 400 <= status < 500 else "bad_answer")


def words_of(body: bytes) -> str:
    """Code and message of an error, in small letters: OpenAI nests them, Dify does not."""
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    inner = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(inner, dict):
        return str(inner).lower()
    return " ".join(str(inner.get(name, "")) for name in ("code", "type", "message")).lower()


def _seconds(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(int(text[:6]), MAX_RETRY_AFTER_S)
