"""/dead-letters: what came and could not be used; replaying it keeps no transaction open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from control_plane.access.http import Call, TransactionRoute, admit, permit
from control_plane.access.permissions import Actor, Permission
from control_plane.access.schemas import Body
from control_plane.ingest import dead_letters
from control_plane.ingest.dead_letters import Became, Choice, Replayed, Replays
from control_plane.kit.given import Moment
from control_plane.kit.paging import Page, Window, cursor, cut

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=TransactionRoute)
plain = APIRouter(prefix="/dead-letters", tags=["dead letters"])

# Each is a transaction of its own, so these are some seconds at most.
MAX_REPLAYED = 100

Reader = Annotated[Call, permit(Permission.CONVERSATIONS_READ)]
WindowDep = Annotated[Window, Depends()]


def replays_of(request: Request) -> Replays:
    replays: Replays = request.app.state.replays
    return replays


class DeadLetterOut(BaseModel):
    """A platform's callback, or an agent's event; `type` is its method, or what happened."""

    id: UUID
    source: Literal["callback", "event"]
    instance_id: UUID
    channel_id: UUID | None
    type: str
    reason: str
    size: int
    received_at: datetime


class RawOut(BaseModel):
    """What came; what proves anything is masked."""

    path: str | None
    query: str
    headers: dict[str, str]
    body: str = Field(description="In base64.")


class DeadLetterWholeOut(DeadLetterOut):
    """`raw` is null for those who may not see numbers: raw bytes cannot be masked."""

    raw: RawOut | None


class ReplayedOut(BaseModel):
    """`waiting` in its channel's queue, or what became of the event; `refused`: not replayed."""

    became: Became
    reason: str | None


class DeadLettersIn(Body):
    """Which dead letters: those to which all applies that is given."""

    source: Literal["callback", "event"] | None = None
    reason: str | None = Field(default=None, max_length=200, description="Exactly this one.")
    instance_id: UUID | None = None
    channel_id: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None
    cursor: str | None = Field(
        default=None, max_length=500, description="Where an earlier call says to go on."
    )
    limit: int = Field(default=50, ge=1, le=MAX_REPLAYED)


class ReplayedOneOut(ReplayedOut):
    """What became of one."""

    id: UUID


class ReplayedManyOut(BaseModel):
    """One result for each, oldest first; `next` is where to go on, null at the end."""

    items: list[ReplayedOneOut]
    next: str | None


@router.get("")
async def list_dead_letters(call: Reader, window: WindowDep) -> Page[DeadLetterOut]:
    """What came and could not be used, newest first."""
    rows = await dead_letters.letters(
        call.session, call.actor.tenant, before=window.after_id(), limit=window.limit
    )
    page, last = cut(rows, window.limit)
    items = [DeadLetterOut(**_shown(row)) for row in page]
    return Page(items=items, next=cursor(last["id"]) if last else None)


@router.get("/{letter_id}")
async def get_dead_letter(letter_id: UUID, call: Reader) -> DeadLetterWholeOut:
    """One of them, with what came."""
    row = await dead_letters.letter(call.session, letter_id)
    raw = None if call.actor.masked else RawOut(**dead_letters.raw(row))
    return DeadLetterWholeOut(**_shown(row), raw=raw)


@plain.post("/replay")
async def replay_dead_letters(
    body: DeadLettersIn,
    replays: Annotated[Replays, Depends(replays_of)],
    actor: Annotated[Actor, admit(Permission.CHANNELS_WRITE)],
) -> ReplayedManyOut:
    """Deal with many once more, oldest first. May be repeated: what was replayed is passed by."""
    chosen = body.model_dump(exclude={"limit", "cursor"})
    choice = Choice(**chosen, after=Window(cursor=body.cursor).after_id())
    done, after = await replays.replay_many(choice, body.limit, actor, actor.tenant)
    return replayed(done, after)


@plain.post("/{letter_id}/replay")
async def replay_dead_letter(
    letter_id: UUID,
    replays: Annotated[Replays, Depends(replays_of)],
    actor: Annotated[Actor, admit(Permission.CHANNELS_WRITE)],
) -> ReplayedOut:
    """Deal with it once more: pass the callback on, or store the event. May be repeated."""
    done = await replays.replay(letter_id, actor, actor.tenant)
    return ReplayedOut(became=done.became, reason=done.reason)


def replayed(done: Sequence[tuple[UUID, Replayed]], after: UUID | None) -> ReplayedManyOut:
    """What became of many, as an answer."""
    items = [
        ReplayedOneOut(id=letter_id, became=one.became, reason=one.reason)
        for letter_id, one in done
    ]
    return ReplayedManyOut(items=items, next=cursor(after) if after else None)


def _shown(row: Any) -> dict[str, Any]:
    shown = {name: row[name] for name in DeadLetterOut.model_fields if name != "size"}
    return shown | {"size": len(row["body"])}
