"""What the bot did, in a conversation or anywhere, for people to read."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.conversations import service as conversations
from control_plane.turns import steps
from control_plane.turns.models import Turn


async def list_turns(
    session: AsyncSession, conversation_id: UUID, *, before: int | None, limit: int
) -> Sequence[Turn]:
    """A conversation's turns, newest first; one more than `limit` if any."""
    await conversations.get(session, conversation_id)
    query = select(Turn).where(Turn.conversation_id == conversation_id)
    if before is not None:
        query = query.where(col(Turn.number) < before)
    query = query.order_by(col(Turn.number).desc()).limit(limit + 1)
    return (await session.exec(query)).all()


async def list_all(
    session: AsyncSession, tenant_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Turn]:
    """The tenant's turns, those that began last first; one more than `limit` if any."""
    # Named beside the walls, so that an index has them in order among those of all tenants.
    query = select(Turn).where(col(Turn.tenant_id) == tenant_id)
    if before is not None:
        query = query.where(col(Turn.id) < before)
    return (await session.exec(query.order_by(col(Turn.id).desc()).limit(limit + 1))).all()


async def asked(session: AsyncSession, turns: Sequence[Turn]) -> dict[UUID, list[dict[str, Any]]]:
    """What the models came to that these turns asked."""
    return await steps.of_models(session, [turn.id for turn in turns])
