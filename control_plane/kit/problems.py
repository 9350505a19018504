"""Problem details (RFC 9457): the one form that every error has on the wire."""

import math
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from control_plane.kit.errors import BotyardError

MEDIA_TYPE = "application/problem+json"


class ProblemError(BaseModel):
    """One thing wrong with the request; `path` is a JSON pointer."""

    path: str
    code: str
    message: str


class Problem(BaseModel):
    """`code` is stable and for machines; `title` and `detail` are for people."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: list[ProblemError] | None = Field(default=None)


def problem_response(error: BotyardError) -> JSONResponse:
    """The answer for an error of ours."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    return problem(
        status=error.status,
        title=error.title,
        code=error.code,
        detail=error.detail,
        errors=error.errors,
        headers=headers,
    )


def problem(
    *,
    status: int,
    title: str,
    code: str,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem document."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)
