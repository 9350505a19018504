"""/audit: who did what. An operator reads the platform's own chain."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from control_plane.access import trail
from control_plane.access.http import Call, HouseDep, TransactionRoute, admit, permit
from control_plane.access.models import AuditEntry
from control_plane.access.permissions import Actor, Permission
from control_plane.access.trail import Filter
from control_plane.db.session import Database, Scope, enter
from control_plane.kit.openapi import streams
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/audit", tags=["audit"], route_class=TransactionRoute)
# An export keeps no transaction open while it is read.
plain = APIRouter(prefix="/audit", tags=["audit"])


class AuditOut(BaseModel):
    """One entry; `hash` is hexadecimal and covers the entry and all before it."""

    seq: int
    id: UUID
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    action: str
    target_kind: str
    target_id: UUID | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str


@router.get("")
async def list_audit(
    call: Annotated[Call, permit(Permission.AUDIT_READ)],
    window: Annotated[Window, Depends()],
    wanted: Annotated[Filter, Depends()],
) -> Page[AuditOut]:
    """Entries, newest first."""
    chain = trail.chain_of(call.actor)
    await enter(call.session, Scope(tenants=(chain,)))
    rows = await trail.page(
        call.session, chain, wanted, before=window.after_number(), limit=window.limit
    )
    kept, last = cut(rows, window.limit)
    return Page(items=[out(row) for row in kept], next=cursor(last.seq) if last else None)


@plain.get("/export", response_class=StreamingResponse, responses=streams("application/x-ndjson"))
async def export_audit(
    house: HouseDep,
    actor: Annotated[Actor, admit(Permission.AUDIT_READ)],
    wanted: Annotated[Filter, Depends()],
) -> StreamingResponse:
    """Every entry, oldest first, one JSON object a line."""
    return StreamingResponse(
        _lines(house.database, trail.chain_of(actor), wanted),
        media_type="application/x-ndjson",
        headers={"content-disposition": 'attachment; filename="audit.ndjson"'},
    )


def out(entry: AuditEntry) -> AuditOut:
    """The entry as people get it."""
    return AuditOut(hash=entry.hash.hex(), **entry.model_dump(exclude={"hash", "tenant_id"}))


async def _lines(database: Database, chain: UUID, wanted: Filter) -> AsyncIterator[str]:
    async for batch in trail.everything(database, chain, wanted):
        yield "".join(out(entry).model_dump_json() + "\n" for entry in batch)
