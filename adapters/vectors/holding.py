"""What a vector expects, against what was found."""

from typing import Any


def holds(found: Any, expected: Any) -> bool:
    """Whether all that is expected is there; what is not listed is free."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and holds(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(holds, found, expected))
        )
    return bool(found == expected)
