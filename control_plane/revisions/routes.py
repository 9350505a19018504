"""/instances/{id}/revisions, /revisions: configuration as versions."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.instances import service as instances
from control_plane.kit.paging import Window, cursor, cut
from control_plane.revisions import documents, service
from control_plane.revisions.models import Revision
from control_plane.revisions.schemas import (
    MAX_NUMBER,
    ChangeOut,
    DiffOut,
    RevisionIn,
    RevisionOut,
    RevisionsOut,
    RollbackIn,
    StandingOut,
)

router = APIRouter(tags=["revisions"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.REVISIONS_READ)]
Writer = Annotated[Call, permit(Permission.REVISIONS_WRITE)]


@router.post("/instances/{instance_id}/revisions", status_code=201)
async def create_revision(instance_id: UUID, body: RevisionIn, call: Writer) -> RevisionOut:
    """Write a draft; it is checked now and runs only when published."""
    revision = await service.write(
        call.session,
        instance_id=instance_id,
        document=body.document,
        note=body.note,
        actor=call.actor,
        now=call.now,
    )
    return _out(revision)


@router.get("/instances/{instance_id}/revisions")
async def list_revisions(
    instance_id: UUID, call: Reader, window: Annotated[Window, Depends()]
) -> RevisionsOut:
    """The bot's versions, newest first, and which of them it wants, has, runs and refused."""
    await instances.get(call.session, instance_id)
    rows = await service.list_revisions(
        call.session, instance_id, before=window.after_number(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    state = await service.standing(call.session, instance_id)
    return RevisionsOut(
        items=[_out(row) for row in page],
        next=cursor(last.number) if last else None,
        standing=StandingOut.model_validate(state, from_attributes=True),
    )


@router.post("/revisions/{revision_id}/publish")
async def publish_revision(revision_id: UUID, call: Writer) -> RevisionOut:
    """Let the bot run this version."""
    return _out(await service.publish(call.session, revision_id, actor=call.actor, now=call.now))


@router.post("/instances/{instance_id}/rollback", status_code=201)
async def roll_back(instance_id: UUID, body: RollbackIn, call: Writer) -> RevisionOut:
    """Publish an earlier version again, as a new one. Channels stay as they are."""
    revision = await service.roll_back(
        call.session, instance_id=instance_id, number=body.number, actor=call.actor, now=call.now
    )
    return _out(revision)


@router.get("/revisions/{revision_id}/diff")
async def diff_revision(
    revision_id: UUID,
    call: Reader,
    against: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="By default the one before.")
    ] = None,
) -> DiffOut:
    """What a version changes."""
    revision = await service.get(call.session, revision_id)
    other = revision.number - 1 if against is None else against
    before = await service.document_of(call.session, revision.instance_id, other)
    found = documents.changes(before, documents.current(revision.document))
    return DiffOut(
        number=revision.number, against=other, changes=[ChangeOut(**change) for change in found]
    )


def _out(revision: Revision) -> RevisionOut:
    return RevisionOut.model_validate(revision, from_attributes=True)
