"""A channel's settings: checked by the kind's own model, secrets kept apart from the rest."""

import json
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from adapters import registry
from adapters.kind import Kind
from adapters.registry import UnknownKind
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Invalid
from control_plane.kit.ids import new_token
from instance_agent.document import document_errors


def kind_of(name: str) -> Kind:
    """The kind, or an error that lists those that exist."""
    try:
        return registry.kind(name)
    except UnknownKind:
        known = ", ".join(registry.kinds())
        raise Invalid(
            "unknown_kind", f"There is no channel kind {name!r}; known: {known}."
        ) from None


def complete(kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the secrets that we make up ourselves."""
    made = {
        name: new_token()
        for name, field in kind.settings().model_fields.items()
        if name not in given and _extra(field.json_schema_extra).get("generated")
    }
    return given | made


def check(kind: Kind, given: dict[str, Any]) -> BaseModel:
    """The settings as the kind's model; raises Invalid with the path of each error."""
    try:
        return kind.settings().model_validate(given)
    except ValidationError as error:
        wrong = document_errors(error, prefix="/settings")
        raise Invalid(
            "invalid_settings",
            "The channel's settings are not valid.",
            errors=[{"path": e.path, "code": e.code, "message": e.message} for e in wrong],
        ) from None


def split(kind: Kind, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what may be shown, what may not)."""
    hidden = secret_names(kind)
    return (
        {name: value for name, value in given.items() if name not in hidden},
        {name: value for name, value in given.items() if name in hidden},
    )


def generated_names(kind: Kind) -> set[str]:
    """The secrets that we make up, and that also tell us which channel presents them."""
    fields = kind.settings().model_fields
    return {n for n, field in fields.items() if _extra(field.json_schema_extra).get("generated")}


def with_previous(kind: Kind, old: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given`, and what it replaces where the platform goes on using that for a while."""
    kept = {
        name: old[of]
        for name, field in kind.settings().model_fields.items()
        if (of := _extra(field.json_schema_extra).get("previous_of")) in given
        and name not in given
        and old.get(of) not in (None, given[of])
    }
    return given | kept


def secret_names(kind: Kind) -> set[str]:
    """The settings that are write-only."""
    fields = kind.settings().model_fields
    return {name for name, field in fields.items() if SecretStr in _types(field.annotation)}


def seal(keys: Keyring, secrets: dict[str, Any]) -> bytes:
    return keys.seal(json.dumps(secrets).encode())


def unseal(keys: Keyring, sealed: bytes) -> dict[str, Any]:
    opened: dict[str, Any] = json.loads(keys.open(sealed))
    return opened


def _extra(extra: object) -> dict[str, Any]:
    return extra if isinstance(extra, dict) else {}


def _types(annotation: object) -> tuple[object, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))
