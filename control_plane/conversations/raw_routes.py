"""/messages/{id}/raw: what the platform sent of a message that could not be carried whole."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from control_plane.access import audit
from control_plane.access.http import Call, TransactionRoute, permit
from control_plane.access.permissions import Permission
from control_plane.db.session import driver
from control_plane.kit.errors import not_found

router = APIRouter(prefix="/messages", tags=["conversations"], route_class=TransactionRoute)

_RAW = "SELECT message_id, body, received_at FROM raw_messages WHERE message_id = $1"


class RawMessageOut(BaseModel):
    """Without secrets, and cut where it is long."""

    message_id: UUID
    body: str | None = Field(
        description="JSON, unless it was cut. Null for those who may not see numbers: what a"
        " platform sends cannot be masked."
    )
    received_at: datetime


@router.get("/{raw_message_id}/raw")
async def get_raw_message(
    raw_message_id: UUID, call: Annotated[Call, permit(Permission.RAW_READ)]
) -> RawMessageOut:
    """What the platform sent; every look is audited."""
    row = await (await driver(call.session)).fetchrow(_RAW, raw_message_id)
    if row is None:
        raise not_found("raw_message")
    audit.record(
        call.session,
        actor=call.actor,
        tenant_id=call.actor.tenant,
        action="message.raw_read",
        target=("message", raw_message_id),
        now=call.now,
    )
    body = None if call.actor.masked else row["body"]
    return RawMessageOut(message_id=raw_message_id, body=body, received_at=row["received_at"])
