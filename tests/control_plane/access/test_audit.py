"""The audit: chained, masked, readable by few, verifiable, and kept for its time."""

import asyncio
import hashlib
import json
from datetime import timedelta

import asyncpg
import pytest

from control_plane.access import audit, trail
from control_plane.access.permissions import Role
from control_plane.db.session import Scope, before_commit
from control_plane.kit.ids import new_id
from tests.conftest import PASSWORD

CANONICAL = """
SELECT seq, hash, jsonb_build_array(seq, id, tenant_id,
    (extract(epoch FROM at) * 1000000)::bigint, actor_kind, actor_id, action, target_kind,
    target_id, before, after)::text AS text
FROM audit WHERE tenant_id = $1 ORDER BY seq
"""


def record(session, tenant_id, clock, action: str, **more) -> None:
    audit.record(
        session,
        actor=None,
        tenant_id=tenant_id,
        action=action,
        target=("thing", new_id()),
        now=clock.now(),
        **more,
    )


async def note(database, tenant_id, clock, action: str = "thing.change", **more) -> None:
    async with database.session() as session:
        record(session, tenant_id, clock, action, **more)


async def verdicts(database) -> dict:
    return {item.tenant_id: item async for item in trail.verify(database)}


def unlocked(statement: str) -> str:
    """The same as a superuser who switches triggers off."""
    return f"SET session_replication_role = replica; {statement}"


class TestChain:
    async def test_each_hash_covers_the_row_and_the_hash_before_it(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        for number in range(3):
            await note(database, tenant, clock, after={"n": number, "text": "茶", "f": 1.5e300})
        before = b""

        rows = await superuser.fetch(CANONICAL, tenant)

        assert [row["seq"] for row in rows] == [1, 2, 3]
        for row in rows:
            before = hashlib.sha256(before + row["text"].encode()).digest()
            assert row["hash"] == before

    async def test_nobody_chooses_their_place(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        await note(database, tenant, clock)
        async with database.session(Scope(tenants=(tenant,))) as session:
            entry = audit.AuditEntry(
                id=new_id(),
                tenant_id=tenant,
                seq=77,
                hash=b"forged",
                at=clock.now(),
                actor_kind="system",
                action="x",
                target_kind="thing",
            )
            session.add(entry)

        assert await superuser.fetchval("SELECT max(seq) FROM audit") == 2
        assert (await verdicts(database))[tenant].broken is None

    async def test_many_writers_at_once_make_one_chain(self, database, clock) -> None:
        first, second = sorted((new_id(), new_id()))

        async def both(one, other) -> None:
            async with database.session() as session:
                for tenant in (one, other):
                    record(session, tenant, clock, "x")

        await asyncio.gather(*(both(first, second) for _ in range(6)))
        await asyncio.gather(*(both(*pair) for pair in [(first, second), (second, first)] * 5))

        found = await verdicts(database)
        assert [(found[t].entries, found[t].broken) for t in (first, second)] == [(16, None)] * 2

    async def test_what_is_rolled_back_leaves_no_gap(self, database, clock) -> None:
        tenant = new_id()
        await note(database, tenant, clock)

        async def fails(_session) -> None:
            raise RuntimeError("too late")

        async def lose() -> None:
            async with database.session() as session:
                record(session, tenant, clock, "lost")
                before_commit(session, fails)

        with pytest.raises(RuntimeError, match="too late"):
            await lose()
        await note(database, tenant, clock)

        assert (await verdicts(database))[tenant].entries == 2
        assert (await verdicts(database))[tenant].broken is None


class TestVerify:
    @pytest.mark.parametrize(
        ("damage", "broken"),
        [
            ("UPDATE audit SET action = 'other' WHERE seq = 2", 2),
            ("UPDATE audit SET at = at + interval '1 second' WHERE seq = 3", 3),
            ("UPDATE audit SET after = '{}' WHERE seq = 4", 4),
            ("UPDATE audit SET actor_id = gen_random_uuid() WHERE seq = 1", 1),
            ("DELETE FROM audit WHERE seq = 1", 1),
            ("DELETE FROM audit WHERE seq = 3", 3),
            ("DELETE FROM audit WHERE seq >= 3", 3),
            ("DELETE FROM audit", 1),
            ("UPDATE audit SET hash = '\\x00' WHERE seq = 2", 2),
            ("UPDATE audit_heads SET hash = '\\x00'", 4),
            ("DELETE FROM audit_heads", 5),
        ],
    )
    async def test_says_the_first_row_that_is_wrong(
        self, database, superuser: asyncpg.Connection, clock, damage: str, broken: int
    ) -> None:
        tenant = new_id()
        for _ in range(4):
            await note(database, tenant, clock, after={"x": 1})
        await superuser.execute(unlocked(damage))

        assert (await verdicts(database))[tenant].broken == broken

    async def test_finds_what_was_hashed_again_after_a_change(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        for _ in range(3):
            await note(database, tenant, clock)
        await superuser.execute(
            unlocked(
                "UPDATE audit SET action = 'other' WHERE seq = 2;"
                "UPDATE audit AS a SET hash = audit_hash(b.hash, a) FROM audit AS b"
                " WHERE a.seq = 2 AND b.seq = 1"
            )
        )

        assert (await verdicts(database))[tenant].broken == 3

    async def test_one_tenants_damage_is_not_anothers(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        mine, theirs = new_id(), new_id()
        await note(database, mine, clock, after={"of": "mine"})
        await note(database, theirs, clock)
        await superuser.execute(unlocked("UPDATE audit SET action = 'x' WHERE after ? 'of'"))

        found = await verdicts(database)
        assert (found[mine].broken, found[theirs].broken) == (1, None)


class TestRetention:
    async def test_removes_the_old_beginning_and_the_rest_verifies(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant, young = new_id(), new_id()
        for _ in range(3):
            await note(database, tenant, clock)
        clock.advance(timedelta(days=50))
        for each in (tenant, tenant, young):
            await note(database, each, clock)

        for limit, gone in ((2, 2), (10, 1), (10, 0)):
            assert gone == await superuser.fetchval(
                "SELECT prune_audit($1, $2)", clock.now() - timedelta(days=1), limit
            )

        found = await verdicts(database)
        assert [(found[t].entries, found[t].broken) for t in (tenant, young)] == [
            (2, None),
            (1, None),
        ]

    async def test_an_entry_with_a_wrong_old_time_waits_for_those_before_it(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        await note(database, tenant, clock)
        clock.advance(timedelta(days=-100))
        await note(database, tenant, clock)

        removed = await superuser.fetchval(
            "SELECT prune_audit($1, 10)", clock.now() + timedelta(days=50)
        )

        assert removed == 0

    async def test_what_is_left_cannot_lose_its_beginning_unseen(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        for _ in range(4):
            await note(database, tenant, clock)
            clock.advance(timedelta(days=1))
        await superuser.fetchval("SELECT prune_audit($1, 2)", clock.now())
        await superuser.execute(unlocked("DELETE FROM audit WHERE seq = 3"))

        assert (await verdicts(database))[tenant].broken == 3

    async def test_a_chain_that_was_removed_whole_goes_on(
        self, database, superuser: asyncpg.Connection, clock
    ) -> None:
        tenant = new_id()
        await note(database, tenant, clock)
        clock.advance(timedelta(days=1))
        await superuser.fetchval("SELECT prune_audit($1, 10)", clock.now())
        assert (await verdicts(database))[tenant].broken is None

        await note(database, tenant, clock)

        assert await superuser.fetchval("SELECT seq FROM audit") == 2
        assert (await verdicts(database))[tenant].broken is None


class TestMasked:
    def test_hides_what_is_called_a_secret_however_deep(self) -> None:
        given = {
            "name": "Site",
            "password": "p",
            "llm": {"api_key": "k", "max_tokens": 5, "headers": [{"Authorization": "b"}]},
            "webhookSecret": {"a": "b"},
            "access_token": None,
        }

        assert audit.masked(given) == {
            "name": "Site",
            "password": "***",
            "llm": {"api_key": "***", "max_tokens": 5, "headers": [{"Authorization": "***"}]},
            "webhookSecret": "***",
            "access_token": None,
        }


class TestRoutes:
    async def test_owner_and_admin_read_it_and_others_do_not(self, people) -> None:
        owner = await people.owner()
        answers = {Role.OWNER: await owner.get("/audit")}
        for role in (Role.ADMIN, Role.MEMBER, Role.VIEWER):
            answers[role] = await (await people.member(owner.tenant_id, role)).get("/audit")

        assert {role: answer.status_code for role, answer in answers.items()} == {
            Role.OWNER: 200,
            Role.ADMIN: 200,
            Role.MEMBER: 403,
            Role.VIEWER: 403,
        }
        [entry] = answers[Role.OWNER].json()["items"]
        assert (entry["seq"], entry["action"], len(entry["hash"])) == (1, "tenant.register", 64)

    async def test_filters_and_pages(self, people, house, clock) -> None:
        owner = await people.owner()
        start = clock.now()
        for action in ("a.one", "a.two", "a.one"):
            clock.advance(timedelta(minutes=1))
            await note(house.database, owner.tenant_id, clock, action)

        async def seqs(**params) -> list[int]:
            answer = await owner.get("/audit", params=params)
            assert answer.status_code == 200
            return [item["seq"] for item in answer.json()["items"]]

        assert await seqs(action="a.one") == [4, 2]
        assert await seqs(since=(start + timedelta(minutes=2)).isoformat()) == [4, 3]
        assert await seqs(until=(start + timedelta(minutes=2)).isoformat()) == [2, 1]
        assert await seqs(target_kind="tenant", target_id=str(owner.tenant_id)) == [1]
        assert await seqs(actor_id=str(owner.identity_id)) == []
        first = (await owner.get("/audit", params={"limit": 3})).json()
        assert [item["seq"] for item in first["items"]] == [4, 3, 2]
        assert await seqs(limit=3, cursor=first["next"]) == [1]

    async def test_a_tenant_sees_its_own_only_and_operators_the_platforms(
        self, people, house, clock
    ) -> None:
        owner, other = await people.owner(), await people.owner()
        operator = await people.operator()
        await note(house.database, audit.PLATFORM, clock, "operator.create")
        await note(house.database, other.tenant_id, clock, "theirs")

        mine = (await owner.get("/audit")).json()["items"]
        platforms = (await operator.get("/audit")).json()["items"]

        assert [item["action"] for item in mine] == ["tenant.register"]
        assert [item["action"] for item in platforms] == ["operator.create"]

    async def test_the_export_has_every_line(self, people, house, clock, monkeypatch) -> None:
        monkeypatch.setattr(trail, "BATCH", 2)
        owner = await people.owner()
        for _ in range(4):
            await note(house.database, owner.tenant_id, clock, "a.one")

        answer = await owner.get("/audit/export")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        listed = (await owner.get("/audit")).json()["items"]
        some = await owner.get("/audit/export", params={"action": "a.one"})

        assert answer.headers["content-type"] == "application/x-ndjson"
        assert lines == listed[::-1]
        assert len(some.text.splitlines()) == 4

    async def test_the_export_needs_the_permission(self, people) -> None:
        owner = await people.owner()
        member = await people.member(owner.tenant_id, Role.MEMBER)

        assert (await member.get("/audit/export")).status_code == 403


class TestSignIn:
    async def test_success_failure_reuse_and_sign_out_are_written_down(
        self, people, client, superuser: asyncpg.Connection
    ) -> None:
        owner = await people.owner()
        url = "/api/v1/auth"
        for password in (PASSWORD, "not the password at all"):
            await client.post(f"{url}/login", json={"email": owner.email, "password": password})
        await client.post(f"{url}/login", json={"email": owner.email, "password": PASSWORD})
        spent = client.cookies["botyard_refresh"]
        await client.post(f"{url}/logout")
        client.cookies.clear()
        await client.post(f"{url}/login", json={"email": owner.email, "password": PASSWORD})
        again = client.cookies["botyard_refresh"]
        await client.post(f"{url}/refresh")
        client.cookies.clear()
        headers = {"cookie": f"botyard_refresh={again}"}
        reused = await client.post(f"{url}/refresh", headers=headers)

        rows = await superuser.fetch(
            "SELECT action, actor_kind, actor_id, target_id FROM audit WHERE tenant_id = $1"
            " ORDER BY seq",
            owner.tenant_id,
        )
        me = owner.identity_id
        assert reused.json()["code"] == "refresh_token_reused"
        assert spent
        assert [tuple(row) for row in rows][1:] == [
            ("sign_in.success", "person", me, me),
            ("sign_in.failure", "system", None, me),
            ("sign_in.success", "person", me, me),
            ("sign_out", "person", me, me),
            ("sign_in.success", "person", me, me),
            ("sign_in.reused", "system", None, me),
        ]

    async def test_strangers_and_operators_are_the_platforms(
        self, people, client, superuser: asyncpg.Connection
    ) -> None:
        operator = await people.operator()
        for email in ("nobody@example.com", operator.email):
            body = {"email": email, "password": PASSWORD}
            await client.post("/api/v1/auth/login", json=body)

        rows = await superuser.fetch(
            "SELECT action, actor_kind, actor_id, after::text FROM audit WHERE tenant_id = $1"
            " ORDER BY seq",
            audit.PLATFORM,
        )

        assert [tuple(row)[:3] for row in rows] == [
            ("sign_in.failure", "system", None),
            ("sign_in.success", "operator", operator.identity_id),
        ]
        assert json.loads(rows[0]["after"]) == {"email": "n***@example.com"}
