"""How large a frame a socket's route takes: servers begin with what suits most of them."""

from collections.abc import Callable, Mapping
from typing import Any

# Where a socket's scope holds what sets its limit.
EXTENSION = "botyard.max_frame"


def take_up_to(size: int, scope: Mapping[str, Any]) -> None:
    """Frames of this socket may have so many bytes; before it is accepted."""
    allow: Callable[[int], None] | None = scope.get("extensions", {}).get(EXTENSION)
    if allow is not None:
        allow(size)
