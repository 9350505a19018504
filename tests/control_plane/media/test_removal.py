"""What goes by itself, what is forgotten, and what a crash in between leaves behind."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from control_plane.db.session import Scope
from control_plane.kit.errors import Unavailable
from control_plane.kit.ids import new_id
from control_plane.media import removal, service
from control_plane.media.removal import ORPHAN_AGE, Removal
from control_plane.media.service import PENDING_LIFE, UNUSED_LIFE, WORK
from control_plane.media.storage import Storage, key_of
from control_plane.parts import Parts
from control_plane.tenants.life import REMOVAL
from tests.control_plane.conversations.scene import Worker
from tests.control_plane.media.conftest import PNG, Store, pieces


@pytest.fixture
def removing(parts: Parts) -> Removal:
    return Removal(parts.house.database, parts.storage, parts.house.clock)


@pytest.fixture
def remover(parts: Parts, removing: Removal) -> Worker:
    return Worker(parts.house.database, WORK, removing.remove)


@pytest.fixture
def sweeper(parts: Parts, removing: Removal) -> Worker:
    return Worker(parts.house.database, REMOVAL, removing.sweep)


class Held:
    """What storage and database hold for a tenant."""

    def __init__(self, storage: Storage, superuser: asyncpg.Connection, owner: Any) -> None:
        self._storage = storage
        self._superuser = superuser
        self._owner = owner

    async def objects(self) -> int:
        pages = [page async for page in self._storage.list(str(self._owner.tenant_id))]
        return sum(map(len, pages))

    async def rows(self) -> list[str]:
        return [row[0] for row in await self._superuser.fetch("SELECT state FROM media")]

    async def used(self) -> int:
        return await self._superuser.fetchval(
            "SELECT coalesce(sum(size), 0) FROM media WHERE tenant_id = $1", self._owner.tenant_id
        )


@pytest.fixture
def held(storage: Storage, superuser: asyncpg.Connection, owner: Any) -> Held:
    return Held(storage, superuser, owner)


class TestReservation:
    async def test_that_is_not_used_gives_its_bytes_back(
        self, store: Store, owner, clock, remover: Worker, held: Held
    ) -> None:
        await store.reserve(1000)
        before = await held.used()
        clock.advance(PENDING_LIFE)

        assert await remover.again(owner.tenant_id) is None
        assert (before, await held.used(), await held.rows()) == (1000, 0, [])

    async def test_is_left_alone_until_then(
        self, store: Store, owner, remover: Worker, held: Held
    ) -> None:
        await store.reserve(1000)

        assert await remover.again(owner.tenant_id) == PENDING_LIFE
        assert await held.rows() == ["pending"]

    async def test_of_a_full_plan_says_when_there_is_room_again(
        self, store: Store, owner, clock, remover: Worker, superuser: asyncpg.Connection
    ) -> None:
        await superuser.execute("""UPDATE tenants SET quota_overrides = '{"storage_bytes": 10}'""")
        await store.reserve(10)
        clock.advance(PENDING_LIFE)
        await remover.again(owner.tenant_id)

        said = await superuser.fetch(
            "SELECT data->>'state' FROM stream WHERE type = 'quota.changed' ORDER BY seq"
        )
        assert [row[0] for row in said] == ["near", "ok"]


class TestStored:
    async def test_that_no_message_uses_goes_after_a_day(
        self, store: Store, owner, clock, remover: Worker, held: Held
    ) -> None:
        await store.add()
        early = await remover.again(owner.tenant_id)
        kept = await held.objects()
        clock.advance(UNUSED_LIFE)
        await remover.again(owner.tenant_id)

        assert (early, kept) == (UNUSED_LIFE, 1)
        assert (await held.objects(), await held.rows(), await held.used()) == (0, [], 0)

    async def test_that_a_message_uses_stays(
        self, store: Store, parts: Parts, owner, clock, remover: Worker, held: Held
    ) -> None:
        media_id = UUID(await store.add())
        async with parts.house.database.session(Scope(tenants=(owner.tenant_id,))) as session:
            await service.use(session, [media_id])
        clock.advance(10 * UNUSED_LIFE)

        assert await remover.again(owner.tenant_id) is None
        assert (await held.objects(), await held.rows()) == (1, ["stored"])


class TestForgotten:
    @pytest.fixture
    async def media_id(self, store: Store, parts: Parts, owner) -> UUID:
        media_id = UUID(await store.add())
        async with parts.house.database.session(Scope(tenants=(owner.tenant_id,))) as session:
            assert await service.forget(session, [media_id]) == 1
            assert await service.forget(session, [media_id]) == 0
        return media_id

    async def test_is_removed_at_once(self, media_id: UUID, remover: Worker, held: Held) -> None:
        assert await remover.once() is None

        assert (await held.objects(), await held.rows()) == (0, [])

    async def test_stays_marked_while_storage_is_away(
        self, media_id: UUID, remover: Worker, held: Held, storage: Storage, monkeypatch
    ) -> None:
        async def away(keys: Any) -> None:
            raise Unavailable("storage_unavailable", "Away.")

        with monkeypatch.context() as patch:
            patch.setattr(storage, "delete", away)
            with pytest.raises(Unavailable):
                await remover.once()

        assert (await held.rows(), await held.objects()) == (["gone"], 1)
        assert await held.used() == len(PNG)

    async def test_is_removed_though_its_bytes_are_gone_already(
        self, media_id: UUID, remover: Worker, held: Held, storage: Storage, owner
    ) -> None:
        async for page in storage.list(str(owner.tenant_id)):
            await storage.delete([item.key for item in page])

        await remover.once()

        assert await held.rows() == []

    async def test_by_another_tenant_is_not_forgotten(
        self, store: Store, parts: Parts, people, held: Held
    ) -> None:
        media_id, other = UUID(await store.add()), await people.owner("Other")
        async with parts.house.database.session(Scope(tenants=(other.tenant_id,))) as session:
            assert await service.forget(session, [media_id]) == 0

        assert await held.rows() == ["stored"]


class TestSweep:
    """Objects carry the storage's own time, so the clock stands near it here."""

    @pytest.fixture(autouse=True)
    def now(self, clock) -> None:
        clock.time = datetime.now(UTC)

    async def test_removes_objects_that_no_row_names(
        self, store: Store, owner, storage: Storage, clock, sweeper: Worker, held: Held
    ) -> None:
        media_id = UUID(await store.add())
        for key in (
            key_of(owner.tenant_id, media_id, new_id()),  # an upload that lost
            key_of(owner.tenant_id, new_id(), new_id()),  # one that nobody settled
            f"{owner.tenant_id}/something-else",
        ):
            await storage.put(key, pieces(b"left behind"))
        young = await sweeper.again(owner.tenant_id), await held.objects()
        clock.advance(ORPHAN_AGE + timedelta(minutes=1))

        again = await sweeper.again(owner.tenant_id)

        assert young == (service.SWEEP_EVERY, 4)
        assert (again, await held.objects()) == (service.SWEEP_EVERY, 1)

    async def test_counts_rows_whose_object_is_missing_and_keeps_them(
        self, store: Store, owner, storage: Storage, clock, sweeper: Worker, held: Held
    ) -> None:
        await store.add()
        async for page in storage.list(str(owner.tenant_id)):
            await storage.delete([item.key for item in page])
        await store.add()
        clock.advance(ORPHAN_AGE + timedelta(minutes=1))
        before = removal.MISSING._value.get()

        await sweeper.again(owner.tenant_id)

        assert removal.MISSING._value.get() - before == 1
        assert await held.rows() == ["stored", "stored"]

    async def test_ends_when_nothing_is_left(
        self, store: Store, owner, sweeper: Worker, superuser: asyncpg.Connection
    ) -> None:
        await store.add()
        await superuser.execute("DELETE FROM media")

        assert await sweeper.again(owner.tenant_id) is None

    async def test_removes_everything_of_a_deleted_tenant(
        self, store: Store, people, owner, storage: Storage, clock, sweeper, remover, held: Held
    ) -> None:
        await store.add()
        other = await people.owner("Other")
        theirs = Store(store.client, other)
        await theirs.add()
        await storage.put(key_of(owner.tenant_id, new_id(), new_id()), pieces(b"left behind"))

        assert (await owner.delete(f"/tenants/{owner.tenant_id}")).status_code in {200, 202, 204}
        await sweeper.once()
        await remover.once()

        assert await held.objects() == 0
        assert await held.rows() == ["stored"]
        assert [page async for page in storage.list(str(other.tenant_id))]
