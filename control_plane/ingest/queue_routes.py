"""/queues: what waits on the whole platform, for operators: numbers, and no word of anybody's."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from control_plane.access.http import Call, TransactionRoute, admit, permit
from control_plane.access.permissions import Actor, Permission
from control_plane.access.schemas import Body
from control_plane.bus import queues
from control_plane.ingest import dead_letters
from control_plane.ingest.dead_letter_routes import (
    MAX_REPLAYED,
    ReplayedManyOut,
    replayed,
    replays_of,
)
from control_plane.ingest.dead_letters import Choice, Replays
from control_plane.kit.paging import Window

router = APIRouter(prefix="/queues", tags=["queues"], route_class=TransactionRoute)
plain = APIRouter(tags=["queues"])

# Tenants, sources and reasons of one answer, those with the most; reasons are a dozen codes.
MAX_GATHERED = 200

Reader = Annotated[Call, permit(Permission.QUEUES_READ)]


class KindOut(BaseModel):
    """Work of one kind: all rows; those that wait though due, and how long; in hand; failing."""

    name: str
    depth: int
    due: int
    age_s: float | None
    in_hand: int
    failing: int


class QueueOut(BaseModel):
    """What waits somewhere; `age_s` is that of the oldest."""

    name: str
    depth: int
    age_s: float | None


class DeadLettersOut(BaseModel):
    """How many dead letters a tenant has of one source and for one reason."""

    tenant_id: UUID
    tenant: str
    source: Literal["callback", "event"]
    reason: str
    depth: int
    oldest: datetime


class QueuesOut(BaseModel):
    """`dead_letters` has those with the most, at most 200."""

    at: datetime
    work: list[KindOut]
    queues: list[QueueOut]
    dead_letters: list[DeadLettersOut]


class QueueReplayIn(Body):
    """Which dead letters of one tenant: those to which all applies that is given."""

    source: Literal["callback", "event"] | None = None
    reason: str | None = Field(default=None, max_length=200, description="Exactly this one.")
    cursor: str | None = Field(
        default=None, max_length=500, description="Where an earlier call says to go on."
    )
    limit: int = Field(default=50, ge=1, le=MAX_REPLAYED)


@router.get("")
async def list_queues(call: Reader) -> QueuesOut:
    """What waits and for how long, and what came and could not be used."""
    work = await queues.kinds(call.session)
    waiting = await queues.depths(call.session)
    dead = await dead_letters.gathered(call.session, MAX_GATHERED)
    return QueuesOut(
        at=call.now,
        work=[KindOut.model_validate(each, from_attributes=True) for each in work],
        queues=[QueueOut.model_validate(each, from_attributes=True) for each in waiting],
        dead_letters=[DeadLettersOut(**row) for row in dead],
    )


@plain.post("/tenants/{tenant_id}/dead-letters/replay")
async def replay_of_tenant(
    tenant_id: UUID,
    body: QueueReplayIn,
    replays: Annotated[Replays, Depends(replays_of)],
    actor: Annotated[Actor, admit(Permission.FLEET_OPERATE)],
) -> ReplayedManyOut:
    """Deal with a tenant's dead letters once more, oldest first; the operator sees none of them.

    May be repeated: what was replayed is passed by.
    """
    choice = Choice(
        source=body.source, reason=body.reason, after=Window(cursor=body.cursor).after_id()
    )
    done, after = await replays.replay_many(choice, body.limit, actor, tenant_id)
    return replayed(done, after)
