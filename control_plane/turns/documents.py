"""What people wrote for the bot of a conversation, as published last."""

from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver
from control_plane.revisions import service as revisions
from instance_agent.protocol import Document


async def of(session: AsyncSession, conversation_id: UUID) -> Document:
    """The document that counts now."""
    instance_id = await (await driver(session)).fetchval(
        "SELECT instance_id FROM conversations WHERE id = $1", conversation_id
    )
    state = await revisions.standing(session, instance_id)
    return Document.model_validate(await revisions.document_of(session, instance_id, state.desired))
