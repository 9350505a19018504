"""/blacklist: whom the tenant's bots do not hear."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.channels import blacklist
from control_plane.channels.blacklist import Filter
from control_plane.channels.blacklist_schemas import (
    MAX_PLATFORM_ID,
    BlacklistOut,
    BulkIn,
    BulkOut,
    EntryIn,
    EntryOut,
)
from control_plane.channels.models import BlacklistEntry
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/blacklist", tags=["blacklist"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.BLACKLIST_READ)]
Writer = Annotated[Call, permit(Permission.BLACKLIST_WRITE)]


class Asked(BaseModel):
    """Which entries; all that is given must fit."""

    platform_id: Annotated[str | None, Query(max_length=MAX_PLATFORM_ID)] = None
    kind: Annotated[str | None, Query(max_length=40)] = None
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    expired: bool | None = None


@router.post("", status_code=201)
async def add_blacklist_entry(body: EntryIn, call: Writer) -> EntryOut:
    """No longer hear somebody: their messages are acknowledged, counted and gone.

    Who is listed already gets this reason and end. Messages from before stay as they are.
    """
    return _out(await blacklist.add(call.session, body, actor=call.actor, now=call.now))


@router.get("")
async def list_blacklist_entries(
    call: Reader, window: Annotated[Window, Depends()], asked: Annotated[Asked, Depends()]
) -> Page[EntryOut]:
    """Whom the bots do not hear, oldest entry first; ended entries stay for 30 days."""
    rows = await blacklist.list_entries(
        call.session,
        Filter(**asked.model_dump()),
        after=window.after_id(),
        limit=window.limit,
        now=call.now,
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.get("/standing")
async def get_blacklist_standing(call: Reader) -> BlacklistOut:
    """The list's version and length."""
    return await blacklist.standing(call.session, call.actor.tenant)


@router.post("/bulk")
async def change_blacklist(body: BulkIn, call: Writer) -> BulkOut:
    """Remove many entries and add many, all under one version, or none of it."""
    return await blacklist.bulk(call.session, body, actor=call.actor, now=call.now)


@router.get("/{entry_id}")
async def get_blacklist_entry(entry_id: UUID, call: Reader) -> EntryOut:
    """One entry."""
    return _out(await blacklist.get(call.session, entry_id))


@router.delete("/{entry_id}", status_code=204)
async def remove_blacklist_entry(entry_id: UUID, call: Writer) -> None:
    """Hear somebody again."""
    await blacklist.remove(call.session, entry_id, actor=call.actor, now=call.now)


def _out(entry: BlacklistEntry) -> EntryOut:
    return EntryOut(**entry.model_dump() | {"kind": entry.kind or None})
