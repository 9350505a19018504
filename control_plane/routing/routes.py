"""/routing: settings, members, the queue; /conversations/{id}/transfer: handing one on."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.conversations import routes as conversations
from control_plane.conversations.schemas import ConversationOut
from control_plane.kit.given import Moment
from control_plane.kit.paging import Page, Window, cursor, cut
from control_plane.routing import hours, members, ratings, settings, transfers, waiting
from control_plane.routing.members import Member
from control_plane.routing.schemas import (
    AbilityIn,
    QueueOut,
    RatingAverageOut,
    RatingOut,
    RoutingIn,
    RoutingMemberOut,
    RoutingOut,
    StateIn,
    TransferIn,
    TransferOut,
    WaitOut,
)
from control_plane.routing.settings import Kept

# What one look at the queue shows.
SHOWN = 200
# What averages are of, when nobody says.
PERIOD = timedelta(days=30)

router = APIRouter(prefix="/routing", tags=["routing"], route_class=TransactionRoute)
talks_router = APIRouter(
    prefix="/conversations", tags=["conversations"], route_class=TransactionRoute
)

Reader = Annotated[Call, permit(Permission.ROUTING_READ)]
Manager = Annotated[Call, permit(Permission.ROUTING_WRITE)]
Writer = Annotated[Call, permit(Permission.CONVERSATIONS_WRITE)]
WindowDep = Annotated[Window, Depends()]

_FIRST = UUID(int=0)
# So that what was asked at this very moment counts.
_NOW = timedelta(microseconds=1)


@router.get("/settings")
async def get_routing_settings(call: Reader) -> RoutingOut:
    """What the tenant says of routing."""
    return _settings(call, await settings.read(call.session, call.actor.tenant))


@router.put("/settings")
async def replace_routing_settings(body: RoutingIn, call: Manager) -> RoutingOut:
    """Put new settings in the place of the old ones; they count at once."""
    kept = await settings.replace(
        call.session, call.actor.tenant, body, actor=call.actor, now=call.now
    )
    return _settings(call, kept)


@router.get("/members")
async def list_routing_members(call: Reader, window: WindowDep) -> Page[RoutingMemberOut]:
    """Everybody who may answer: are they there, what they can, how much they have."""
    rows = await members.list_members(
        call.session,
        call.actor.tenant,
        after=window.after_id() or _FIRST,
        limit=window.limit,
        now=call.now,
    )
    page, last = cut(rows, window.limit)
    return Page(items=[_member(row) for row in page], next=cursor(last.id) if last else None)


@router.put("/members/{member_id}")
async def change_routing_member(
    member_id: UUID, body: AbilityIn, call: Manager
) -> RoutingMemberOut:
    """Say what a member may be given."""
    member = await members.enable(call.session, member_id, body, actor=call.actor, now=call.now)
    return _member(member)


@router.put("/me")
async def say_state(body: StateIn, call: Writer) -> RoutingMemberOut:
    """Say whether you are there; it stays so until you say otherwise, or are gone for long."""
    return _member(await members.say(call.session, body.state, actor=call.actor, now=call.now))


@router.get("/queue")
async def get_queue(call: Reader) -> QueueOut:
    """What waits for somebody, the next one first."""
    queue = await waiting.queue(call.session, call.actor.tenant, limit=SHOWN + 1)
    items = [
        WaitOut(
            conversation_id=one.waiting.conversation_id,
            channel_id=one.channel_id,
            since=one.waiting.since,
            priority=one.waiting.priority,
            skill=one.waiting.skill,
            member_id=one.waiting.member_id,
        )
        for one in queue[:SHOWN]
    ]
    return QueueOut(items=items, more=len(queue) > SHOWN)


@router.get("/ratings")
async def list_ratings(call: Reader, window: WindowDep) -> Page[RatingOut]:
    """What customers said of how it was, and who was asked, newest first."""
    rows = await ratings.list_ratings(
        call.session, call.actor.tenant, before=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    items = [RatingOut(**dict(row)) for row in page]
    return Page(items=items, next=cursor(last["id"]) if last else None)


@router.get("/ratings/average")
async def average_ratings(
    call: Reader, since: Moment | None = None, until: Moment | None = None
) -> list[RatingAverageOut]:
    """Everybody together (no `member_id`), then each; of the last 30 days unless said otherwise."""
    rows = await ratings.averages(
        call.session,
        call.actor.tenant,
        since=since or call.now - PERIOD,
        until=until or call.now + _NOW,
    )
    return [
        RatingAverageOut(
            member_id=row["member_id"],
            asked=row["asked"],
            answered=row["answered"],
            average=row["average"],
        )
        for row in rows
    ]


@talks_router.post("/{conversation_id}/transfer")
async def transfer(conversation_id: UUID, body: TransferIn, call: Writer) -> ConversationOut:
    """Hand it to a colleague or to a skill; you have lost it when this is answered."""
    await transfers.transfer(call.session, conversation_id, body, actor=call.actor, now=call.now)
    return await conversations.shown(call, conversation_id)


@talks_router.get("/{conversation_id}/transfers")
async def list_transfers(
    conversation_id: UUID,
    call: Annotated[Call, permit(Permission.CONVERSATIONS_READ)],
    window: WindowDep,
) -> Page[TransferOut]:
    """How it went from hand to hand, newest first."""
    rows = await transfers.list_transfers(
        call.session, conversation_id, before=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    items = [_transfer(row) for row in page]
    return Page(items=items, next=cursor(last["id"]) if last else None)


def _settings(call: Call, kept: Kept) -> RoutingOut:
    return RoutingOut(
        **kept.routing.model_dump(),
        version=kept.version,
        updated_at=kept.updated_at,
        open=hours.is_open(kept.routing.hours, call.now),
    )


def _member(member: Member) -> RoutingMemberOut:
    return RoutingMemberOut.model_validate(
        {
            "member_id": member.id,
            "name": member.name,
            "state": member.state,
            "said": member.said,
            "state_at": member.state_at,
            "load": member.load,
            "capacity": member.capacity,
            "skills": member.skills,
            "shift": member.shift,
        }
    )


def _transfer(row: Any) -> TransferOut:
    return TransferOut(**dict(row))
