"""Visitors' pictures: room for the bytes, whose they are, and who may look at them.

The bytes themselves go to the media store through its own links.
"""

from datetime import datetime
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db.session import driver
from control_plane.kit.errors import Invalid, TooMany, not_found
from control_plane.media import service
from control_plane.media.models import Media
from control_plane.media.service import Source
from control_plane.webchat.store import Place

# Pictures of a tenant's visitors that no message uses yet: anybody is a visitor, so this bounds
# what strangers take of the tenant's storage.
MAX_WAITING = 100
_AGAIN_S = 60

_WAITING = """
SELECT count(*) FROM (
    SELECT 1 FROM media WHERE source = 'visitor' AND expires_at > $1 LIMIT $2) AS waiting
"""
_OWN = """
SELECT 1 FROM media WHERE id = $1 AND source = 'visitor' AND source_id = $2 AND state = 'stored'
    AND content_type LIKE 'image/%'
"""
_SHOWN = """
SELECT 1 FROM webchat_messages WHERE visitor_id = $1
    AND segments @> jsonb_build_array(jsonb_build_object('ref', $2::jsonb)) LIMIT 1
"""


async def reserve(
    session: AsyncSession, place: Place, visitor_id: UUID, *, key: str, size: int, now: datetime
) -> Media:
    """Room for a picture; the same key gets the same room again. Raises TooMany, or over quota."""
    waiting = await (await driver(session)).fetchval(_WAITING, now, MAX_WAITING)
    if waiting >= MAX_WAITING:
        raise TooMany(
            "pictures_busy", "Too many pictures are on their way.", retry_after_s=_AGAIN_S
        )
    return await service.reserve(
        session,
        tenant_id=place.tenant_id,
        source=Source(kind="visitor", id=visitor_id),
        size=size,
        name="",
        request_id=key,
        now=now,
    )


async def check(session: AsyncSession, visitor_id: UUID, media_id: UUID) -> None:
    """Raises Invalid unless it is a stored picture that this visitor sent."""
    if await (await driver(session)).fetchval(_OWN, media_id, visitor_id) is None:
        raise Invalid("not_a_picture", "There is no such picture, or it is none that is shown.")


async def find(session: AsyncSession, visitor_id: UUID, media_id: UUID) -> Media:
    """A stored object that a message of this visitor's chat shows; NotFound for any other."""
    ref = f'{{"via": "media", "id": "{media_id}"}}'
    if await (await driver(session)).fetchval(_SHOWN, visitor_id, ref) is None:
        raise not_found("media")
    return await service.get_stored(session, media_id)
