"""A cell's objects as they are, held up to date by watches; what it does not know it says."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import structlog

from control_plane.fleet.provision.base import ProvisionError
from control_plane.fleet.provision.kubernetes_api import Cluster, path
from control_plane.fleet.provision.kubernetes_errors import Expired
from control_plane.fleet.provision.kubernetes_manifests import Document
from control_plane.kit.backoff import full_jitter
from control_plane.kit.metrics import LOOP_FAILURES, LOOP_SUCCESS

_AGAIN = timedelta(milliseconds=500)
_AGAIN_AT_MOST = timedelta(seconds=30)

log = structlog.get_logger()


class Item(Protocol):
    """What a mirror keeps of an object: the little that is needed, never the whole."""

    @property
    def instance_id(self) -> UUID: ...

    @property
    def uid(self) -> str: ...


Kept = TypeVar("Kept", bound=Item)


class Mirror(Generic[Kept]):
    """All objects of one kind with our labels."""

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        selector: str,
        *,
        read: Callable[[Document], Kept],
        changed: Callable[[UUID], None],
    ) -> None:
        self.name = f"fleet.{kind.lower()}s"
        self.synced = False
        self._cluster = cluster
        self._path = path(kind)
        self._selector = selector
        self._read = read
        self._changed = changed
        self._version = ""
        self._kept: dict[UUID, dict[str, Kept]] = {}
        self._failures = 0

    def of(self, instance_id: UUID) -> list[Kept]:
        """What there is of an instance; believe it only while `synced`."""
        return list(self._kept.get(instance_id, {}).values())

    def __iter__(self) -> Iterator[Kept]:
        return (item for items in self._kept.values() for item in items.values())

    async def run(self) -> None:
        """List once, then watch for ever; a lost watch goes on where it ended."""
        while True:
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
                LOOP_SUCCESS.labels(self.name).set_to_current_time()
            except Exception as error:  # whatever the server says, the loop outlives it
                self.synced = False
                if isinstance(error, Expired):
                    self._version = ""
                LOOP_FAILURES.labels(self.name).inc()
                log.warning(
                    "watch lost",
                    kind=self.name,
                    error=type(error).__name__,
                    detail=str(error)[:256] if isinstance(error, ProvisionError) else "",
                )
                pause = full_jitter(self._failures, base=_AGAIN, cap=_AGAIN_AT_MOST)
                self._failures += 1
                await asyncio.sleep(pause.total_seconds())

    async def _relist(self) -> None:
        listed = await self._cluster.list(self._path, self._selector)
        before, self._kept = self._kept, {}
        for live in listed.items:
            if (item := self._readable(live)) is None:
                continue
            self._kept.setdefault(item.instance_id, {})[item.uid] = item
        self._version = listed.version
        for instance_id in before.keys() | self._kept.keys():
            if before.get(instance_id) != self._kept.get(instance_id):
                self._changed(instance_id)

    async def _follow(self) -> None:
        async for what, live in self._cluster.watch(self._path, self._selector, self._version):
            if what == "OPENED":
                self.synced, self._failures = True, 0
                continue
            self._version = live["metadata"]["resourceVersion"]
            if what != "BOOKMARK":
                self._take(what, live)

    def _readable(self, live: Document) -> Kept | None:
        try:
            return self._read(live)
        except (KeyError, ValueError, TypeError):
            # Somebody's object with our labels: it must not hide the others.
            log.warning("object not understood", kind=self.name, name=live["metadata"].get("name"))
            return None

    def _take(self, what: str, live: Document) -> None:
        if (item := self._readable(live)) is None:
            return
        mine = self._kept.setdefault(item.instance_id, {})
        before = mine.pop(item.uid, None)
        if what != "DELETED":
            mine[item.uid] = item
        elif not mine:
            del self._kept[item.instance_id]
        if what == "DELETED" or before != item:
            self._changed(item.instance_id)


def soon(every: timedelta) -> float:
    """Seconds until the next round, give or take a tenth: replicas do not go in step."""
    return every.total_seconds() * random.uniform(0.9, 1.1)  # noqa: S311
