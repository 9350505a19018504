"""Hints that something may have changed: small, lossy, and never in the way of who gives them."""

import asyncio
from typing import Self
from uuid import UUID
from weakref import WeakSet

MAX_WAITING = 10_000
"""Ids that wait for one reader; beyond it hints are dropped, the periodic look finds them."""


class HintReader:
    """Yields every hinted instance once, however often it was hinted in the meantime."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, None] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, instance_id: UUID) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting[instance_id] = None
            self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UUID:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        instance_id = next(iter(self._waiting))
        del self._waiting[instance_id]
        return instance_id


class Hints:
    """Where hints are given; a reader that is dropped takes its queue with it."""

    def __init__(self) -> None:
        self._readers: WeakSet[HintReader] = WeakSet()

    def reader(self) -> HintReader:
        reader = HintReader()
        self._readers.add(reader)
        return reader

    def put(self, instance_id: UUID) -> None:
        for reader in tuple(self._readers):
            reader.put(instance_id)

    def close(self) -> None:
        for reader in tuple(self._readers):
            reader.close()
