"""Errors that callers may see. One tree; `control_plane.errors` turns it into problem details.

BotyardError
├─ BadRequest 400 · Unauthorized 401 · Forbidden 403 · NotFound 404 · Conflict 409
├─ Gone 410 · TooLarge 413 · Invalid 422 · TooMany 429 · Unavailable 503
"""

from typing import Any, ClassVar


class BotyardError(Exception):
    """`code` is stable and for machines, `detail` is for people and holds no secret."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    # Whether what the request wrote before failing is committed all the same.
    keeps_changes: ClassVar[bool] = False

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s


class BadRequest(BotyardError):
    status = 400
    title = "Bad request"


class Unauthorized(BotyardError):
    status = 401
    title = "Not signed in"


class Forbidden(BotyardError):
    status = 403
    title = "Not allowed"


class NotFound(BotyardError):
    status = 404
    title = "Not found"


class Conflict(BotyardError):
    status = 409
    title = "Conflict"


class Gone(BotyardError):
    status = 410
    title = "Gone"


class TooLarge(BotyardError):
    status = 413
    title = "Too large"


class Invalid(BotyardError):
    status = 422
    title = "Invalid"


class TooMany(BotyardError):
    status = 429
    title = "Too many requests"


class Unavailable(BotyardError):
    status = 503
    title = "Unavailable"


def not_found(what: str) -> NotFound:
    """The same answer for what is missing and for what belongs to somebody else."""
    return NotFound(f"{what}_not_found", f"There is no such {what}.")
