"""Documents: check, compare, compile for an agent. Pure but for reading what is compiled in."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.channels import service as channels
from control_plane.db.session import driver
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import Invalid
from control_plane.providers import service as model_providers
from control_plane.tenants import quota
from instance_agent.document import Document, DocumentError, canonical, document_errors

# Bytes of one document; the largest that a person would write by hand is far below.
MAX_DOCUMENT_BYTES = 256 * 1024
# What has rows of its own and stands in no revision.
_COMPILED_IN: Any = {"channels": True, "llm": {"providers"}, "network": True}
# Whole sections of which a revision has nothing.
_NO_SECTIONS = ("channels", "network")
_TENANT = "SELECT tenant_id FROM instances WHERE id = $1"


def check(given: dict[str, Any]) -> dict[str, Any]:
    """The document with its defaults filled in; raises Invalid with the path of each error."""
    if len(canonical(given)) > MAX_DOCUMENT_BYTES:
        raise Invalid("document_too_large", f"A document has at most {MAX_DOCUMENT_BYTES} bytes.")
    errors = [{"path": e.path, "code": e.code, "message": e.message} for e in _schema_errors(given)]
    errors += [_managed_elsewhere("channels")] if "channels" in given else []
    if "network" in given:
        errors.append(_error("/network", "managed_elsewhere", "The tenant's plan says this."))
    llm = given.get("llm")
    if isinstance(llm, dict) and "providers" in llm:
        errors.append(_managed_elsewhere("providers", "/llm/providers"))
    if errors:
        raise _invalid(errors)
    return current(given)


def default() -> dict[str, Any]:
    """The built-in document, revision 0."""
    return current({})


def current(document: dict[str, Any]) -> dict[str, Any]:
    """A valid document with all defaults, those of fields that came later too."""
    return Document.model_validate(document).model_dump(mode="json", exclude=_COMPILED_IN)


async def check_providers(session: AsyncSession, document: dict[str, Any]) -> None:
    """Raises Invalid where a document names a provider that the tenant does not have."""
    named = _providers(document)
    kinds = await model_providers.living(session, set(named))
    errors = []
    for index, provider in enumerate(named):
        path = f"/llm/models/{index}"
        if provider not in kinds:
            errors.append(_error(f"{path}/provider", "unknown_provider", "There is none such."))
        elif kinds[provider] == "openai" and not document["llm"]["models"][index]["model"]:
            errors.append(_error(f"{path}/model", "missing", "This provider needs to be told."))
    errors += await _speech_errors(session, document["speech"])
    if errors:
        raise _invalid(errors)


async def _speech_errors(session: AsyncSession, speech: dict[str, Any]) -> list[dict[str, str]]:
    if speech["provider"] is None:
        return []
    provider = UUID(speech["provider"])
    kind = (await model_providers.living(session, {provider})).get(provider)
    if kind is None:
        return [_error("/speech/provider", "unknown_provider", "There is none such.")]
    if kind != "openai":
        return [_error("/speech/provider", "no_speech", "This kind does not hear.")]
    if not speech["model"]:
        return [_error("/speech/model", "missing", "This provider needs to be told.")]
    return []


async def compile_for(
    session: AsyncSession, keys: Keyring, instance_id: UUID, document: dict[str, Any]
) -> dict[str, Any]:
    """What the agent gets: document, channels, providers and network of now, secrets included."""
    compiled = await model_providers.compiled(session, keys, _all_providers(document))
    tenant_id = await (await driver(session)).fetchval(_TENANT, instance_id)
    return whole(
        document,
        egress=await quota.egress(session, tenant_id),
        accounts=await channels.compiled(session, keys, instance_id),
        providers=compiled,
    )


def whole(
    document: dict[str, Any],
    *,
    egress: list[str],
    accounts: list[dict[str, Any]],
    providers: list[dict[str, Any]],
) -> dict[str, Any]:
    """A revision's document with what has rows of its own."""
    return document | {
        "network": {"egress_allow": egress},
        "channels": accounts,
        "llm": document["llm"] | {"providers": providers},
    }


def changes(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The differences between two JSON values, by JSON pointer, in the order of keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from changes(before.get(key), after.get(key), f"{path}/{_escape(key)}")
    elif before != after:
        yield {"path": path, "before": before, "after": after}


def _providers(document: dict[str, Any]) -> list[UUID]:
    return [UUID(model["provider"]) for model in document["llm"]["models"]]


def _all_providers(document: dict[str, Any]) -> set[UUID]:
    """Those of models, and the one that hears."""
    hears = document["speech"]["provider"]
    return {*_providers(document), *([] if hears is None else [UUID(hears)])}


def _managed_elsewhere(what: str, path: str = "") -> dict[str, str]:
    message = f"{what.title()} are added and changed through /{what}."
    return _error(path or f"/{what}", "managed_elsewhere", message)


def _error(path: str, code: str, message: str) -> dict[str, str]:
    return {"path": path, "code": code, "message": message}


def _invalid(errors: list[dict[str, str]]) -> Invalid:
    return Invalid("invalid_document", "The document is not valid.", errors=errors)


def _schema_errors(given: dict[str, Any]) -> list[DocumentError]:
    try:
        Document.model_validate({k: v for k, v in given.items() if k not in _NO_SECTIONS})
    except ValidationError as error:
        return document_errors(error)
    return []


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
