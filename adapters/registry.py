"""Which kinds of channel exist; nothing of a kind but its description loads before it is used.

Ours are folders here, each with a `kind.py`; others come from installed distributions, as entry
points of the group `botyard.channels` whose object is a `Kind`.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from adapters.kind import Kind

GROUP = "botyard.channels"
OURS = (
    "dingtalk",
    "feishu",
    "http",
    "onebot",
    "qq",
    "webchat",
    "wecom",
    "wecom_aibot",
    "wecom_kf",
)

# Those that were asked for.
_KINDS: dict[str, Kind] = {}


class UnknownKind(LookupError):
    """No adapter of that name is installed."""


def kind(name: str) -> Kind:
    """Raises UnknownKind."""
    if name not in _KINDS:
        _KINDS[name] = _found(name)
    return _KINDS[name]


def kinds() -> list[str]:
    """The names of all installed kinds."""
    return sorted({*OURS, *entry_points(group=GROUP).names})


def _found(name: str) -> Kind:
    if name in OURS:
        return cast(Kind, import_module(f"adapters.{name}.kind").KIND)
    for found in entry_points(group=GROUP, name=name):
        return cast(Kind, found.load())
    raise UnknownKind(name)
