"""/instances: what should run. Logs are served by the fleet, which knows where agents run."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access.http import Call, TransactionRoute, check, permit
from control_plane.access.permissions import Permission
from control_plane.instances import service, timeline
from control_plane.instances.models import Instance
from control_plane.instances.schemas import (
    InstanceIn,
    InstanceOut,
    TimelineConversationOut,
    TimelineOut,
)
from control_plane.instances.timeline import About
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/instances", tags=["instances"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.INSTANCES_READ)]
Writer = Annotated[Call, permit(Permission.INSTANCES_WRITE)]
Operator = Annotated[Call, permit(Permission.INSTANCES_OPERATE)]
WindowDep = Annotated[Window, Depends()]


@router.post("", status_code=201)
async def create_instance(body: InstanceIn, call: Writer) -> InstanceOut:
    """Ask for a new bot; it is started in the background."""
    instance = await service.create(
        call.session, tenant_id=call.actor.tenant, name=body.name, actor=call.actor, now=call.now
    )
    return _out(instance)


@router.get("")
async def list_instances(call: Reader, window: WindowDep) -> Page[InstanceOut]:
    """The tenant's bots; for operators, everybody's."""
    rows = await service.list_instances(call.session, after=window.after_id(), limit=window.limit)
    page, last = cut(rows, window.limit)
    return Page(items=[_out(row) for row in page], next=cursor(last.id) if last else None)


@router.get("/{instance_id}")
async def get_instance(instance_id: UUID, call: Reader) -> InstanceOut:
    """One bot: desired beside observed."""
    return _out(await service.get(call.session, instance_id))


@router.delete("/{instance_id}", status_code=202)
async def delete_instance(instance_id: UUID, call: Writer) -> InstanceOut:
    """Remove a bot: its agent ends, what was said is kept."""
    return await _want(call, instance_id, "deleted")


@router.post("/{instance_id}/start", status_code=202)
async def start_instance(instance_id: UUID, call: Operator) -> InstanceOut:
    """Let it run."""
    return await _want(call, instance_id, "running")


@router.post("/{instance_id}/stop", status_code=202)
async def stop_instance(instance_id: UUID, call: Operator) -> InstanceOut:
    """Let it rest: customers' messages wait."""
    return await _want(call, instance_id, "stopped")


@router.post("/{instance_id}/hibernate", status_code=202)
async def hibernate_instance(instance_id: UUID, call: Operator) -> InstanceOut:
    """Let it sleep until the next message, configuration or start; only where every channel can
    wake it."""
    return _out(await service.hibernate(call.session, instance_id, actor=call.actor, now=call.now))


@router.post("/{instance_id}/restart", status_code=202)
async def restart_instance(instance_id: UUID, call: Operator) -> InstanceOut:
    """Replace its agent by a new one."""
    return _out(await service.restart(call.session, instance_id, actor=call.actor, now=call.now))


@router.post("/{instance_id}/secrets/rotate", status_code=202)
async def rotate_secrets(instance_id: UUID, call: Operator) -> InstanceOut:
    """Replace, at once, the secrets that its agent and the platform show each other."""
    return _out(
        await service.rotate_secrets(call.session, instance_id, actor=call.actor, now=call.now)
    )


@router.get("/{instance_id}/timeline")
async def get_timeline(
    instance_id: UUID,
    call: Reader,
    window: WindowDep,
    about: Annotated[
        About, Query(description="Lines about conversations need `conversations.read`.")
    ] = About.ALL,
) -> Page[TimelineOut]:
    """What happened to it and to its conversations, newest first."""
    await service.get(call.session, instance_id)
    if about is About.CONVERSATIONS:
        check(call.actor, Permission.CONVERSATIONS_READ)
    elif Permission.CONVERSATIONS_READ not in call.actor.permissions:
        about = About.INSTANCE
    rows = await timeline.page(
        call.session, instance_id, about, before=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_line(row) for row in page], next=cursor(last["id"]) if last else None)


def _line(row: Any) -> TimelineOut:
    conversation = None
    if row["conversation_id"] is not None:
        conversation = TimelineConversationOut(
            id=row["conversation_id"],
            channel_kind=row["channel_kind"],
            contact_name=row["contact_name"],
        )
    return TimelineOut(
        id=row["id"],
        at=row["at"],
        type=row["type"],
        message=row["message"],
        data=json.loads(row["data"]),
        conversation=conversation,
        member_name=row["member_name"],
    )


async def _want(call: Call, instance_id: UUID, desired: str) -> InstanceOut:
    return _out(
        await service.want(call.session, instance_id, desired, actor=call.actor, now=call.now)
    )


def _out(instance: Instance) -> InstanceOut:
    return InstanceOut.model_validate(instance, from_attributes=True)
