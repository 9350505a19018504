"""Where errors become HTTP: every answer that is not a success is a problem document."""

import logging
import re
from functools import cache

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from control_plane.db.session import DATABASE_ERRORS
from control_plane.kit.errors import BotyardError, Invalid, Unavailable
from control_plane.kit.problems import problem, problem_response

log = structlog.get_logger()

_CODES = {404: "route_not_found", 405: "method_not_allowed"}


def install(app: FastAPI) -> None:
    """Let the app answer every error with a problem document."""
    app.add_exception_handler(BotyardError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(Exception, _unknown)


async def _known(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BotyardError)  # noqa: S101 - registered for it
    return problem_response(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    errors = [
        {
            "path": "".join(f"/{step}" for step in item["loc"]),
            "code": item["type"],
            "message": item["msg"],
        }
        for item in error.errors()
    ]
    return problem(
        status=422,
        title="Invalid",
        code="invalid_request",
        detail="The request does not fit the API; see errors.",
        errors=errors,
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["allow"] = ", ".join(_methods(request))
    return problem(
        status=error.status_code,
        title=str(error.detail),
        code=_CODES.get(error.status_code, f"http_{error.status_code}"),
        detail=str(error.detail),
        headers=headers,
    )


def _methods(request: Request) -> list[str]:
    """All that the address takes: each of its methods is a route of its own."""
    found = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and _pattern(route.path or "").match(request.url.path)
        for method in route.methods
    }
    return sorted(found)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


async def _database(_request: Request, error: Exception) -> Response:
    if _of_a_value(error):
        # The database is well; it was asked to keep or compare what it cannot.
        return problem_response(Invalid("unusable_value", "A value cannot be kept or looked for."))
    log.warning("database error", error=type(error).__name__, detail=str(error)[:256])
    return problem_response(
        Unavailable("database_unavailable", "The database cannot be reached.", retry_after_s=1)
    )


def _of_a_value(error: BaseException | None) -> bool:
    """Whether PostgreSQL or its driver took offence at a value (SQLSTATE class 22)."""
    while error is not None:
        if isinstance(error, asyncpg.DataError):
            return True
        error = error.__cause__
    return False


async def _unknown(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).exception("unhandled error on %s", request.url.path)
    return problem(
        status=500,
        title="Internal error",
        code="internal",
        detail="Something went wrong on our side.",
    )
