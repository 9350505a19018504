"""What a route says of its answers where its signature cannot: for `responses=` of a decorator."""

from typing import Any

Responses = dict[int | str, dict[str, Any]]


def fails(*statuses: int) -> Responses:
    """Errors beyond those that `control_plane.openapi` derives from the route's signature."""
    return {status: {} for status in statuses}


def streams(media_type: str) -> Responses:
    """A success that is a stream of bytes of this type."""
    body = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": {media_type: body}}}
