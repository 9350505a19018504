"""/releases, /rollouts and /tenants/{id}/rollout-group: for operators alone."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.rollouts import service
from control_plane.rollouts.advance import MemberState
from control_plane.rollouts.models import Release, Rollout
from control_plane.rollouts.schemas import (
    AbortIn,
    GroupIn,
    GroupOut,
    ReleaseIn,
    ReleaseOut,
    RolloutIn,
    RolloutMemberOut,
    RolloutOut,
)

router = APIRouter(tags=["rollouts"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.ROLLOUTS_READ)]
Writer = Annotated[Call, permit(Permission.ROLLOUTS_WRITE)]
WindowDep = Annotated[Window, Depends()]


@router.post("/releases", status_code=201)
async def create_release(body: ReleaseIn, call: Writer) -> ReleaseOut:
    """A new release: an image, options of all agents, or both. Nobody gets it before a rollout."""
    return _release(
        await service.create_release(call.session, body, actor=call.actor, now=call.now)
    )


@router.get("/releases")
async def list_releases(call: Reader, window: WindowDep) -> Page[ReleaseOut]:
    """All releases, newest first."""
    rows = await service.list_releases(call.session, before=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_release(row) for row in page], next=cursor(last.id) if last else None)


@router.post("/rollouts", status_code=201)
async def start_rollout(body: RolloutIn, call: Writer) -> RolloutOut:
    """Bring a release out, wave by wave; one at a time."""
    rollout = await service.start(call.session, body, actor=call.actor, now=call.now)
    return await _one(call, rollout)


@router.get("/rollouts")
async def list_rollouts(call: Reader, window: WindowDep) -> Page[RolloutOut]:
    """All rollouts, newest first."""
    rows = await service.list_rollouts(call.session, before=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(
        items=await service.shown(call.session, page), next=cursor(last.id) if last else None
    )


@router.get("/rollouts/{rollout_id}")
async def get_rollout(rollout_id: UUID, call: Reader) -> RolloutOut:
    """How far it is."""
    return await _one(call, await service.get(call.session, rollout_id))


@router.get("/rollouts/{rollout_id}/members")
async def list_rollout_members(
    rollout_id: UUID, call: Reader, window: WindowDep, state: MemberState | None = None
) -> Page[RolloutMemberOut]:
    """The bots of a rollout, each with its wave and how it stands."""
    rows = await service.members(
        call.session, rollout_id, state=state, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    items = [RolloutMemberOut.model_validate(row, from_attributes=True) for row in page]
    return Page(items=items, next=cursor(last.instance_id) if last else None)


@router.post("/rollouts/{rollout_id}/pause")
async def pause_rollout(rollout_id: UUID, call: Writer) -> RolloutOut:
    """Move nobody forward; what fails still goes back."""
    return await _one(
        call, await service.pause(call.session, rollout_id, actor=call.actor, now=call.now)
    )


@router.post("/rollouts/{rollout_id}/resume")
async def resume_rollout(rollout_id: UUID, call: Writer) -> RolloutOut:
    """Go on after a pause."""
    return await _one(
        call, await service.resume(call.session, rollout_id, actor=call.actor, now=call.now)
    )


@router.post("/rollouts/{rollout_id}/abort")
async def abort_rollout(rollout_id: UUID, call: Writer, body: AbortIn | None = None) -> RolloutOut:
    """Leave it here, or take everybody back."""
    rollout = await service.abort(
        call.session,
        rollout_id,
        roll_back=body is not None and body.roll_back,
        actor=call.actor,
        now=call.now,
    )
    return await _one(call, rollout)


@router.get("/tenants/{tenant_id}/rollout-group")
async def get_rollout_group(tenant_id: UUID, call: Reader) -> GroupOut:
    """Whether a tenant's bots go first."""
    group = await service.group_of(call.session, tenant_id)
    return GroupOut.model_validate({"tenant_id": tenant_id, "group": group})


@router.put("/tenants/{tenant_id}/rollout-group")
async def set_rollout_group(tenant_id: UUID, body: GroupIn, call: Writer) -> GroupOut:
    """Let a tenant's bots go first, or no longer."""
    await service.set_group(call.session, tenant_id, body.group, actor=call.actor, now=call.now)
    return GroupOut(tenant_id=tenant_id, group=body.group)


async def _one(call: Call, rollout: Rollout) -> RolloutOut:
    (found,) = await service.shown(call.session, [rollout])
    return found


def _release(release: Release) -> ReleaseOut:
    return ReleaseOut.model_validate(release, from_attributes=True)
