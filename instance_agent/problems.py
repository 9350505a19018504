"""What the agent refuses to do, in the words of its API (RFC 9457)."""


class Refusal(Exception):
    """Becomes a problem document; `detail` is safe to show."""

    def __init__(
        self, status: int, code: str, detail: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def draining() -> Refusal:
    return Refusal(503, "draining", "the agent is shutting down")


def starting() -> Refusal:
    return Refusal(503, "starting", "the agent has no identity yet", retry_after_s=1)
