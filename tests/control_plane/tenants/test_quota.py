"""Plans and quotas: what is refused, what is told, and what customers never notice."""

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime

import pytest

from control_plane.access.permissions import Role
from control_plane.db import leases
from control_plane.db.session import Database, Scope, driver
from control_plane.instances import service as instances
from control_plane.kit.ids import new_id
from control_plane.tenants import plans, quota
from control_plane.tenants.quota import COUNTING, Level, month_of
from control_plane.turns import worker as turns
from control_plane.turns.worker import Turns
from tests.conftest import People, Person
from tests.control_plane.conversations.scene import Worker, make_bot, until_blocked

PLAN = {
    "instances": 2,
    "channels": 4,
    "members": 2,
    "messages_month": 10,
    "storage_bytes": 0,
    "pod_cpu": 100,
    "pod_memory": 96 * 2**20,
    "egress_allow": ["api.example.com"],
    "hibernate_after": 0,
}
_COUNTING_PLAN = f"""
EXPLAIN WITH arrived AS (SELECT $1::uuid AS tenant_id, 202611 AS month, 1 AS n), {COUNTING}
SELECT * FROM counted
"""  # noqa: S608 - our own constant


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def allow(people: People, owner: Person, **overrides: int) -> None:
    operator = await people.operator()
    answer = await operator.patch(f"/tenants/{owner.tenant_id}", {"quota_overrides": overrides})
    assert answer.status_code == 200, answer.text


async def level(person: Person, name: str) -> tuple[int, int, str]:
    items = (await person.get("/quota")).json()["items"]
    return next((i["used"], i["limit"], i["state"]) for i in items if i["name"] == name)


async def told(superuser) -> list[tuple[str, str]]:
    rows = await superuser.fetch(
        "SELECT data->>'quota', data->>'state' FROM stream WHERE type = 'quota.changed'"
        " ORDER BY seq"
    )
    return [tuple(row) for row in rows]


class TestLevel:
    @pytest.mark.parametrize(
        ("used", "limit", "state"),
        [
            (0, 5, "ok"),
            (3, 5, "ok"),
            (4, 5, "near"),
            (5, 5, "near"),
            (6, 5, "over"),
            (1, 0, "over"),
        ],
    )
    def test_is_near_from_four_fifths_and_over_beyond(
        self, used: int, limit: int, state: str
    ) -> None:
        assert Level(name="x", used=used, limit=limit).state == state

    @pytest.mark.parametrize("limit", [0, 1, 2, 5, 10, 33, 10_000])
    def test_knows_with_which_use_it_is_another(self, limit: int) -> None:
        levels = [Level(name="x", used=used, limit=limit) for used in range(limit + 2)]
        changes = [b.used for a, b in itertools.pairwise(levels) if a.state != b.state]

        for level in levels:
            assert level.next_at == next((c for c in changes if c > level.used), None)

    def test_counts_by_calendar_month(self) -> None:
        assert month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == 202612


class TestPlans:
    async def test_are_three_to_begin_with(self, people: People) -> None:
        owner = await people.owner()

        found = {p["name"]: p["quotas"] for p in (await owner.get("/plans")).json()}

        counted = ("instances", "channels", "members", "messages_month")
        assert found.keys() == {"free", "standard", "business"}
        assert [found["free"][name] for name in counted] == [5, 20, 20, 10_000]
        assert [found["standard"][name] for name in counted] == [10, 50, 50, 50_000]

    async def test_are_written_by_operators_only(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        body = {"name": "tiny", "quotas": PLAN}

        assert code(await owner.post("/plans", body)) == (403, "forbidden")
        assert code(await owner.patch("/plans/free", {"quotas": {}})) == (403, "forbidden")
        assert (await operator.post("/plans", body)).status_code == 201
        assert code(await operator.post("/plans", body)) == (409, "plan_exists")
        changed = await operator.patch("/plans/tiny", {"quotas": {"members": 9}})
        assert changed.json()["quotas"] == PLAN | {"members": 9}

    async def test_are_behind_a_wall_of_the_database_too(
        self, people: People, database: Database
    ) -> None:
        owner = await people.owner()
        scopes = [Scope(tenants=(owner.tenant_id,)), Scope(), Scope(operator=True)]
        done = []
        for scope in scopes:
            async with database.session(scope) as session:
                connection = await driver(session)
                assert await connection.fetchval("SELECT count(*) FROM plans") == 3
                done.append(await connection.execute("UPDATE plans SET updated_at = now()"))

        assert done == ["UPDATE 0", "UPDATE 0", "UPDATE 3"]

    async def test_are_given_to_tenants_by_name(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        path = f"/tenants/{owner.tenant_id}"
        await operator.post("/plans", {"name": "tiny", "quotas": PLAN})

        missing = await operator.patch(path, {"plan": "none"})
        given = await operator.patch(path, {"plan": "tiny", "quota_overrides": {"members": 7}})

        assert code(missing) == (404, "plan_not_found")
        assert given.json()["plan"] == "tiny"
        shown = (await owner.get("/quota")).json()
        assert shown["plan"] == "tiny"
        assert shown["quotas"] == PLAN | {"members": 7}

    async def test_nobody_gives_themselves_another(self, people: People) -> None:
        owner = await people.owner()

        answer = await owner.patch(f"/tenants/{owner.tenant_id}", {"plan": "free"})

        assert code(answer) == (403, "forbidden")

    async def test_a_smaller_one_takes_nothing_away_but_is_told(
        self, people: People, superuser
    ) -> None:
        owner, operator = await people.owner(), await people.operator()
        for name in "ABCDEF":
            await owner.post("/instances", {"name": name})

        await operator.patch(f"/tenants/{owner.tenant_id}", {"plan": "free"})

        assert await level(owner, "instances") == (6, 5, "over")
        assert await told(superuser) == [("instances", "over")]
        assert code(await owner.post("/instances", {"name": "C"})) == (409, "quota_exceeded")


class TestInstances:
    async def test_fifty_at_once_make_exactly_as_many_as_there_is_room_for(
        self, people: People, superuser
    ) -> None:
        owner = await people.owner()
        await allow(people, owner, instances=5)

        answers = await asyncio.gather(
            *(owner.post("/instances", {"name": f"Bot {n}"}) for n in range(50))
        )

        assert Counter(answer.status_code for answer in answers) == {201: 5, 409: 45}
        assert {code(a) for a in answers if a.status_code == 409} == {(409, "quota_exceeded")}
        assert await superuser.fetchval("SELECT count(*) FROM instances") == 5
        assert await told(superuser) == [("instances", "near")]

    async def test_one_that_is_deleted_makes_room_and_that_is_told(
        self, people: People, superuser
    ) -> None:
        owner = await people.owner()
        await allow(people, owner, instances=1)
        made = (await owner.post("/instances", {"name": "A"})).json()

        await owner.delete(f"/instances/{made['id']}")

        assert await told(superuser) == [("instances", "near"), ("instances", "ok")]
        assert (await owner.post("/instances", {"name": "B"})).status_code == 201


class TestChannels:
    async def test_are_counted_over_all_instances(self, people: People) -> None:
        owner = await people.owner()
        await allow(people, owner, channels=2)
        bots = [(await owner.post("/instances", {"name": name})).json()["id"] for name in "AB"]
        body = {"kind": "webchat", "name": "Site"}
        made = [await owner.post(f"/instances/{bot}/channels", body) for bot in bots]

        full = await owner.post(f"/instances/{bots[0]}/channels", body)
        await owner.delete(f"/channels/{made[0].json()['id']}")
        again = await owner.post(f"/instances/{bots[1]}/channels", body)

        assert code(full) == (409, "quota_exceeded")
        assert again.status_code == 201


class TestMembers:
    async def test_an_open_invitation_holds_a_place(self, people: People) -> None:
        owner = await people.owner()
        await allow(people, owner, members=2)
        first = await owner.post("/invitations", {"email": "a@example.com", "role": "viewer"})

        full = await owner.post("/invitations", {"email": "b@example.com", "role": "viewer"})
        assert await level(owner, "members") == (2, 2, "near")
        await owner.delete(f"/invitations/{first.json()['id']}")

        assert code(full) == (409, "quota_exceeded")
        assert await level(owner, "members") == (1, 2, "ok")


class TestMessages:
    async def test_over_the_quota_are_stored_and_the_bot_hands_over(
        self, parts, people: People, superuser
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        items = [{"question": "Open?", "answer": "Always."}]
        await bot.owner.call("PUT", "/answers", json={"items": items})
        await allow(people, bot.owner, messages_month=5)
        turning = Turns(parts.house.database, parts.house.keys, parts.house.clock, parts.agents)
        worker = Worker(parts.house.database, turns.WORK, turning.run)

        within = await bot.hears(*["Open?"] * 5, key="lin")
        await worker.all()
        beyond = await bot.hears("Open?", key="wu")
        await worker.all()

        assert await told(superuser) == [("messages_month", "near"), ("messages_month", "over")]
        assert await level(bot.owner, "messages_month") == (6, 5, "over")
        assert (await bot.texts(within))[-1] == ("bot", "Always.")
        assert (await bot.texts(beyond))[0] == ("contact", "Open?")
        shown = (await bot.owner.get(f"/conversations/{beyond}")).json()
        assert (shown["owner"], shown["waiting_reason"]) == ("waiting", "over_quota")

    async def test_begin_anew_with_the_month(self, parts, people: People, clock) -> None:
        bot = await make_bot(parts, await people.owner())
        await bot.hears("a", "b")
        clock.time = datetime(2026, 2, 1, tzinfo=UTC)
        await bot.hears("c")

        # The owner's sign-in is of last month.
        viewer = await people.member(bot.tenant_id, Role.VIEWER)
        assert (await level(viewer, "messages_month"))[0] == 1

    async def test_are_held_against_the_limit_that_a_tenant_has_by_then(
        self, parts, people: People, superuser
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        await allow(people, bot.owner, messages_month=100)
        await bot.hears("a", "b", "c")
        await allow(people, bot.owner, messages_month=5)
        assert await told(superuser) == []

        await bot.hears("d")
        await bot.hears("e", "f")
        await allow(people, bot.owner, messages_month=9)
        await bot.hears("g")
        await bot.hears("h")

        states = [state for quota, state in await told(superuser) if quota == "messages_month"]
        assert states == ["near", "over", "ok", "near"]

    async def test_are_held_against_the_plan_as_it_is_by_then(
        self, parts, people: People, superuser
    ) -> None:
        bot, operator = await make_bot(parts, await people.owner()), await people.operator()
        await operator.post("/plans", {"name": "tiny", "quotas": PLAN | {"instances": 9}})
        await operator.patch(f"/tenants/{bot.tenant_id}", {"plan": "tiny"})
        await bot.hears("a", "b", "c")
        await operator.patch("/plans/tiny", {"quotas": {"messages_month": 5}})

        await bot.hears("d")

        assert ("messages_month", "near") in await told(superuser)

    async def test_are_looked_at_again_when_a_month_begins_while_the_limit_changes(
        self, parts, people: People, superuser
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        month = month_of(parts.house.clock.now())
        await allow(people, bot.owner, messages_month=100)
        await superuser.execute("DELETE FROM message_counts")
        async with parts.house.database.session(Scope(tenants=(bot.tenant_id,))) as session:
            await quota.count_messages(session, {(bot.tenant_id, month): 3})
            lowered = asyncio.create_task(allow(people, bot.owner, messages_month=5))
            await until_blocked(superuser)
        await lowered

        await bot.hears("d")

        assert await told(superuser) == [("messages_month", "near")]

    async def test_are_counted_while_the_limit_changes_and_nobody_waits_in_a_circle(
        self, parts, people: People, superuser
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        await bot.hears("a")
        month = month_of(parts.house.clock.now())
        async with parts.house.database.session(Scope(tenants=(bot.tenant_id,))) as session:
            await leases.call(session, instances.WORK, [(bot.instance_id, bot.tenant_id)])
            lowered = asyncio.create_task(allow(people, bot.owner, messages_month=5))
            await until_blocked(superuser)
            await quota.count_messages(session, {(bot.tenant_id, month): 1})
        await lowered

        assert await level(bot.owner, "messages_month") == (2, 5, "ok")


class TestCounting:
    async def test_looks_no_limit_up(self, database: Database) -> None:
        """Every message that comes in pays for it."""
        async with database.plain() as session:
            plan = await (await driver(session)).fetch(_COUNTING_PLAN, new_id())
        assert not [line for (line,) in plan if "plans" in line or "tenants" in line]

    async def test_holds_few_counts_against_their_limit(
        self, parts, people: People, monkeypatch
    ) -> None:
        bot = await make_bot(parts, await people.owner())
        await allow(people, bot.owner, messages_month=10)
        seen = []
        look = quota._look

        async def counted(session, rows, counts):
            seen.extend(received for _, _, received in rows)
            return await look(session, rows, counts)

        monkeypatch.setattr(quota, "_look", counted)
        for number in range(14):
            await bot.hears(f"Number {number}")

        assert seen == [1, 8, 11]


class TestQuota:
    async def test_is_shown_to_every_member_and_to_no_operator(self, people: People) -> None:
        owner, operator = await people.owner(), await people.operator()
        viewer = await people.member(owner.tenant_id, Role.VIEWER)

        assert (await viewer.get("/quota")).status_code == 200
        assert code(await operator.get("/quota")) == (404, "tenant_not_found")


class TestPlanChange:
    async def test_is_in_the_platforms_audit_with_what_was_before(
        self, people: People, superuser
    ) -> None:
        operator = await people.operator()
        await operator.post("/plans", {"name": "tiny", "quotas": PLAN})
        for _ in range(2):
            answer = await operator.patch(
                "/plans/tiny", {"quotas": {"members": 3}, "retention_days": 30}
            )
            assert answer.json()["retention_days"] == 30

        rows = await superuser.fetch(
            "SELECT action, actor_id, before->'quotas'->>'members', after->'quotas'->>'members',"
            " before->>'retention_days', after->>'retention_days', tenant_id::text"
            " FROM audit WHERE target_kind = 'plan' ORDER BY seq"
        )
        nil = "00000000-0000-0000-0000-000000000000"
        assert [tuple(row) for row in rows] == [
            ("plan.create", operator.identity_id, None, "2", None, None, nil),
            ("plan.change", operator.identity_id, "2", "3", None, "30", nil),
        ]

    async def test_leaves_alone_what_is_not_given_and_takes_null_as_a_value(
        self, people: People
    ) -> None:
        operator = await people.operator()
        await operator.post("/plans", {"name": "tiny", "quotas": PLAN, "retention_days": 7})

        kept = (await operator.patch("/plans/tiny", {"quotas": {"members": 3}})).json()
        freed = (await operator.patch("/plans/tiny", {"retention_days": None})).json()

        assert (kept["retention_days"], freed["retention_days"]) == (7, None)
        assert freed["quotas"]["members"] == 3

    async def test_tells_its_tenants_what_is_near_or_over_by_it(
        self, people: People, superuser, monkeypatch
    ) -> None:
        monkeypatch.setattr(plans, "_PAGE", 1)
        one, two, other = [await people.owner() for _ in range(3)]
        operator = await people.operator()
        await operator.post("/plans", {"name": "tiny", "quotas": PLAN})
        for owner, overrides in ((one, {}), (two, {"members": 50})):
            body = {"plan": "tiny", "quota_overrides": overrides}
            await operator.patch(f"/tenants/{owner.tenant_id}", body)
        await superuser.execute("DELETE FROM stream")

        await operator.patch("/plans/tiny", {"quotas": {"members": 1, "instances": 0}})

        rows = await superuser.fetch(
            "SELECT tenant_id, data->>'quota', data->>'state' FROM stream ORDER BY 1, 2"
        )
        assert {tuple(row) for row in rows} == {
            # Nothing of nothing is at its end, but not more than it may be.
            (one.tenant_id, "members", "near"),
        } | {(o.tenant_id, "instances", "near") for o in (one, two)}
        assert other.tenant_id not in {row[0] for row in rows}
