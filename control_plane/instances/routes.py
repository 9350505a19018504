"""/instances: what should run, and /fleet: what operators do about it, whoever's it is.

Logs are served by the fleet, which knows where agents run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from control_plane.access.http import Call, TransactionRoute, check, permit
from control_plane.access.permissions import Permission
from control_plane.instances import service, timeline
from control_plane.instances.models import Instance
from control_plane.instances.schemas import (
    Drift,
    FleetOut,
    InstanceIn,
    InstanceOut,
    Phase,
    PhaseCountOut,
    ReleaseCountOut,
    SuspensionIn,
    TimelineConversationOut,
    TimelineOut,
)
from control_plane.instances.service import Which
from control_plane.instances.timeline import About
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/instances", tags=["instances"], route_class=TransactionRoute)
fleet = APIRouter(prefix="/fleet", tags=["fleet"], route_class=TransactionRoute)

Reader = Annotated[Call, permit(Permission.INSTANCES_READ)]
Writer = Annotated[Call, permit(Permission.INSTANCES_WRITE)]
Operator = Annotated[Call, permit(Permission.INSTANCES_OPERATE)]
Steerer = Annotated[Call, permit(Permission.FLEET_OPERATE)]
WindowDep = Annotated[Window, Depends()]


@router.post("", status_code=201)
async def create_instance(body: InstanceIn, call: Writer) -> InstanceOut:
    """Ask for a new bot; it is started in the background."""
    instance = await service.create(
        call.session, tenant_id=call.actor.tenant, name=body.name, actor=call.actor, now=call.now
    )
    return await _out(call, instance)


@router.get("")
async def list_instances(
    call: Reader,
    window: WindowDep,
    phase: Phase | None = None,
    drift: Drift | None = None,
    release: Annotated[
        int | None, Query(ge=0, le=2**31 - 1, description="By number; 0: those without one.")
    ] = None,
    tenant_id: UUID | None = None,
    named: Annotated[
        str | None,
        Query(max_length=80, description="Stands in the name of the bot or of its tenant."),
    ] = None,
    suspended: bool | None = None,
) -> Page[InstanceOut]:
    """The tenant's bots; for operators, everybody's. All that is given applies."""
    which = Which(
        phase=phase,
        drift=drift,
        release=release,
        tenant_id=tenant_id,
        named=named and named.strip(),
        suspended=suspended,
    )
    rows = await service.list_instances(
        call.session, which=which, after=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    return Page(items=await _all(call, page), next=cursor(last.id) if last else None)


@router.get("/{instance_id}")
async def get_instance(instance_id: UUID, call: Reader) -> InstanceOut:
    """One bot: desired beside observed."""
    return await _out(call, await service.get(call.session, instance_id))


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
    return await _out(
        call, await service.hibernate(call.session, instance_id, actor=call.actor, now=call.now)
    )


@router.post("/{instance_id}/restart", status_code=202)
async def restart_instance(instance_id: UUID, call: Operator) -> InstanceOut:
    """Replace its agent by a new one."""
    return await _out(
        call, await service.restart(call.session, instance_id, actor=call.actor, now=call.now)
    )


@router.post("/{instance_id}/secrets/rotate", status_code=202)
async def rotate_secrets(instance_id: UUID, call: Operator) -> InstanceOut:
    """Replace, at once, the secrets that its agent and the platform show each other."""
    return await _out(
        call,
        await service.rotate_secrets(call.session, instance_id, actor=call.actor, now=call.now),
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
    return await _out(
        call, await service.want(call.session, instance_id, desired, actor=call.actor, now=call.now)
    )


@fleet.get("")
async def count_instances(call: Reader) -> FleetOut:
    """How many bots there are, by how they stand."""
    found = await service.counts(call.session)
    phases = sorted(found.phases.items(), key=lambda each: (-each[1], each[0]))
    releases = sorted(found.releases.items(), key=lambda each: (-each[1], each[0] or 0))
    return FleetOut(
        total=sum(found.phases.values()),
        drifted=found.drifted,
        suspended=found.suspended,
        phases=[PhaseCountOut(phase=phase, count=count) for phase, count in phases],
        releases=[ReleaseCountOut(release=number, count=count) for number, count in releases],
    )


@fleet.post("/{instance_id}/restart", status_code=202)
async def restart_of_fleet(instance_id: UUID, call: Steerer) -> InstanceOut:
    """Replace a bot's agent by a new one, whoever's it is; its tenant sees who did it."""
    await service.as_operator(call.session, instance_id)
    return await _out(
        call, await service.restart(call.session, instance_id, actor=call.actor, now=call.now)
    )


@fleet.post("/{instance_id}/reconcile", status_code=202)
async def reconcile_of_fleet(instance_id: UUID, call: Steerer) -> InstanceOut:
    """Have the fleet look at a bot now, and mend what differs."""
    await service.as_operator(call.session, instance_id)
    return await _out(
        call, await service.reconcile(call.session, instance_id, actor=call.actor, now=call.now)
    )


@fleet.post("/{instance_id}/suspend", status_code=202)
async def suspend_of_fleet(instance_id: UUID, body: SuspensionIn, call: Steerer) -> InstanceOut:
    """Let one bot rest, whatever its tenant wants; customers' messages wait."""
    await service.as_operator(call.session, instance_id)
    instance = await service.suspend(
        call.session, instance_id, body.reason, actor=call.actor, now=call.now
    )
    return await _out(call, instance)


@fleet.post("/{instance_id}/resume", status_code=202)
async def resume_of_fleet(instance_id: UUID, call: Steerer) -> InstanceOut:
    """Let its tenant decide again."""
    await service.as_operator(call.session, instance_id)
    return await _out(
        call, await service.resume(call.session, instance_id, actor=call.actor, now=call.now)
    )


async def _out(call: Call, instance: Instance) -> InstanceOut:
    (found,) = await _all(call, [instance])
    return found


async def _all(call: Call, instances: Sequence[Instance]) -> list[InstanceOut]:
    around = await service.around(call.session, [each.id for each in instances])
    return [
        InstanceOut.model_validate(
            each.model_dump() | asdict(around[each.id]) | {"drift": each.drifts}
        )
        for each in instances
    ]
