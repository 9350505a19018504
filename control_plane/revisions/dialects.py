"""A compiled document as agents of before take it: what they do not know is left out.

An agent refuses what it does not know, rather than leave out a wish in silence; so the control
plane, which is newer or as old, leaves it out, knowingly. `tests/compat` has what each schema
version was and what was said in it.
"""

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def spoken(document: Json, schema_version: int) -> Json:
    """`document`, of the newest schema, for an agent that speaks this one or a newer one."""
    for version, forget in _FORGET:
        if schema_version < version:
            document = forget(document)
    return document


def _speech(document: Json) -> Json:
    named = {model["provider"] for model in document["llm"]["models"]}
    models = [each for each in document["llm"]["providers"] if each["id"] in named]
    return document | {
        "llm": document["llm"] | {"providers": models},
        "speech": {"enabled": False},
    }


def _network(document: Json) -> Json:
    return {name: section for name, section in document.items() if name != "network"}


def _models(document: Json) -> Json:
    return document | {
        "llm": {"provider": "none"},
        "persona": _without(document["persona"], "instructions"),
        "rules": _without(document["rules"], "quiet_s"),
    }


def _without(section: Json, field: str) -> Json:
    return {name: value for name, value in section.items() if name != field}


# What came with each schema version, newest first.
_FORGET: tuple[tuple[int, Callable[[Json], Json]], ...] = (
    (4, _speech),
    (3, _network),
    (2, _models),
)
