"""The OpenAPI document: what FastAPI knows of the routes, and what all routes of ours have.

Proof, permissions, headers and errors follow from a route's signature, so they are written here
once; a route adds only what nobody can derive (`kit.openapi`).
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from control_plane.access.http import bearer_token, own_origin
from control_plane.access.idempotency import MAX_KEY_LENGTH
from control_plane.access.permissions import ROLE_PERMISSIONS, Permission, Role
from control_plane.access.routes import COOKIE
from control_plane.access.support import HEADER
from control_plane.conversations.segments import COMPONENTS
from control_plane.kit.problems import MEDIA_TYPE, Problem

DESCRIPTION = """
Errors are problem documents (RFC 9457) with a stable `code`. Lists are pages: ask again with
`cursor` set to `next` until that is null. Times are RFC 3339, ids UUIDs. No text holds U+0000.
"""

_SCHEMES = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "From `/auth/login`, good for 15 minutes.",
    },
    "apiKey": {"type": "http", "scheme": "bearer", "description": "A tenant's key for programs."},
    "refreshCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "Set by `/auth/login`, http-only.",
    },
}

_ERRORS = {
    400: ("BadRequest", "Something of the request cannot be read: the body, cursor or key."),
    401: ("Unauthorized", "Nobody is signed in, or the proof is not, or no longer, good."),
    403: ("Forbidden", "Whoever calls may not do this, or not in the state the tenant is in."),
    404: ("NotFound", "There is no such thing, or it is somebody else's."),
    409: ("Conflict", "The state of things does not allow it; `code` says why."),
    410: ("Gone", "It existed once."),
    413: ("TooLarge", "The body has too many bytes."),
    416: ("RangeNotSatisfiable", "There is no such part."),
    422: ("Invalid", "The request does not fit; `errors` lists each mistake."),
    429: ("TooManyRequests", "Wait as long as `Retry-After` says."),
    503: ("Unavailable", "Not now; `Retry-After` says when, where we know."),
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
}

_PARAMETERS = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A repeat under the same key gets the first answer and does nothing.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
    },
    "SupportedTenant": {
        "name": HEADER,
        "in": "header",
        "description": "Where an operator with support access looks.",
        "schema": {"type": "string", "format": "uuid"},
    },
}


def install(app: FastAPI) -> None:
    """Let the app describe itself whole."""
    plain = app.openapi

    @cache
    def described() -> dict[str, Any]:
        document = plain()
        document["info"]["description"] = DESCRIPTION.strip()
        _add_components(document)
        for route in iter_route_contexts(app.routes):
            for method in route.methods or ():
                operation = document["paths"].get(route.path, {}).get(method.lower())
                if operation is not None:
                    _complete(operation, method, route.dependant)
        return document

    app.openapi = described  # type: ignore[method-assign]


def _add_components(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    # msgspec knows the schemas of the segments.
    schemas.update(COMPONENTS)
    schemas.update(_schemas(Problem))
    components["securitySchemes"] = _SCHEMES
    components["parameters"] = _PARAMETERS
    components["responses"] = {name: _problem(status) for status, (name, _) in _ERRORS.items()}


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _problem(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": _ERRORS[status][1],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return answer | ({"headers": _RETRY_AFTER} if status in {429, 503} else {})


def _complete(operation: dict[str, Any], method: str, dependant: Dependant) -> None:
    nodes = list(_all(dependant))
    named = [found for node in nodes if (found := getattr(node.call, "permission", None))]
    permission: Permission | None = named[0] if named else None
    keyed = method == "POST" and any(getattr(node.call, "takes_key", False) for node in nodes)
    responses = operation["responses"]
    # FastAPI's own, for whatever has parameters, also for those that are not shown.
    responses.pop("422", None)
    operation["security"] = _security(nodes, permission, proven="401" in responses)
    if permission is not None:
        operation["description"] += f"\n\nNeeds the permission `{permission.value}`."
        operation["x-permission"] = permission.value
    for header, wanted in (
        ("IdempotencyKey", keyed),
        ("SupportedTenant", permission in ROLE_PERMISSIONS[Role.VIEWER]),
    ):
        if wanted:
            operation.setdefault("parameters", []).append(
                {"$ref": f"#/components/parameters/{header}"}
            )
    said = {int(status) for status in responses if int(status) >= 400}
    if any(node.call is own_origin for node in nodes):
        said.add(403)
    for status in sorted(said | _derived(operation, method, permission, keyed=keyed)):
        name, _ = _ERRORS[status]
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}


def _security(
    nodes: list[Dependant], permission: Permission | None, *, proven: bool
) -> list[dict[str, list[str]]]:
    if permission is not None:
        return [{"accessToken": []}, {"apiKey": []}]
    if any(node.call is bearer_token for node in nodes):
        return [{"accessToken": []}]
    if any(param.alias == COOKIE for node in nodes for param in node.cookie_params):
        return [{"refreshCookie": []}] if proven else [{"refreshCookie": []}, {}]
    return []


def _derived(
    operation: dict[str, Any], method: str, permission: Permission | None, *, keyed: bool
) -> set[int]:
    """The errors that a route with this signature can give."""
    names = {parameter.get("name") for parameter in operation.get("parameters", ())}
    # Rate limits, and a database that is away.
    found = {429, 503}
    if "requestBody" in operation:
        found |= {400, 413, 422}
    if names - {None}:
        found |= {400, 422}
    if {"accessToken": []} in operation["security"]:
        # 404 also for a tenant that an operator has no support access to.
        found |= {401, 403, 404}
    if permission is not None and not permission.reads and method != "GET":
        found.add(409)
    if keyed:
        found |= {400, 422}
    return found


def _all(dependant: Dependant) -> Iterator[Dependant]:
    """A route's dependant and all that it depends on."""
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)
