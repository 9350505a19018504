"""Documents: check, compare, and compile for an agent. Pure but for reading the channels."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.channels import service as channels
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Invalid
from instance_agent import protocol
from instance_agent.protocol import Document, document_errors

# Bytes of one document; the largest that a person would write by hand is far below.
MAX_DOCUMENT_BYTES = 256 * 1024


def check(given: dict[str, Any]) -> dict[str, Any]:
    """The document with its defaults filled in; raises Invalid with the path of each error."""
    if len(protocol.canonical(given)) > MAX_DOCUMENT_BYTES:
        raise Invalid("document_too_large", f"A document has at most {MAX_DOCUMENT_BYTES} bytes.")
    errors = [{"path": e.path, "code": e.code, "message": e.message} for e in _schema_errors(given)]
    if "channels" in given:
        errors.append(
            {
                "path": "/channels",
                "code": "managed_elsewhere",
                "message": "Channels are added and changed through /channels.",
            }
        )
    if errors:
        raise Invalid("invalid_document", "The document is not valid.", errors=errors)
    return default() | Document.model_validate(given).model_dump(mode="json", exclude={"channels"})


def default() -> dict[str, Any]:
    """The built-in document, revision 0."""
    return Document().model_dump(mode="json", exclude={"channels"})


async def compile_for(
    session: AsyncSession, keys: Keyring, instance_id: UUID, document: dict[str, Any]
) -> dict[str, Any]:
    """What the agent gets: the document and the channels of this moment, secrets included."""
    return document | {"channels": await channels.compiled(session, keys, instance_id)}


def changes(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The differences between two JSON values, by JSON pointer, in the order of keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from changes(before.get(key), after.get(key), f"{path}/{_escape(key)}")
    elif before != after:
        yield {"path": path, "before": before, "after": after}


def _schema_errors(given: dict[str, Any]) -> list[protocol.DocumentError]:
    try:
        Document.model_validate({k: v for k, v in given.items() if k != "channels"})
    except ValidationError as error:
        return document_errors(error)
    return []


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
