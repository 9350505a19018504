"""Exports, and erasing a contact. None of them keeps a transaction open while it works."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from control_plane.access import audit
from control_plane.access.http import House, HouseDep, admit, scope_of
from control_plane.access.permissions import Actor, Permission
from control_plane.conversations.models import Contact
from control_plane.kit.errors import not_found
from control_plane.kit.openapi import streams
from control_plane.media.storage import Storage
from control_plane.privacy import erase as erasing
from control_plane.privacy import export
from control_plane.privacy.archive import Files, Rows, zipped

router = APIRouter(tags=["privacy"])

ZIP = streams("application/zip")


def storage_of(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


StorageDep = Annotated[Storage, Depends(storage_of)]


class ErasedOut(BaseModel):
    """The proof, which the audit has too."""

    contact_id: UUID
    conversations: int
    messages: int
    visitor_messages: int
    media: int
    blacklisted: int
    notes: int
    sha256: str = Field(description="Of the erased messages' ids, 16 bytes each, in order.")


@router.get("/export", response_class=StreamingResponse, responses=ZIP)
async def export_tenant(
    house: HouseDep,
    storage: StorageDep,
    actor: Annotated[Actor, admit(Permission.EXPORT_READ)],
) -> StreamingResponse:
    """Everything about the tenant but its secrets: a zip of JSON files and media."""
    await _note(house, actor, "tenant.export", ("tenant", actor.tenant))
    rows = export.as_seen_by(actor, export.of_tenant(house.database, actor.tenant))
    files = export.media_files(house.database, storage, actor.tenant, None)
    return _download(rows, files, "export.zip")


@router.get("/contacts/{contact_id}/export", response_class=StreamingResponse, responses=ZIP)
async def export_contact(
    contact_id: UUID,
    house: HouseDep,
    storage: StorageDep,
    actor: Annotated[Actor, admit(Permission.PRIVACY_READ)],
) -> StreamingResponse:
    """Everything about one contact: a zip of JSON files and media."""
    async with house.database.session(scope_of(actor)) as session:
        if await session.get(Contact, contact_id) is None:
            raise not_found("contact")
    await _note(house, actor, "contact.export", ("contact", contact_id))
    rows = export.as_seen_by(actor, export.of_contact(house.database, actor.tenant, contact_id))
    files = export.media_files(house.database, storage, actor.tenant, contact_id)
    return _download(rows, files, f"contact-{contact_id}.zip")


@router.post("/contacts/{contact_id}/erase")
async def erase_contact(
    contact_id: UUID, house: HouseDep, actor: Annotated[Actor, admit(Permission.PRIVACY_WRITE)]
) -> ErasedOut:
    """Erase what a contact said and who they were; message numbers stay. May be repeated."""
    case = erasing.Case(
        database=house.database,
        tenant_id=actor.tenant,
        contact_id=contact_id,
        actor=actor,
        now=house.clock.now(),
    )
    erased = await erasing.erase(case)
    return ErasedOut(contact_id=contact_id, **vars(erased))


async def _note(house: House, actor: Actor, action: str, target: tuple[str, UUID]) -> None:
    async with house.database.session(scope_of(actor)) as session:
        audit.record(
            session,
            actor=actor,
            tenant_id=actor.tenant,
            action=action,
            target=target,
            now=house.clock.now(),
        )


def _download(rows: Mapping[str, Rows], files: Files, name: str) -> StreamingResponse:
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "no-store",
    }
    return StreamingResponse(zipped(rows, files), media_type="application/zip", headers=headers)
