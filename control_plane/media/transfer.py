"""Bytes in and out, with no transaction open while they move.

An upload writes an object of its own and then settles the row; the first to settle counts, and
the others remove what they wrote. A process that dies between leaves an object that no row names,
which the sweep removes.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from control_plane.db.session import Database, Scope
from control_plane.kit.clock import Clock
from control_plane.kit.crypto import Keyring
from control_plane.kit.errors import BadRequest, Conflict, Invalid, TooLarge, TooMany, not_found
from control_plane.kit.ids import new_id
from control_plane.media import kinds, links, service
from control_plane.media.models import Media, MediaState
from control_plane.media.storage import Storage, key_of

# A body that rests this long, or takes this long as a whole, is given up: 20 MiB need 70 KiB/s.
IDLE_S = 15.0
UPLOAD_S = 300.0
# Uploads that one process takes at once, each with a part or two in memory; and of one tenant,
# so that a slow one leaves room for the others.
MAX_UPLOADS = 16
MAX_UPLOADS_OF_TENANT = 4
_AGAIN_S = 1


@dataclass(kw_only=True)
class Intake:
    """A body on its way in: counted, hashed, its beginning kept."""

    size: int
    seen: int = 0
    head: bytes = b""
    hash: Any = field(default_factory=hashlib.sha256)

    async def of(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, as long as they come in time and are as many as was said."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UPLOAD_S
        while True:
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + IDLE_S)):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise BadRequest("upload_too_slow", "The bytes came too slowly.") from None
            self._take(chunk)
            yield chunk
        if self.seen < self.size:
            raise Invalid("smaller_than_declared", f"{self.size} bytes were announced.")

    def _take(self, chunk: bytes) -> None:
        self.seen += len(chunk)
        if self.seen > self.size:
            raise TooLarge("larger_than_declared", f"{self.size} bytes were announced.")
        self.hash.update(chunk)
        if len(self.head) < kinds.HEAD:
            self.head += chunk[: kinds.HEAD - len(self.head)]


class Transfers:
    """Takes and gives the bytes behind links."""

    def __init__(self, database: Database, storage: Storage, keys: Keyring, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._keys = keys
        self._clock = clock
        self._running: Counter[UUID] = Counter()

    async def receive(
        self, token: str, chunks: AsyncIterator[bytes], *, declared: int | None
    ) -> Media:
        """The bytes of a reservation; sending them again changes nothing."""
        tenant_id, media_id = links.read(self._keys, "upload", token, now=self._clock.now())
        media = await self._row(tenant_id, media_id)
        if declared is not None and declared > media.size:
            raise TooLarge("larger_than_declared", f"{media.size} bytes were announced.")
        with self._place(tenant_id):
            intake = Intake(size=media.size)
            if media.state == MediaState.STORED:
                async for _chunk in intake.of(chunks):
                    pass
            else:
                await self._store(media, intake, chunks)
        media = await self._row(tenant_id, media_id)
        if media.sha256 != intake.hash.digest():
            raise Conflict("already_stored", "Other bytes were stored under this reservation.")
        return media

    async def find(self, token: str, *, original: bool = False) -> Media:
        """The stored object behind a link, or what a browser plays instead of it."""
        tenant_id, media_id = links.read(self._keys, "download", token, now=self._clock.now())
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            find = service.get_stored if original else service.played
            return await find(session, media_id)

    async def give(self, media: Media, start: int, end: int) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `end`."""
        if media.attempt is None:
            raise not_found("media")
        key = key_of(media.tenant_id, media.id, media.attempt)
        return await self._storage.get(key, start, end)

    async def _store(self, media: Media, intake: Intake, chunks: AsyncIterator[bytes]) -> None:
        attempt = new_id()
        key = key_of(media.tenant_id, media.id, attempt)
        await self._storage.put(key, intake.of(chunks))
        async with self._database.session(Scope(tenants=(media.tenant_id,))) as session:
            settled = await service.settle(
                session,
                media.id,
                attempt=attempt,
                sha256=intake.hash.digest(),
                content_type=kinds.kind_of(intake.head),
                now=self._clock.now(),
            )
        if not settled:
            await self._storage.delete([key])

    async def _row(self, tenant_id: UUID, media_id: UUID) -> Media:
        async with self._database.session(Scope(tenants=(tenant_id,))) as session:
            return await service.get(session, media_id)

    @contextmanager
    def _place(self, tenant_id: UUID) -> Iterator[None]:
        full = self._running.total() >= MAX_UPLOADS
        if full or self._running[tenant_id] >= MAX_UPLOADS_OF_TENANT:
            raise TooMany("uploads_busy", "Too many uploads are running.", retry_after_s=_AGAIN_S)
        self._running[tenant_id] += 1
        try:
            yield
        finally:
            self._running[tenant_id] -= 1
            if not self._running[tenant_id]:
                del self._running[tenant_id]
