"""Watches that are lost, late and too old; the server here says what the test wants."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest

from control_plane.fleet.provision.base import Transient
from control_plane.fleet.provision.kubernetes_api import Listed
from control_plane.fleet.provision.kubernetes_errors import Expired
from control_plane.fleet.provision.kubernetes_mirror import Mirror

ONE, TWO = UUID(int=1), UUID(int=2)
PATIENCE_S = 30


@dataclass(frozen=True)
class Seen:
    instance_id: UUID
    uid: str
    colour: str


def live(instance_id: UUID, version: str, *, uid: str = "u", colour: str = "red") -> dict:
    meta = {"name": "n", "uid": uid, "resourceVersion": version, "id": str(instance_id)}
    return {"metadata": meta, "colour": colour}


def read(document: dict) -> Seen:
    meta = document["metadata"]
    return Seen(UUID(meta["id"]), meta["uid"], document["colour"])


class Server:
    """Answers lists and watches from a script; a watch without one stays open."""

    def __init__(self, lists: list[Listed], watches: list[list]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.quiet = asyncio.Event()

    async def list(self, where: str, selector: str) -> Listed:
        self.asked.append("list")
        return self.lists.pop(0)

    async def watch(
        self, where: str, selector: str, version: str
    ) -> AsyncIterator[tuple[str, dict]]:
        self.asked.append(version)
        script = self.watches.pop(0) if self.watches else None
        if script and isinstance(script[0], Exception):
            raise script[0]
        yield "OPENED", {}
        for event in script or []:
            if isinstance(event, Exception):
                raise event
            yield event
        if script is None:
            self.quiet.set()
            await asyncio.Event().wait()


class Watching:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.changed: list[UUID] = []
        self.mirror: Mirror[Seen] = Mirror(
            server, "Pod", "place=here", read=read, changed=self.changed.append
        )

    async def until_quiet(self) -> Mirror[Seen]:
        task = asyncio.create_task(self.mirror.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.server.quiet.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return self.mirror


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between tries."""

    async def sleep(_seconds: float) -> None:
        return None

    monkeypatch.setattr("control_plane.fleet.provision.kubernetes_mirror.asyncio.sleep", sleep)


def empty(version: str = "5") -> Listed:
    return Listed(items=[], version=version)


class TestMirror:
    """F7."""

    async def test_follows_what_it_listed(self) -> None:
        script = [("ADDED", live(TWO, "6", uid="v")), ("MODIFIED", live(ONE, "7", colour="blue"))]
        watching = Watching(Server([Listed(items=[live(ONE, "4")], version="5")], [script]))
        mirror = await watching.until_quiet()
        assert mirror.of(ONE) == [Seen(ONE, "u", "blue")]
        assert mirror.of(TWO) == [Seen(TWO, "v", "red")]
        assert watching.changed == [ONE, TWO, ONE]
        assert watching.server.asked == ["list", "5", "7"]

    async def test_takes_up_a_lost_watch_where_a_bookmark_left_it(self) -> None:
        script = [("BOOKMARK", {"metadata": {"resourceVersion": "9"}}), Transient("gone")]
        watching = Watching(Server([empty()], [script]))
        mirror = await watching.until_quiet()
        assert watching.server.asked == ["list", "5", "9"]
        assert mirror.synced

    async def test_is_not_believed_while_its_watch_is_lost(self) -> None:
        lost = [("BOOKMARK", {"metadata": {"resourceVersion": "6"}}), Transient("cut")]
        watching = Watching(Server([empty()], [lost]))
        before, after = [], []
        watch = watching.server.watch

        async def noting(where: str, selector: str, version: str):
            before.append(watching.mirror.synced)
            async for event in watch(where, selector, version):
                yield event
                after.append(watching.mirror.synced)

        watching.server.watch = noting
        await watching.until_quiet()
        assert before == [False, False]
        assert after == [True, True, True]

    @pytest.mark.parametrize("inside", [True, False])
    async def test_lists_once_when_its_place_is_too_old(self, inside: bool) -> None:
        too_old = [("BOOKMARK", {"metadata": {"resourceVersion": "6"}})] if inside else []
        lists = [Listed(items=[live(ONE, "4")], version="5"), Listed(items=[], version="20")]
        watching = Watching(Server(lists, [[*too_old, Expired("too old")]]))
        mirror = await watching.until_quiet()
        assert watching.server.asked == ["list", "5", "list", "20"]
        assert mirror.of(ONE) == []
        assert watching.changed == [ONE, ONE]

    async def test_forgets_what_was_deleted(self) -> None:
        script = [("DELETED", live(ONE, "6")), ("DELETED", live(TWO, "7"))]
        watching = Watching(Server([Listed(items=[live(ONE, "4")], version="5")], [script]))
        mirror = await watching.until_quiet()
        assert list(mirror) == []
        assert watching.changed == [ONE, ONE, TWO]

    async def test_hints_only_at_what_matters_here(self) -> None:
        script = [("MODIFIED", live(ONE, "6")), ("MODIFIED", live(ONE, "7"))]
        watching = Watching(Server([Listed(items=[live(ONE, "4")], version="5")], [script]))
        await watching.until_quiet()
        assert watching.changed == [ONE]

    async def test_one_object_that_it_cannot_read_hides_no_other(self) -> None:
        strange = {"metadata": {"name": "x", "uid": "w", "resourceVersion": "6"}}
        listed = Listed(items=[strange, live(ONE, "4")], version="5")
        watching = Watching(Server([listed], [[("ADDED", strange), ("ADDED", live(TWO, "7"))]]))
        mirror = await watching.until_quiet()
        assert {item.instance_id for item in mirror} == {ONE, TWO}
