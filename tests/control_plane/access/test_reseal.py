"""Taking a new key into use, killed at any moment, without losing a secret."""

import asyncpg
import pytest

from control_plane.access import reseal
from control_plane.access.reseal import NO_TENANT, SEALED, WORK, Census, Resealer
from control_plane.db.leases import LeaseLost
from control_plane.kit.crypto import Keyring
from control_plane.kit.ids import new_id
from tests.control_plane.conversations.scene import Bot, Worker, make_bot

NEW = "the-new-key-of-these-tests-has-enough-characters"
OLD = "the-key-of-these-tests-has-enough-characters"
NOT_SEALED = {
    ("audit", "hash"),
    ("audit_heads", "anchor_hash"),
    ("audit_heads", "hash"),
    ("batches", "sha256"),
    ("callbacks", "body"),
    ("callbacks", "trace"),
    ("conversations", "trace"),
    ("credentials", "sha256"),
    ("deliveries", "trace"),
    ("idempotency", "body"),
    ("idempotency", "request_sha256"),
    ("media", "sha256"),
    ("messages", "trace"),
    ("received", "sha256"),
    ("rejected_events", "body"),
    ("routes", "sha256"),
    ("webchat_visitors", "secret_sha256"),
}
"""Columns of bytes that hold no secret of anybody, or what arrived before it was looked at."""


@pytest.fixture
async def bots(parts, people) -> list[Bot]:
    """Two tenants' bots, each with an agent and a webhook secret."""
    made = [await make_bot(parts, await people.owner()) for _ in range(2)]
    for bot in made:
        await bot.attach("http://127.0.0.1:1", new_id())
    return made


@pytest.fixture
async def secrets(bots, superuser: asyncpg.Connection, keys) -> None:
    """A sealed credential for each tenant, and one of nobody's."""
    for tenant_id in (*(bot.tenant_id for bot in bots), None):
        await superuser.execute(
            "INSERT INTO credentials (id, kind, sealed, tenant_id, created_at)"
            " VALUES ($1, 'webhook', $2, $3, now())",
            new_id(),
            keys.seal(b"whsec"),
            tenant_id,
        )


@pytest.fixture
def rotated() -> Keyring:
    return Keyring([NEW, OLD])


async def sealed(superuser: asyncpg.Connection) -> list[bytes]:
    rows = []
    for table, column in SEALED:
        found = await superuser.fetch(f"SELECT {column} FROM {table} ORDER BY id")  # noqa: S608
        rows += [row[0] for row in found if row[0] is not None]
    return rows


class TestReseal:
    async def test_every_value_ends_under_the_newest_key_and_opens_as_before(
        self, database, superuser, keys, rotated, secrets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reseal, "BATCH", 1)
        before = [keys.open(value) for value in await sealed(superuser)]
        assert await reseal.census(database, rotated) == Census(total=7, older=7)

        assert await reseal.call_all(database) == 2
        await Worker(database, WORK, Resealer(database, rotated).reseal).all()

        assert await reseal.census(database, rotated) == Census(total=7)
        alone = Keyring([NEW])
        assert [alone.open(value) for value in await sealed(superuser)] == before
        assert await superuser.fetchval("SELECT count(*) FROM work WHERE kind = $1", WORK) == 0

    async def test_what_is_done_already_is_not_touched_again(
        self, database, superuser, rotated, secrets
    ) -> None:
        worker = Worker(database, WORK, Resealer(database, rotated).reseal)
        await reseal.call_all(database)
        await worker.all()
        first = await sealed(superuser)

        await reseal.call_all(database)
        await worker.all()

        assert await sealed(superuser) == first

    async def test_a_worker_that_lost_its_lease_changes_nothing(
        self, database, superuser, rotated, secrets
    ) -> None:
        before = await sealed(superuser)
        resealer = Resealer(database, rotated)
        await reseal.call_all(database)
        lease = await Worker(database, WORK, resealer.reseal).claim()
        assert lease is not None
        await superuser.execute("UPDATE work SET token = gen_random_uuid()")

        with pytest.raises(LeaseLost):
            await resealer.reseal(lease)

        assert await sealed(superuser) == before

    async def test_after_a_kill_half_way_the_rest_follows(
        self, database, superuser, rotated, secrets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resealer = Resealer(database, rotated)
        await reseal.call_all(database)
        monkeypatch.setattr(reseal, "SEALED", SEALED[:1])
        worker = Worker(database, WORK, resealer.reseal)
        await worker.all()
        assert (await reseal.census(database, rotated)).older == 0
        monkeypatch.undo()
        assert (await reseal.census(database, rotated)).older == 5

        await reseal.call_all(database)
        await worker.all()

        assert (await reseal.census(database, rotated)).older == 0

    async def test_a_value_of_an_unknown_key_is_counted_and_left(
        self, database, superuser, rotated, secrets
    ) -> None:
        stranger = Keyring(["a key that nobody put on the list" * 2]).seal(b"x")
        await superuser.execute("UPDATE agent_sessions SET api_token = $1", stranger)
        await reseal.call_all(database)
        await Worker(database, WORK, Resealer(database, rotated).reseal).all()

        assert await reseal.census(database, rotated) == Census(total=7, lost=2)
        assert await superuser.fetchval("SELECT DISTINCT api_token FROM agent_sessions") == stranger

    async def test_the_rows_of_nobody_have_work_of_their_own(self, database, superuser) -> None:
        await reseal.call_all(database)

        assert await superuser.fetchval("SELECT key FROM work WHERE kind = $1", WORK) == NO_TENANT


class TestSealed:
    async def test_no_column_of_bytes_is_forgotten(self, superuser: asyncpg.Connection) -> None:
        found = await superuser.fetch(
            "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a"
            " ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
            " AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND a.atttypid = 'bytea'::regtype AND NOT a.attisdropped"
        )

        assert {tuple(row) for row in found} == set(SEALED) | NOT_SEALED
