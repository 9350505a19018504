"""Reserve room, settle an upload, mark what messages use, forget. Bytes are moved elsewhere."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.session import Session, driver
from control_plane.kit.errors import Conflict, TooLarge, not_found
from control_plane.kit.ids import new_id
from control_plane.media import kinds, names
from control_plane.media.models import Conversion, Media, MediaState
from control_plane.media.refs import IN_SEGMENTS
from control_plane.stream import log as stream
from control_plane.tenants import quota
from control_plane.tenants.life import REMOVAL
from instance_agent.protocol import MAX_MEDIA_BYTES

WORK = "media"
VOICE = "voice"
# How long a reservation holds its bytes: the link's life and the longest upload, and some more.
PENDING_LIFE = timedelta(minutes=30)
# How long an object waits for the message that uses it; then it is removed.
UNUSED_LIFE = timedelta(days=1)
# Between two comparisons of the storage with what it should hold.
SWEEP_EVERY = timedelta(days=1)

_SETTLE = """
UPDATE media SET state = 'stored', attempt = $2, sha256 = $3, content_type = $4, expires_at = $5,
    conversion = CASE WHEN $6 THEN 'pending' END
WHERE id = $1 AND state = 'pending' RETURNING tenant_id
"""
# What was made from another object is found through that one only.
_STORED = """
SELECT id FROM media
WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND state = 'stored' AND original_id IS NULL
"""
_CONVERSIONS = """
SELECT id, conversion, conversion_error FROM media
WHERE id = ANY ($1::uuid[]) AND state = 'stored' AND conversion IS NOT NULL
"""
_USE = """
UPDATE media AS m SET expires_at = NULL FROM (
    SELECT id FROM media WHERE id = ANY ($1::uuid[]) AND state = 'stored' AND expires_at IS NOT NULL
    ORDER BY id FOR UPDATE
) AS used WHERE m.id = used.id
"""
_FORGET = """
UPDATE media AS m SET state = 'gone', expires_at = NULL FROM (
    SELECT id FROM media WHERE id = ANY ($1::uuid[]) AND state <> 'gone' ORDER BY id FOR UPDATE
) AS old WHERE m.id = old.id RETURNING m.tenant_id
"""
_OF_MESSAGES = f"""
SELECT DISTINCT {IN_SEGMENTS.format(column="segments")} AS id FROM messages
WHERE id = ANY ($1::uuid[])
"""  # noqa: S608 - our own constant


@dataclass(frozen=True, kw_only=True)
class Source:
    """Who stores it: an agent, a member or a visitor."""

    kind: str
    id: UUID


@dataclass(frozen=True, kw_only=True)
class Playback:
    """How far a voice that no browser plays is; `error_class` says why it failed."""

    state: str
    error_class: str | None


async def reserve(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    source: Source,
    size: int,
    name: str,
    request_id: str | None = None,
    now: datetime,
) -> Media:
    """Room for so many bytes, under the tenant's lock; the same request gets the same again."""
    if size > MAX_MEDIA_BYTES:
        raise TooLarge("media_too_large", f"At most {MAX_MEDIA_BYTES} bytes can be kept.")
    before = await quota.standing(session, tenant_id, now=now, lock=True)
    known = await _known(session, source, request_id)
    if known is not None:
        if known.size != size:
            raise Conflict("webhook_id_reused", "This webhook-id came with another body before.")
        return known
    before.room_for("storage_bytes", size)
    media = Media(
        id=new_id(),
        tenant_id=tenant_id,
        size=size,
        name=names.display(name),
        source=source.kind,
        source_id=source.id,
        request_id=request_id,
        created_at=now,
        expires_at=now + PENDING_LIFE,
    )
    session.add(media)
    await session.flush()
    await leases.call(session, WORK, [(tenant_id, tenant_id)], after=PENDING_LIFE)
    await leases.call(session, REMOVAL, [(tenant_id, tenant_id)], after=SWEEP_EVERY)
    entries = await quota.crossed(session, before, now=now)
    await stream.append(session, tenant_id, entries)
    return media


async def get(session: AsyncSession, media_id: UUID) -> Media:
    """An object that is there or may come, if this session may see it."""
    found = await session.exec(
        select(Media).where(Media.id == media_id, Media.state != MediaState.GONE)
    )
    media = found.one_or_none()
    if media is None:
        raise not_found("media")
    return media


async def get_stored(session: AsyncSession, media_id: UUID) -> Media:
    """An object whose bytes are there."""
    media = await get(session, media_id)
    if media.state != MediaState.STORED:
        raise not_found("media")
    return media


async def settle(
    session: AsyncSession,
    media_id: UUID,
    *,
    attempt: UUID,
    sha256: bytes,
    content_type: str,
    now: datetime,
) -> bool:
    """The bytes of this attempt are stored; False when another one was first, or it is gone."""
    convert = content_type in kinds.UNPLAYABLE
    tenant_id = await (await driver(session)).fetchval(
        _SETTLE, media_id, attempt, sha256, content_type, now + UNUSED_LIFE, convert
    )
    if tenant_id is not None and convert:
        await leases.call(session, VOICE, [(media_id, tenant_id)])
    return tenant_id is not None


async def played(session: AsyncSession, media_id: UUID) -> Media:
    """What a browser plays in the place of an object: what was made from it, if anything was."""
    media = await get_stored(session, media_id)
    if media.conversion != Conversion.READY:
        return media
    found = await session.exec(
        select(Media).where(Media.original_id == media_id, Media.state == MediaState.STORED)
    )
    return found.one_or_none() or media


async def conversions(session: Session, ids: Collection[UUID]) -> dict[UUID, Playback]:
    """Those of the objects that had to be converted, and how far each is."""
    if not ids:
        return {}
    rows = await (await driver(session)).fetch(_CONVERSIONS, list(ids))
    return {
        row["id"]: Playback(state=row["conversion"], error_class=row["conversion_error"])
        for row in rows
    }


async def stored(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are stored objects of this tenant."""
    rows = await (await driver(session)).fetch(_STORED, tenant_id, list(ids))
    return {row["id"] for row in rows}


async def use(session: Session, ids: Collection[UUID]) -> None:
    """A message refers to these: they stay until it is forgotten."""
    if ids:
        await (await driver(session)).execute(_USE, list(ids))


async def of_messages(session: AsyncSession, message_ids: Sequence[UUID]) -> list[UUID]:
    """The objects that these messages refer to."""
    rows = await (await driver(session)).fetch(_OF_MESSAGES, message_ids)
    return [UUID(row["id"]) for row in rows]


async def forget(session: AsyncSession, ids: Collection[UUID]) -> int:
    """Let objects go: no link works from the commit on, and a worker removes the bytes."""
    if not ids:
        return 0
    rows = await (await driver(session)).fetch(_FORGET, list(ids))
    tenants = {row["tenant_id"] for row in rows}
    await leases.call(session, WORK, [(tenant_id, tenant_id) for tenant_id in tenants])
    return len(rows)


async def _known(session: AsyncSession, source: Source, request_id: str | None) -> Media | None:
    if request_id is None:
        return None
    found = await session.exec(
        select(Media).where(Media.source_id == source.id, Media.request_id == request_id)
    )
    media = found.one_or_none()
    if media is not None and media.state == MediaState.GONE:
        raise Conflict("reservation_expired", "This reservation has expired; ask for another.")
    return media
