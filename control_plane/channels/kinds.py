"""Which kinds of channel are installed and what each asks for, so that a form can be made of it."""

from functools import cache

import structlog

from adapters import registry
from adapters.kind import Kind
from control_plane.channels import settings
from control_plane.channels.schemas import ChannelKindOut

log = structlog.get_logger()
# What stands between the English and the Chinese title of a kind.
_BETWEEN = " · "


@cache
def installed() -> tuple[ChannelKindOut, ...]:
    """All of them, by name. One that cannot be loaded is left out and logged; the rest work."""
    return tuple(told for name in registry.kinds() if (told := _usable(name)) is not None)


def _usable(name: str) -> ChannelKindOut | None:
    try:
        return told(registry.kind(name))
    except Exception:
        # Others' code, which may fail in any way.
        log.exception("channel kind unusable", kind=name)
        return None


def told(kind: Kind) -> ChannelKindOut:
    """A kind as people see it."""
    title, _, title_zh = kind.title.partition(_BETWEEN)
    return ChannelKindOut(
        name=kind.name,
        title=title,
        title_zh=title_zh or title,
        callback=kind.callback,
        transports=list(kind.transports),
        conversations=list(kind.conversations),
        receives=list(kind.receives),
        sends=list(kind.sends),
        settings=kind.settings().model_json_schema(),
        secrets=sorted(settings.secret_names(kind)),
        generated=sorted(settings.generated_names(kind)),
    )
