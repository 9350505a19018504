"""Makes of voices that no browser plays an MP3 that every browser does; the original stays.

The bytes go through a process of its own, outside any session, under the lease of the work. What
came of it is one transaction: a worker that dies before it leaves an object that no row names, for
the sweep, and work that is taken up again. A voice that cannot be converted says why, for good.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from control_plane.db import leases
from control_plane.db.leases import Lease
from control_plane.db.session import Database, Scope, driver
from control_plane.kit.clock import Clock
from control_plane.kit.errors import Conflict, NotFound
from control_plane.kit.ids import new_id
from control_plane.media import child, decoder, kinds, service
from control_plane.media.models import Conversion, Media, MediaState
from control_plane.media.storage import Storage, key_of
from control_plane.stream import log as stream
from control_plane.stream.log import Entry
from control_plane.tenants import quota
from control_plane.tenants import service as tenants

# Bytes of a voice: ten minutes of the best AMR take 1.8 MiB, of the best Silk 3 MiB.
MAX_VOICE_BYTES = 4 * 1024 * 1024
# Bytes of what is made of it: what the longest takes, and some more.
_MAX_MADE_BYTES = 4 * 1024 * 1024
# Seconds on the clock, of which the decoder may use a part on the processor.
_WITHIN_S = 120.0
_DECODER = Path(decoder.__file__)

# How the decoder ends, and what people are told.
_FAILURES = {
    decoder.UNDECODABLE: "undecodable",
    decoder.TOO_LONG: "too_long",
    decoder.NO_DECODER: "no_decoder",
}
OVER_LIMITS = "over_limits"

CONVERSIONS = Counter(
    "botyard_media_conversions_total", "Voices made fit for browsers, by outcome.", ["outcome"]
)

_END = """
UPDATE media SET conversion = $2, conversion_error = $3
WHERE id = $1 AND state = 'stored' AND conversion = 'pending' RETURNING id
"""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a browser plays, stored under `attempt`."""

    attempt: UUID
    size: int
    sha256: bytes


class Voices:
    """Works on voices that are to be converted."""

    def __init__(self, database: Database, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def convert(self, lease: Lease) -> timedelta | None:
        """Work handler: the object that is the key, once."""
        async with self._database.session(Scope(tenants=(lease.tenant_id,))) as session:
            media = await _waiting(session, lease.key)
            rest = await tenants.rest(session, lease.tenant_id)
        if media is None or rest is not None:
            return None if media is None else rest
        outcome = await self._made(media, made_id := new_id())
        error = await self._end(lease, media, made_id, outcome)
        CONVERSIONS.labels(error or "ready").inc()
        if error is not None:
            log.info("a voice was not converted", error_class=error, size=media.size)
        return None

    async def _made(self, media: Media, made_id: UUID) -> Made | str:
        """What was made and stored, or why nothing was."""
        if media.size > MAX_VOICE_BYTES:
            return "too_large"
        try:
            voice = await self._bytes(media)
        except NotFound:
            return "lost"
        ended = await child.run(_DECODER, voice, within_s=_WITHIN_S, at_most=_MAX_MADE_BYTES)
        if ended.code != 0:
            return _FAILURES.get(ended.code, OVER_LIMITS)
        # The process that made it had seen a stranger's bytes.
        if kinds.kind_of(ended.written[: kinds.HEAD]) != kinds.PLAYABLE:
            return "undecodable"
        made = Made(
            attempt=new_id(), size=len(ended.written), sha256=sha256(ended.written).digest()
        )
        key = key_of(media.tenant_id, made_id, made.attempt)
        await self._storage.put(key, _once(ended.written))
        return made

    async def _bytes(self, media: Media) -> bytes:
        assert media.attempt is not None  # noqa: S101 - of a stored object
        key = key_of(media.tenant_id, media.id, media.attempt)
        pieces = await self._storage.get(key, 0, media.size)
        return b"".join([piece async for piece in pieces])

    async def _end(
        self, lease: Lease, media: Media, made_id: UUID, outcome: Made | str
    ) -> str | None:
        """Say once what came of it; why there is nothing to play, or None."""
        now = self._clock.now()
        made = outcome if isinstance(outcome, Made) else None
        error = outcome if isinstance(outcome, str) else None
        entries: list[Entry] = []
        async with self._database.session(Scope(tenants=(media.tenant_id,))) as session:
            before = await quota.standing(session, media.tenant_id, now=now, lock=True)
            if made is not None:
                try:
                    before.room_for("storage_bytes", made.size)
                except Conflict:
                    made, error = None, "no_room"
            state = Conversion.READY if made is not None else Conversion.FAILED
            ended = await (await driver(session)).fetchval(_END, media.id, state, error)
            kept = made is not None and ended is not None
            if made is not None and kept:
                session.add(_row(media, made_id, made, self._clock))
                await session.flush()
            await leases.hold(session, lease)
            if ended is not None:
                data = {"media_id": str(media.id), "state": state.value, "error_class": error}
                entries.append(Entry(type="media.converted", data=data))
            entries += await quota.crossed(session, before, now=now)
            await stream.append(session, media.tenant_id, entries)
        if isinstance(outcome, Made) and not kept:
            await self._storage.delete([key_of(media.tenant_id, made_id, outcome.attempt)])
        return error


async def _waiting(session: AsyncSession, media_id: UUID) -> Media | None:
    try:
        media = await service.get_stored(session, media_id)
    except NotFound:
        return None
    return media if media.conversion == Conversion.PENDING else None


def _row(media: Media, made_id: UUID, made: Made, clock: Clock) -> Media:
    stem = media.name.rpartition(".")[0] or media.name
    return Media(
        id=made_id,
        tenant_id=media.tenant_id,
        state=MediaState.STORED,
        size=made.size,
        name=stem + kinds.ending(kinds.PLAYABLE),
        source=media.source,
        source_id=media.source_id,
        attempt=made.attempt,
        sha256=made.sha256,
        content_type=kinds.PLAYABLE,
        original_id=media.id,
        created_at=clock.now(),
    )


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
