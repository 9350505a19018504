"""Voices written down without anybody outside: by a program beside the worker, in English only.

For bots that name no provider and say that their customers speak English, where the platform's
operator has switched it on.
"""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct

from control_plane.db.session import Database, Scope
from control_plane.kit.errors import NotFound
from control_plane.media import child, decoder, service
from control_plane.media.models import Media
from control_plane.media.storage import Storage, key_of
from control_plane.media.voices import MAX_VOICE_BYTES
from control_plane.speech import sphinx
from instance_agent.protocol import MAX_TRANSCRIPT, Transcript

LANGUAGE = "en"
# Voices that one worker hears at a time: each keeps a core busy.
AT_ONCE = 1
# Seconds on the clock: the program's own limit is on the processor.
_WITHIN_S = 600.0
# Bytes that the program writes: the longest transcript, each character escaped.
_MAX_TOLD_BYTES = 12 * MAX_TRANSCRIPT
_PROGRAM = Path(sphinx.__file__)

# How the program ends, in the words of `asr.completed`; all of it for good.
_FAILURES = {decoder.UNDECODABLE: "refused", decoder.NO_DECODER: "not_configured"}


class _Told(Struct):
    text: str
    duration_s: float


class Offline:
    """Hears voices of the tenants' stores."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._places = asyncio.Semaphore(AT_ONCE)

    async def hear(self, tenant_id: UUID, media_id: UUID) -> Transcript | str:
        """What it says, or of which class the failure is."""
        try:
            async with self._database.session(Scope(tenants=(tenant_id,))) as session:
                media = await service.get_stored(session, media_id)
            if media.size > MAX_VOICE_BYTES:
                return "too_large"
            voice = await self._bytes(media)
        except NotFound:
            return "media_gone"
        async with self._places:
            ended = await child.run(_PROGRAM, voice, within_s=_WITHIN_S, at_most=_MAX_TOLD_BYTES)
        if ended.code != 0:
            return _FAILURES.get(ended.code, "too_large")
        try:
            told = msgspec.json.decode(ended.written, type=_Told)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return "refused"
        return Transcript(
            text=told.text[:MAX_TRANSCRIPT], language=LANGUAGE, duration_s=told.duration_s
        )

    async def _bytes(self, media: Media) -> bytes:
        if media.attempt is None:
            raise NotFound("media_not_found", "There is no such media.")
        pieces = await self._storage.get(
            key_of(media.tenant_id, media.id, media.attempt), 0, media.size
        )
        return b"".join([piece async for piece in pieces])
